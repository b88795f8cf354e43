"""The bounds of a turn: iterations, money, and two clocks."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from runtime_stub.agent import Spending
from runtime_stub.turn import (
    MOST_TOKENS,
    BudgetReached,
    LimitReached,
    Reason,
    Usage,
    check_usage,
)


class TurnLimits(Protocol):
    """Limits and manners of a turn; see LoopSettings."""

    @property
    def confirmation_mode(self) -> bool:
        """Whether a person must agree to actions on the workspace."""

    @property
    def action_timeout_seconds(self) -> float:
        """Seconds an action may take that says nothing of its own."""

    @property
    def turn_seconds(self) -> float:
        """Seconds a turn may take."""

    @property
    def quiet_seconds(self) -> float:
        """Seconds a turn may be silent."""

    @property
    def approval_patience(self) -> float:
        """Seconds a turn that waits for nothing but decisions is kept."""


class TurnUsage(NamedTuple):
    """The use of all calls of models of one turn: tokens, and USD or None where no price is known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


class Ledger:
    """Counts iterations and USD over the turns of a loop, beginning with what was `spent` before.

    `max_iterations` bounds this loop's actions and reported model calls, `max_budget` (USD, None
    for none) what the conversation has cost.
    """

    def __init__(self, max_iterations: int, max_budget: float | None, spent: Spending) -> None:
        self._iterations = 0
        self._step_of_iterations = max_iterations
        self._max_iterations = max_iterations
        self._step_of_budget = max_budget
        self._max_budget = max_budget
        self._cost = spent.cost
        self._prompt_tokens = spent.prompt_tokens
        self._completion_tokens = spent.completion_tokens
        self._reported: dict[str, Any] | None = None
        self._of_turn: TurnUsage | None = None

    def begin_turn(self) -> None:
        """Count from here on what another turn uses."""
        self._of_turn = None

    def turn_usage(self) -> dict[str, Any] | None:
        """Return the `usage` of the turn; None if nothing was reported."""
        return None if self._of_turn is None else self._of_turn._asdict()

    def check(self) -> None:
        """Raise LimitReached or BudgetReached where nothing more may be done."""
        if self._iterations >= self._max_iterations:
            raise LimitReached(
                f"The agent reached its limit of {self._max_iterations} steps."
                " Send a message to let it go on."
            )
        if self._max_budget is not None and self._cost >= self._max_budget:
            raise BudgetReached(
                f"The agent reached its budget: {self._cost:.2f} of {self._max_budget:.2f} USD"
                " are spent. Send a message to let it go on."
            )

    def count(self) -> None:
        """Count one iteration."""
        self._iterations += 1

    def raise_limits(self) -> None:
        """Grant as much again of whatever limit is reached."""
        if self._iterations >= self._max_iterations:
            self._max_iterations += self._step_of_iterations
        budget = self._step_of_budget
        while budget and self._max_budget is not None and self._cost >= self._max_budget:
            self._max_budget += budget

    def note(self, metrics: Mapping[str, Any]) -> None:
        """Take over what an agent accumulates by itself: its cost, and its tokens where they are given."""
        cost = metrics.get("accumulated_cost")
        tokens = metrics.get("accumulated_token_usage")
        tokens = tokens if isinstance(tokens, Mapping) else {}
        cost = cost if isinstance(cost, int | float) else self._cost
        prompt = _count_of(tokens.get("prompt_tokens"), self._prompt_tokens)
        completion = _count_of(tokens.get("completion_tokens"), self._completion_tokens)
        self._use(
            int(_grown(self._prompt_tokens, prompt)),
            int(_grown(self._completion_tokens, completion)),
            _grown(self._cost, cost),
        )
        self._cost, self._prompt_tokens, self._completion_tokens = cost, prompt, completion

    def report(self, usage: Usage) -> None:
        """Add a model's call, to be told by `take_metrics`. Raises ValueError for what no log can hold."""
        check_usage(usage)
        self.count()
        self._use(usage.prompt_tokens, usage.completion_tokens, usage.cost)
        self._cost += usage.cost or 0.0
        self._prompt_tokens += usage.prompt_tokens
        self._completion_tokens += usage.completion_tokens
        unsure = {} if usage.cost is not None else {"priced": False}
        unsure |= {"estimated": True} if usage.estimated else {}
        self._reported = {
            "accumulated_cost": self._cost,
            "max_budget_per_task": self._max_budget,
            "accumulated_token_usage": {
                "model": usage.model,
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._completion_tokens,
                "cache_read_tokens": usage.cached_tokens,
                "cache_write_tokens": 0,
                "context_window": usage.context_window,
                "per_turn_token": usage.prompt_tokens + usage.completion_tokens,
                "response_id": "",
            },
            "costs": [],
            "response_latencies": [],
            "token_usages": [],
            **unsure,
        }

    def take_metrics(self) -> dict[str, Any] | None:
        """Return the `llm_metrics` that no event carries yet."""
        metrics, self._reported = self._reported, None
        return metrics

    def _use(self, prompt_tokens: int, completion_tokens: int, cost: float | None) -> None:
        used = self._of_turn or TurnUsage()
        self._of_turn = TurnUsage(
            used.prompt_tokens + prompt_tokens,
            used.completion_tokens + completion_tokens,
            used.cost if cost is None else (used.cost or 0.0) + cost,
        )


class Clocks:
    """Calls `expired` once, with the reason, when a turn is late or silent for too long.

    Both clocks stand still while an action is carried out or a person is waited for.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        turn_seconds: float,
        quiet_seconds: float,
        expired: Callable[[Reason], None],
    ) -> None:
        self._loop = loop
        self._quiet_seconds = quiet_seconds
        self._expired = expired
        self._deadline = loop.time() + turn_seconds
        self._heard = loop.time()
        self._held = 0
        self._held_since = 0.0
        self._timer: TimerHandle | None = None
        self._arm()

    @property
    def deadline(self) -> float:
        """The time at which the turn times out, on the loop's clock."""
        return self._deadline + (self._loop.time() - self._held_since if self._held else 0.0)

    @property
    def silent_for(self) -> float:
        """Seconds since something was heard of the turn."""
        return self._loop.time() - self._heard

    def touch(self) -> None:
        """Note that something was heard of the turn. Cheap: the timer is set anew when it fires."""
        self._heard = self._loop.time()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop both clocks for as long as the block lasts; blocks may overlap."""
        if not self._held:
            self._held_since = self._loop.time()
            self._disarm()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._deadline += self._loop.time() - self._held_since
                self.touch()
                self._arm()

    def stop(self) -> None:
        """End both clocks; nobody is called any more."""
        self._held += 1
        self._expired = _ignore
        self._disarm()

    def _arm(self) -> None:
        due = min(self._deadline, self._heard + self._quiet_seconds)
        self._timer = self._loop.call_at(due, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now >= self._deadline:
            self._expired(Reason.TIMED_OUT)
        elif now >= self._heard + self._quiet_seconds:
            self._expired(Reason.SILENT)
        else:
            self._arm()


def _count_of(given: object, known: int) -> int:
    fits = isinstance(given, int) and 0 <= given <= MOST_TOKENS
    return given if isinstance(given, int) and fits else known


def _grown(before: float, now: float) -> float:
    """Return what a total has grown by; a smaller one than before was begun anew."""
    return now - before if now >= before else now


def _ignore(reason: Reason) -> None:
    """Do nothing."""
