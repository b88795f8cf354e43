"""What one loop's turns have used up, and the limits of it."""

from collections.abc import Mapping
from typing import Any

from runtime_stub.agent import Spending
from runtime_stub.turn import BudgetReached, LimitReached, Usage


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
        """Take over the cost from metrics that an agent accumulates by itself."""
        cost = metrics.get("accumulated_cost")
        self._cost = cost if isinstance(cost, int | float) else self._cost

    def report(self, usage: Usage) -> None:
        """Add a model's call, to be told by `take_metrics`."""
        self.count()
        self._cost += usage.cost or 0.0
        self._prompt_tokens += usage.prompt_tokens
        self._completion_tokens += usage.completion_tokens
        self._reported = {
            "accumulated_cost": self._cost,
            "max_budget_per_task": self._max_budget,
            "accumulated_token_usage": {
                "model": usage.model,
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._completion_tokens,
                "cache_read_tokens": usage.cached_tokens,
                "cache_write_tokens": 0,
                "context_window": 0,
                "per_turn_token": usage.prompt_tokens + usage.completion_tokens,
                "response_id": "",
            },
            "costs": [],
            "response_latencies": [],
            "token_usages": [],
        }

    def take_metrics(self) -> dict[str, Any] | None:
        """Return the `llm_metrics` that no event carries yet."""
        metrics, self._reported = self._reported, None
        return metrics
