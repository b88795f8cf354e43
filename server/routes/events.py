"""A conversation's events: read by range and filter, append."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from events.client_events import CLIENT_ID
from events.errors import (
    AppendFailed,
    AppendUnknown,
    BadEvent,
    DamagedRecord,
    StreamClosed,
    StreamOverloaded,
)
from events.event import EventSource, StoredEvent
from events.filter import EventFilter, is_hidden
from events.serialization import trajectory_form
from server.errors import BadRequest, NotAvailable
from server.routes.answers import AnswerQuery, answer_to
from server.routes.endpoint import Tag, described
from server.routes.readable import Readable, readable_log, writable_id
from server.routes.request import (
    ClientEventJson,
    EventJson,
    JsonResponse,
    Query,
    RequestBody,
    ResponseBody,
    idempotency_key,
    owner_of,
    read_body,
    read_json,
    read_query,
)
from server.routes.services import Services

CHUNK_BYTES = 64 * 1024
STALE = (
    "There only while the storage does not answer: the events are those that this server had sent"
    " to clients and holds in memory, and there may be newer ones."
)


class Trajectory(ResponseBody):
    """The events of a conversation; the answer is written in this form, event by event."""

    trajectory: list[EventJson]
    stale: bool = Field(default=False, description=STALE)


class TrajectoryRoutes:
    """`/trajectory` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.EVENTS, answer=Trajectory, raises=(DamagedRecord,))
    async def export(self, request: Request) -> Response:
        """Return all events except hidden ones, without large extras.

        The response is streamed. An error aborts the connection, so that a part is not mistaken for
        the whole.
        """
        log = await readable_log(request, self._services)
        chunks = self._chunks(log)
        # Read before the status is sent, so that a log that cannot be read is answered as such.
        first = await anext(chunks)
        return StreamingResponse(_chain(first, chunks), media_type=JsonResponse.media_type)

    async def _chunks(self, log: Readable) -> AsyncIterator[bytes]:
        conversation_id, next_id, _ = log
        chunk = bytearray(b'{"trajectory":[')
        separator = b""
        position = 0
        while position < next_id:
            page = deque(await self._services.page_reader.read(conversation_id, position, next_id))
            position = page[-1].id + 1
            while page:
                # What a client that reads slowly holds is one event, not the page nor what it is made of.
                form = _exported(page.popleft())
                if form is None:
                    continue
                chunk += separator + form
                separator = b","
                del form
                if len(chunk) >= CHUNK_BYTES:
                    for piece in _pieces(chunk):
                        yield piece
                    await asyncio.sleep(0)
            # A page out of the cache is read without waiting, and others want their turn.
            await asyncio.sleep(0)
        yield bytes(chunk + b"]" + _end(log))


def _end(log: Readable) -> bytes:
    return b',"stale":true}' if log.is_stale else b"}"


def _exported(event: StoredEvent) -> bytes | None:
    payload = orjson.loads(event.body)
    return None if is_hidden(payload) else orjson.dumps(trajectory_form(payload))


def _pieces(chunk: bytearray) -> Iterator[bytes]:
    """Take a chunk apart: whatever is sent is held several times until the client has read it."""
    whole = bytes(chunk)
    chunk.clear()
    for begin in range(0, len(whole), CHUNK_BYTES):
        yield whole[begin : begin + CHUNK_BYTES]


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


MAX_LIMIT = 100
ANSWER_BYTES = 8 * 1024 * 1024
"""Bytes at which a response ends early, with `has_more`."""
SLICE = 500
"""Events examined per iteration of the event loop."""
EVERYTHING = EventFilter()


