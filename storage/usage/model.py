"""Usage of one conversation, and totals of all."""

from datetime import date
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from storage.conversations.metadata import Text
from storage.errors import Damaged

_OWNER: TypeAdapter[str | None] = TypeAdapter(Text | None)


class UsageLine(BaseModel):
    """Usage of one model on one UTC day; the model "" stands for events without one.

    Cost is in US dollars. Tokens and cost are differences of cumulative metrics, so that a downward
    correction is negative.
    """

    model_config = ConfigDict(frozen=True)

    day: date
    model: str = ""
    events: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class ConversationUsage(BaseModel):
    """A conversation's usage in its events below `position`.

    `cost`, `prompt_tokens` and `completion_tokens` are the sums in its newest metrics; `mark` is
    the back-end's mark of the log at that position, "" for none.
    """

    model_config = ConfigDict(frozen=True)

    conversation_id: str
    user_id: str | None = None
    position: int = 0
    cost: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mark: str = ""
    lines: tuple[UsageLine, ...] = ()

    def of_owner(self, user_id: object) -> Self:
        """Return a copy for that owner. Raise Damaged where it is no text."""
        try:
            owner = _OWNER.validate_python(user_id, strict=True)
        except ValidationError as error:
            raise Damaged(f"the owner of {self.conversation_id} cannot be read") from error
        return self.model_copy(update={"user_id": owner})


class UsageTotal(UsageLine):
    """A line for all conversations of one owner."""

    user_id: str | None = None


class UncountedLog(NamedTuple):
    """A conversation whose log may have grown since it was counted, and its log's mark now."""

    conversation_id: str
    user_id: str | None
    mark: str = ""


class Span(NamedTuple):
    """UTC days, both included; None leaves a side open."""

    first: date | None = None
    last: date | None = None

    def holds(self, day: date) -> bool:
        """Return whether the span contains a day."""
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


EVER = Span()
