"""ScriptedAgent, the default agent: executes the commands in a message, without a model."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from events.actions import Action, MessageAction
from events.event import Event, EventSource
from runtime_stub.agent import Agent, Example, Spending
from runtime_stub.instructions import (
    INSTRUCTIONS,
    USAGE,
    BadArguments,
    Instruction,
    next_instruction,
    whole_numbers,
    words_of,
)
from runtime_stub.turn import TurnFailed

MAX_SLOW_MESSAGES = 100_000
MAX_SLOW_MS = 600_000
PROMPT_TOKENS = 100
COMPLETION_TOKENS = 20
_USD = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,9})?")


class ScriptedFailure(TurnFailed):
    """The error raised by `/error TEXT`; its text is TEXT."""

    quotes: ClassVar[bool] = True
    """Its text is a user's, and must not be logged."""


@dataclass(slots=True)
class _Series:
    """The messages of one `/slow`; `due` is when the next may be sent, on the loop's clock."""

    total: int
    interval_seconds: float
    sent: int = 0
    due: float = 0.0


class ScriptedAgent(Agent):
    """Answers plain text with a message and carries out commands (`/help` lists them), in order.

    `/ask` holds what follows it back until the next message of the user, `/finish` and `/error`
    until the loop runs again. The agent remembers nothing beyond its own life.
    """

    examples: ClassVar[Sequence[Example]] = (
        Example("/run echo hello > note.txt\n/run ls", "Run two commands in a fresh workspace"),
        Example("/write plan.md First, listen.\n/read plan.md", "Write a file and read it back"),
        Example("/slow 6 700", "Watch six answers arrive one by one"),
        Example("/ask What should I look at first?", "Let the agent ask you something"),
    )

    def __init__(self) -> None:
        self._messages: deque[str] = deque()
        self._text = ""
        self._offset = 1
        self._received = 0
        self._begun = 0
        self._awaited = 0
        self._series: _Series | None = None
        self._is_quiet = False
        self._cost = Decimal(0)
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._has_news = False

    def resume(self, spent: Spending) -> None:
        """Continue counting from the conversation's spending so far."""
        self._cost = Decimal(str(spent.cost))
        self._prompt_tokens = spent.prompt_tokens
        self._completion_tokens = spent.completion_tokens

    def observe(self, event: Event) -> None:
        """Take in a user's message; nothing else changes what this agent does."""
        if isinstance(event, MessageAction) and event.source == EventSource.USER:
            self._messages.append(event.content)
            self._received += 1

    async def step(self) -> Action | None:
        """Return the next action; only `/slow` waits, and a cancelled wait loses nothing."""
        while self._received >= self._awaited:
            if self._series is not None:
                return await self._wait_for(self._series)
            instruction = self._take()
            if instruction is None:
                break
            if self._is_quiet and instruction.name != "loud":
                # A long message may hold many of these, and the loop belongs to everyone.
                await asyncio.sleep(0)
                continue
            action = self._carry_out(instruction)
            if action is not None:
                return action
        return None

    def system_prompt(self) -> str:
        """Say what this agent is."""
        return "A scripted agent without a model. Write /help to see what it does."

    def metrics(self) -> dict[str, Any] | None:
        """Return the accumulated metrics after each `/cost`, without their lists of details."""
        if not self._has_news:
            return None
        self._has_news = False
        usage = {
            "model": "scripted",
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "context_window": 0,
            "per_turn_token": PROMPT_TOKENS + COMPLETION_TOKENS,
            "response_id": "",
        }
        return {
            "accumulated_cost": float(self._cost),
            "max_budget_per_task": None,
            "accumulated_token_usage": usage,
            "costs": [],
            "response_latencies": [],
            "token_usages": [],
        }

    def _take(self) -> Instruction | None:
        while True:
            found = next_instruction(self._text, self._offset)
            if found is not None:
                instruction, self._offset = found
                return instruction
            if not self._messages:
                return None
            self._text, self._offset = self._messages.popleft(), 0
            self._begun += 1

    def _carry_out(self, instruction: Instruction) -> Action | None:
        handlers: dict[str, Callable[[str], Action | None]] = {
            "ask": self._ask,
            "error": self._error,
            "slow": self._slow,
            "cost": self._add_cost,
            "quiet": self._be_quiet,
            "loud": self._be_loud,
        }
        handler = handlers.get(instruction.name) or INSTRUCTIONS[instruction.name]
        try:
            return handler(instruction.argument)
        except BadArguments as error:
            return MessageAction(content=f"Usage: {USAGE[instruction.name]}. {error}".strip())

    def _ask(self, argument: str) -> Action:
        (question,) = words_of(argument, 1)
        self._awaited = max(self._awaited, self._begun) + 1
        return MessageAction(content=question, wait_for_response=True)

    def _error(self, argument: str) -> None:
        raise ScriptedFailure(words_of(argument, 1)[0])

    def _slow(self, argument: str) -> Action | None:
        total, interval_ms = whole_numbers(argument, MAX_SLOW_MESSAGES, MAX_SLOW_MS)
        if not total:
            raise BadArguments("N is at least 1.")
        self._series = _Series(total, interval_ms / 1000)
        return self._next_of(self._series)

    async def _wait_for(self, series: _Series) -> Action:
        await asyncio.sleep(max(0.0, series.due - asyncio.get_running_loop().time()))
        return self._next_of(series)

    def _next_of(self, series: _Series) -> Action:
        series.sent += 1
        series.due = asyncio.get_running_loop().time() + series.interval_seconds
        if series.sent == series.total:
            self._series = None
        return MessageAction(content=f"Message {series.sent} of {series.total}")

    def _add_cost(self, argument: str) -> Action:
        if not _USD.fullmatch(argument):
            raise BadArguments("USD is an amount such as 0.25.")
        self._cost += Decimal(argument)
        self._prompt_tokens += PROMPT_TOKENS
        self._completion_tokens += COMPLETION_TOKENS
        self._has_news = True
        return MessageAction(content=f"The cost is now {self._cost:f} USD.")

    def _be_quiet(self, _argument: str) -> None:
        self._is_quiet = True

    def _be_loud(self, _argument: str) -> Action:
        self._is_quiet = False
        return MessageAction(content="Answering again.")
