"""Requests and responses of the administration."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from server.conversations.manager import ConversationStatus
from server.routes.conversations import PageId
from server.routes.process import Resources
from server.routes.request import Day, JsonResponse, Moment, Query, RequestBody
from storage.audit.base import AuditRecord
from storage.conversations.metadata import ConversationMetadata, ConversationTrigger
from storage.counters import Counters
from storage.usage.model import UsageTotal


def answer(model: BaseModel) -> JsonResponse:
    """Return a model as a JSON response."""
    return JsonResponse(model.model_dump())


LAST_AUDIT_ID = 2**63 - 1


class EmptyBody(RequestBody):
    """The empty body of an act: `{}`."""


class Backup(BaseModel):
    """A backup that was made: its file on the server's machine, and what is in it.

    `damage` names what is damaged in the storage, for which markers stand.
    """

    file: str
    bytes: int
    created_at: AwareDatetime
    conversations: int
    events: int
    damage: list[str]


class ConversationsQuery(Query):
    """The filter of the list; `owner` is one user's, `unowned` those without an owner."""

    page_id: PageId | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    owner: str | None = None
    unowned: bool = False
    title: str | None = None
    selected_repository: str | None = None
    conversation_trigger: ConversationTrigger | None = None
    updated_since: Moment | None = None


class ConversationLine(BaseModel):
    """A conversation of any user, with its current state."""

    record: ConversationMetadata
    status: ConversationStatus
    queued: bool
    working: bool
    connections: int


class Conversations(BaseModel):
    """A page of them, the newest first."""

    results: list[ConversationLine]
    next_page_id: str | None


class LoopLine(BaseModel):
    """An agent loop that runs, starts or waits for a slot (`queued`)."""

    conversation_id: str
    user_id: str | None
    status: ConversationStatus
    runtime_status: str | None
    queued: bool
    working: bool
    events: int
    connections: int


class Loops(BaseModel):
    """Every loop of this server."""

    results: list[LoopLine]


class ConnectionLine(BaseModel):
    """A live connection. `position` and `head` are log ids, `lag` is how far they are apart."""

    connection_id: str
    client: str | None
    user_id: str | None
    conversation_id: str
    position: int
    head: int
    lag: int
    queued_bytes: int


class ConnectionsQuery(Query):
    """The connections of one conversation, or all."""

    conversation_id: str | None = None


class Connections(BaseModel):
    """All connections of this server, those furthest behind first."""

    results: list[ConnectionLine]


class LoopClosed(BaseModel):
    """Whether there was a loop to close."""

    conversation_id: str
    closed: bool


class Disconnected(BaseModel):
    """Whether the transport was closed; its client may reconnect."""

    connection_id: str
    disconnected: bool


class DrainRequest(RequestBody):
    """The time loops may take to come to rest."""

    deadline_seconds: Annotated[float, Field(ge=0, le=86_400, strict=False)] = 30


class DrainState(BaseModel):
    """`drained`: nothing is taken in and no loop is left."""

    draining: bool
    drained: bool
    failed: bool
    deadline: AwareDatetime | None
    loops: int


class StorageQuery(Query):
    """Whether to look for damage first, which reads the whole medium."""

    check: bool = False


class AgeLimitsInForce(BaseModel):
    """Days without use after which conversations are deleted; null is never."""

    days: int | None
    by_user: dict[str, int | None]


class RetentionLine(BaseModel):
    """Conversations of one user past the limit; `waiting` of them are in use and stay for now.

    `oldest` and `newest` are times of the last use.
    """

    user_id: str | None
    days: int
    conversations: int
    waiting: int
    events: int
    oldest: AwareDatetime | None
    newest: AwareDatetime | None


class RetentionReport(BaseModel):
    """The conversations past their age limit, by user. Not `complete`: more is due than was looked at.

    Until `held_until` nothing is deleted, since the system's clock went ahead.
    """

    limits: AgeLimitsInForce
    held_until: AwareDatetime | None
    complete: bool
    results: list[RetentionLine]


class Sweep(BaseModel):
    """The outcome of a sweep, in conversations; `more` are due beyond what one sweep deletes."""

    deleted: int
    waiting: int
    failed: int
    more: bool
    held_until: AwareDatetime | None


class UsageQuery(Query):
    """UTC days, both included."""

    since: Day | None = None
    until: Day | None = None
    format: Literal["json", "csv"] = "json"


class Usage(BaseModel):
    """Usage, the newest day first. Not `complete`: counting has not reached the end of every log."""

    complete: bool
    failed: int
    truncated: bool
    results: list[UsageTotal]


class Recounted(BaseModel):
    """The number of conversations that the next query counts from their beginning."""

    conversations: int


class SettingLine(BaseModel):
    """A setting in force, secrets as asterisks, and where it was found."""

    name: str
    value: Any
    source: str


class SettingsInForce(BaseModel):
    """Every setting."""

    results: list[SettingLine]


class AuditQuery(Query):
    """`before` is an earlier answer's `next_before`."""

    before: Annotated[int, Field(ge=1, le=LAST_AUDIT_ID)] = LAST_AUDIT_ID
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    only_acts: bool = False


class Audit(BaseModel):
    """A page of calls, the newest first; `next_before` is None on the last page."""

    results: list[AuditRecord]
    next_before: int | None


class LoopCounts(BaseModel):
    """Loops by state; a `working` loop is `running` as well."""

    running: int
    starting: int
    waiting: int
    working: int


class ConnectionCounts(BaseModel):
    """Connections, how many of them are behind, the largest lag, and queued bytes."""

    total: int
    behind: int
    largest_lag: int
    queued_bytes: int


class Overview(BaseModel):
    """The present state. `counters` and `faults` only grow: rates are differences of two responses."""

    at: AwareDatetime
    uptime_seconds: float
    not_ready: list[str]
    loops: LoopCounts
    connections: ConnectionCounts
    counters: Counters
    faults: dict[str, int]
    resources: Resources
