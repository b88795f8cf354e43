"""The event envelope, its closed words, and the record in which a log holds it."""

from enum import IntEnum, StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class EventSource(StrEnum):
    """The author of an event."""

    AGENT = "agent"
    USER = "user"
    ENVIRONMENT = "environment"


class AgentState(StrEnum):
    """The states of an agent loop."""

    LOADING = "loading"
    RUNNING = "running"
    AWAITING_USER_INPUT = "awaiting_user_input"
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"
    REJECTED = "rejected"
    ERROR = "error"
    AWAITING_USER_CONFIRMATION = "awaiting_user_confirmation"
    USER_CONFIRMED = "user_confirmed"
    USER_REJECTED = "user_rejected"
    RATE_LIMITED = "rate_limited"


class ConfirmationState(StrEnum):
    """Whether a person has agreed to an action."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    AWAITING_CONFIRMATION = "awaiting_confirmation"


class SecurityRisk(IntEnum):
    """The judged risk of an action."""

    UNKNOWN = -1
    LOW = 0
    MEDIUM = 1
    HIGH = 2


class RecallType(StrEnum):
    """The kind of knowledge recalled from memory."""

    WORKSPACE_CONTEXT = "workspace_context"
    KNOWLEDGE = "knowledge"


class Interruption(StrEnum):
    """The reason why a text ends before its author was done with it."""

    STOPPED = "stopped"
    MESSAGE = "message"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"


class FileReadSource(StrEnum):
    """Which implementation reads a file."""

    DEFAULT = "default"
    OH_ACI = "oh_aci"


class FileEditSource(StrEnum):
    """Which implementation edits a file."""

    OH_ACI = "oh_aci"
    LLM_BASED_EDIT = "llm_based_edit"


class Event(BaseModel):
    """An immutable fact.

    `id`, `timestamp` and `source` are None until the event is stored. `timestamp` is ISO 8601 in
    UTC with microseconds and `Z`. `kind` is the wire name (`message`, `run`, ...).
    Of what an agent appends, `turn` is the turn in which it did (the id of the `recall` that began
    it), `partial` the partial that the event completes, and `interrupted` why its text is not whole.
    `unknown_fields` (top level) and `unknown_arguments` (of `args` or `extras`) hold what a stored
    event carries beyond its kind's declaration, so that another version's event stays whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    wording: ClassVar[str] = ""
    """The format string of `message` over the event's own fields."""
    omitted: ClassVar[frozenset[str]] = frozenset()
    """Fields of the kind that are left out of the stored form while they are None."""

    id: int | None = None
    timestamp: str | None = None
    source: EventSource | None = None
    cause: int | None = None
    tool_call_metadata: dict[str, Any] | None = None
    llm_metrics: dict[str, Any] | None = None
    client_id: str | None = None
    turn: int | None = None
    partial: str | None = None
    interrupted: Interruption | None = None
    unknown_fields: dict[str, Any] | None = None
    unknown_arguments: dict[str, Any] | None = None

    @property
    def message(self) -> str:
        """The derived text for people; never read back."""
        return self.wording.format_map(self.__dict__)


class EventFlag(IntEnum):
    """The class of a stored event, known without parsing it."""

    PLAIN = 0
    """From agent or user, of a kind that every client may see as it is stored."""
    STATE = 1
    """An `agent_state_changed` observation."""
    SPECIAL = 2
    """Anything else: a reader that projects events must look inside."""


PLAIN, STATE = EventFlag.PLAIN, EventFlag.STATE
"""For use with every event: a lookup in the enum class takes longer."""


class StoredEvent:
    """A record of the log: its id, its flag and its JSON exactly as stored."""

    __slots__ = ("body", "flag", "id")

    def __init__(self, id: int, flag: int, body: bytes) -> None:  # noqa: A002 - the field's name
        self.id = id
        self.flag = flag
        self.body = body

    def __repr__(self) -> str:
        return f"StoredEvent(id={self.id}, flag={self.flag}, {len(self.body)} bytes)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredEvent):
            return NotImplemented
        return (self.id, self.flag, self.body) == (other.id, other.flag, other.body)

    def __hash__(self) -> int:
        return hash((self.id, self.flag, self.body))