def _in_log_form(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the moment is out of range in UTC") from error
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


Moment = Annotated[
    str, AfterValidator(_in_log_form), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""An ISO 8601 time (UTC unless it has an offset), in the form of the log's timestamps."""


class EventQuery(Query):
    """Which events; ids and dates are inclusive, and kinds are wire names with commas between."""

    start_id: int = Field(default=0, ge=0)
    end_id: int | None = Field(default=None, ge=0)
    reverse: bool = False
    limit: int = Field(default=20, ge=1, le=MAX_LIMIT)
    include_kinds: str = ""
    exclude_kinds: str = ""
    source: EventSource | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None
    exclude_hidden: bool = False
    query: str | None = None
    as_sent: bool = Field(
        default=False,
        description="Return only events that are sent over sockets, in the form in which they are sent.",
    )

    def filter(self) -> EventFilter | None:
        """Return the conditions; None when every event passes."""
        found = EventFilter(
            include_kinds=_kinds(self.include_kinds),
            exclude_kinds=_kinds(self.exclude_kinds),
            source=self.source,
            start_date=self.start_date,
            end_date=self.end_date,
            exclude_hidden=self.exclude_hidden,
            query=self.query,
        )
        return None if found == EVERYTHING else found


KEY = Field(json_schema_extra={"pattern": f"^{CLIENT_ID.pattern}$"})
"""Described only: the door that events share checks it."""


class NewMessage(RequestBody):
    """A user message."""

    message: str = Field(min_length=1)
    client_id: Annotated[str, KEY] | None = None


class EventPage(ResponseBody):
    """Events as they are stored; the answer is written in this form out of stored bytes."""

    events: list[EventJson]
    has_more: bool
    stale: bool = Field(default=False, description=STALE)


class EventAccepted(ResponseBody):
    """An event is durable: its id, whether its key was known, whether a loop must wait."""

    success: Literal[True] = True
    id: int
    duplicate: bool
    queued: bool = False


class MessageAccepted(EventAccepted):
    """A message is durable, and, where that was waited for, the turn that took it up has ended.

    Without an `outcome` the turn had not ended in time; without a `turn` none had taken it up.
    """

    turn: int | None = None
    outcome: str | None = None
    reason: str | None = None
    messages: list[str] = Field(default=[], description="What the agent said in the turn.")


APPENDING = (
    BadEvent,
    NotAvailable,
    StreamOverloaded,
    StreamClosed,
    AppendUnknown,
    AppendFailed,
)
"""Errors of a request that appends an event."""


def keyed(request: Request, payload: object) -> object:
    """Return a client's event with the Idempotency-Key of its request, unless it has a key of its own."""
    key = idempotency_key(request)
    if key is None or not isinstance(payload, Mapping):
        return payload
    return {"client_id": key, **payload}


class EventRoutes:
    """`/events` and `/message` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.EVENTS, query=EventQuery, answer=EventPage, raises=(DamagedRecord,))
    async def search(self, request: Request) -> Response:
        """Return events as they are stored, or as they are sent; fewer than `limit` if they are large."""
        log = await readable_log(request, self._services)
        query = read_query(request, EventQuery)
        bodies, has_more = await self._find(log.conversation_id, log.next_id, query)
        tail = b"true" if has_more else b"false"
        return Response(
            b'{"events":[' + b",".join(bodies) + b'],"has_more":' + tail + _end(log),
            media_type=JsonResponse.media_type,
        )

    @described(
        Tag.EVENTS, body=ClientEventJson, answer=EventAccepted, takes_key=True, raises=APPENDING
    )
    async def append(self, request: Request) -> Response:
        """Append a client's event; the response follows when it is durable. Raises BadEvent."""
        conversation_id = await writable_id(request, self._services)
        try:
            payload = orjson.loads(await read_json(request))
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not JSON: {error}") from error
        return await self._accept(request, conversation_id, payload)

    @described(
        Tag.EVENTS,
        query=AnswerQuery,
        body=NewMessage,
        answer=MessageAccepted,
        takes_key=True,
        raises=APPENDING,
    )
    async def say(self, request: Request) -> Response:
        """Append a user message; the response follows when it is durable, or answered.

        With `wait=turn` it follows when the turn that takes the message up has ended, with what the
        agent said in it. Raises BadEvent.
        """
        conversation_id = await writable_id(request, self._services)
        query = read_query(request, AnswerQuery)
        said = await read_body(request, NewMessage)
        payload: dict[str, Any] = {"action": "message", "args": {"content": said.message}}
        if said.client_id is not None:
            payload["client_id"] = said.client_id
        seconds = query.seconds if query.wait == "turn" else None
        return await self._accept(request, conversation_id, payload, seconds)

    async def _accept(
        self,
        request: Request,
        conversation_id: str,
        payload: object,
        answer_seconds: float | None = None,
    ) -> Response:
        payload = keyed(request, payload)
        self._services.check_intake()
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            accepted = await manager.accept(conversation, payload)
            body = {"success": True, **accepted.body()}
            if answer_seconds is not None:
                body |= asdict(await answer_to(conversation.stream, accepted.id, answer_seconds))
        return JsonResponse(body)

    async def _find(
        self, conversation_id: str, next_id: int, query: EventQuery
    ) -> tuple[Sequence[bytes], bool]:
        condition = query.filter()
        form = self._services.sent_body if query.as_sent else _as_stored
        found: list[bytes] = []
        size = 0
        for first_id, last_id in _slices(query, next_id):
            async for event in self._services.page_reader.search(
                conversation_id,
                next_id,
                start_id=first_id,
                end_id=last_id,
                reverse=query.reverse,
                filter=condition,
            ):
                body = form(event)
                if body is None:
                    continue
                if len(found) == query.limit or (found and size + len(body) > ANSWER_BYTES):
                    return found, True
                found.append(body)
                size += len(body)
            await asyncio.sleep(0)
        return found, False


def _as_stored(event: StoredEvent) -> bytes:
    return event.body


def _slices(query: EventQuery, next_id: int) -> Iterator[tuple[int, int]]:
    """Yield the requested interval in inclusive pieces and in reading order."""
    last_id = next_id - 1 if query.end_id is None else min(query.end_id, next_id - 1)
    starts = range(query.start_id, last_id + 1, SLICE)
    for start in reversed(starts) if query.reverse else starts:
        yield start, min(start + SLICE - 1, last_id)


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(kind.strip() for kind in text.split(",") if kind.strip())
