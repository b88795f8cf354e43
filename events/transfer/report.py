"""The outcome of a transfer for each conversation, and of all together."""

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import orjson


class Result(StrEnum):
    """The outcome for one conversation."""

    COPIED = "copied"
    UNCHANGED = "unchanged"
    """It was there already, the same."""
    DIFFERS = "differs"
    """The target has another one of that id, which was left as it is."""
    FAILED = "failed"
    LEFT_OUT = "left out"
    """It has nothing that could be read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One conversation: its result, the events it has now, and what is to be said of it."""

    conversation_id: str
    result: Result
    events: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all that could be read of it is there now."""
        return self.result in (Result.COPIED, Result.UNCHANGED)

    def line(self) -> bytes:
        """Return it as a line of JSON."""
        fields = {"conversation_id": self.conversation_id, "result": str(self.result)}
        return orjson.dumps({**fields, "events": self.events, "notes": self.notes}) + b"\n"


@dataclass(slots=True)
class Report:
    """All outcomes together; those of single conversations go by."""

    results: Counter[Result] = field(default_factory=Counter)
    events: int = 0
    problems: list[str] = field(default_factory=list)
    """Problems of no single conversation: contents that were not transferred."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the rest."""

    @property
    def is_complete(self) -> bool:
        """Whether everything was transferred."""
        incomplete = self.results.total() - self.results[Result.COPIED]
        return not self.problems and incomplete == self.results[Result.UNCHANGED]

    def lines(self) -> Iterable[str]:
        """Yield the report of all for people."""
        counts = ", ".join(f"{self.results[one]} {one}" for one in Result if self.results[one])
        yield f"{self.results.total()} conversations: {counts or 'none'}; {self.events} events"
        yield from self.notes
        yield from self.problems

    async def counting(self, outcomes: AsyncIterable[Outcome]) -> AsyncIterator[Outcome]:
        """Yield the outcomes, and count them."""
        async for outcome in outcomes:
            self.results[outcome.result] += 1
            self.events += outcome.events
            yield outcome
