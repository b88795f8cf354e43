"""A conversation's events and the texts that are being written, as Server-Sent Events."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from secrets import randbelow, token_hex
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from events.cursor import START, Cursor
from events.errors import BadCursor, EventsError, StreamClosed
from events.event import StoredEvent
from events.live import Given, LiveReader, Opened, delta_of, partial_of
from events.partials import Piece
from server.conversations.connections import ConnectionRegistry
from server.conversations.conversation import ServerConversation
from server.routes.endpoint import Tag, described
from server.routes.request import Query, conversation_id_of, owner_of, read_query
from server.routes.services import Services

logger = logging.getLogger(__name__)

RETRY_MILLISECONDS = 1000
"""A client that lost its connection comes back after so long."""
RETRY_SPREAD_MILLISECONDS = 2000
"""Those whose connections the server ended come back at random within so long."""
IDLE_SECONDS = 15.0
"""Seconds without a frame after which a comment keeps proxies from closing the connection."""
WAITING_NOTICES = 16
"""Notices that wait for a slow client; the oldest are given up."""
DROP_SECONDS = 1.0
"""Seconds a connection may take to end when it is told to."""
COMMENT = b":\n\n"
TURN_ENDED = b'"turn_ended"'
MEDIA_TYPE = "text/event-stream"


class StreamQuery(Query):
    """The beginning of a stream, its contents, and its end."""

    cursor: str = Field(
        default="",
        description="Begin behind this cursor; the header `Last-Event-ID` goes before it.",
        examples=["41~9570aa64-3:1032"],
    )
    deltas: bool = Field(default=True, description="Send texts while they are written.")
    end: Literal["", "now", "turn"] = Field(
        default="",
        description="`now` ends the stream behind what there is already, `turn` behind the next end"
        " of a turn.",
    )


class StreamRoutes:
    """`/stream` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._frames: WeakKeyDictionary[ServerConversation, SharedFrames] = WeakKeyDictionary()

    @described(Tag.EVENTS, query=StreamQuery, media_type=MEDIA_TYPE, raises=(BadCursor,))
    async def follow(self, request: Request) -> Response:
        """Stream the events behind a cursor, and texts while they are written, until it is closed.

        `id` of each frame is the cursor behind it, `event` says what `data` is: `event` (an event
        as it is stored), `delta` (what is told of a text that is being written), `notice`. A
        reader that comes back with `Last-Event-ID` goes on exactly there, in the middle of a text,
        too. Raises BadCursor.
        """
        conversation_id = conversation_id_of(request)
        query = read_query(request, StreamQuery)
        text = request.headers.get("last-event-id") or query.cursor
        cursor = Cursor.parse(text) if text else START
        attached = partial(self._services.manager.attach, conversation_id, owner_of(request))
        connections = self._services.connections
        return EventStreamResponse(attached, connections, self._shared, cursor, query)

    def _shared(self, conversation: ServerConversation) -> "SharedFrames":
        return self._frames.setdefault(conversation, SharedFrames())


class SharedFrames:
    """The frames made last for a conversation: its clients mostly stand at the same place.

    Clients that are given the same may hold different texts, and so have different cursors.
    """

    __slots__ = ("_before", "_frames", "_given")

    def __init__(self) -> None:
        self._given: Given = ()
        self._before = START
        self._frames = b""

    def of(self, given: Given, before: Cursor) -> bytes:
        """Return the frames of what a reader was given behind a cursor."""
        if given != self._given or before != self._before:
            self._given, self._before = given, before
            self._frames = _frames_of(given, before)
        return self._frames


class Watcher:
    """A client that reads a conversation by Server-Sent Events, as a Connection."""

    waiting = 0

    def __init__(
        self, conversation: ServerConversation, reader: LiveReader, client: str | None
    ) -> None:
        self.connection_id = f"sse-{token_hex(8)}"
        self.conversation_id = conversation.conversation_id
        self.user_id = conversation.user_id
        self.client = client
        self.notices: deque[Mapping[str, Any]] = deque(maxlen=WAITING_NOTICES)
        self.ending = False
        """Whether the server ends it."""
        self.gone = False
        """Whether the client has left."""
        self.over = asyncio.Event()
        self._stream = conversation.stream
        self._reader = reader
        self._began = reader.cursor.position

    @property
    def position(self) -> int:
        """See Connection."""
        return self._reader.cursor.position

    @property
    def head(self) -> int:
        """See Connection."""
        return self._stream.next_id - 1

    @property
    def queued_bytes(self) -> int:
        """See Connection; what its transport holds is not known here."""
        return 0

    @property
    def live(self) -> bool:
        """See Connection."""
        return self.position >= self.head

    @property
    def delivered(self) -> int:
        """See Connection."""
        return self.position - self._began

    def notify(self, payload: Mapping[str, Any]) -> None:
        """See Connection."""
        self.notices.append(payload)
        self._reader.wake()

    def take_notices(self) -> bytes:
        """Return the frames of the notices that wait."""
        if not self.notices:
            return b""
        frames = b"".join(
            b"event: notice\ndata: %b\n\n" % orjson.dumps(notice) for notice in self.notices
        )
        self.notices.clear()
        return frames

    def leave(self) -> None:
        """Note that the client has left."""
        self.gone = True
        self._reader.wake()

    async def drop(self) -> None:
        """See Connection."""
        self.ending = True
        self._reader.wake()
        await asyncio.wait([asyncio.ensure_future(self.over.wait())], timeout=DROP_SECONDS)


class EventStreamResponse(Response):
    """Follows a conversation for one client; every frame is written as it comes.

    It ends when the client leaves, the conversation is deleted or closed, the server ends the
    connection, or, where that was asked for, with a turn. Nothing is queued for a slow client.
    While the conversation or the server is being closed it is empty: after any other status an
    EventSource would never come back.
    """

    media_type: str | None = MEDIA_TYPE

    def __init__(
        self,
        attached: Callable[[], AbstractAsyncContextManager[ServerConversation]],
        connections: ConnectionRegistry,
        shared: Callable[[ServerConversation], SharedFrames],
        cursor: Cursor,
        query: StreamQuery,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._attached = attached
        self._connections = connections
        self._shared = shared
        self._cursor = cursor
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it, as ASGI. Raises, before anything is sent, what attaching does."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with AsyncExitStack() as stack:
            try:
                conversation = await stack.enter_async_context(self._attached())
            except StreamClosed:
                await send(start)
                await send({"type": "http.response.body", "body": _come_back()})
                return
            await conversation.stream.look_for(self._cursor.position)
            await send(start)
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            reader = LiveReader(conversation.stream, self._cursor, deltas=self._query.deltas)
            client = scope.get("client")
            watcher = Watcher(conversation, reader, client[0] if client else None)
            leaving = asyncio.ensure_future(_left(receive, watcher))
            self._connections.add(watcher)
            try:
                with reader:
                    await self._follow(reader, watcher, self._shared(conversation), send)
            finally:
                self._connections.remove(watcher.connection_id)
                leaving.cancel()
                watcher.over.set()

    async def _follow(
        self, reader: LiveReader, watcher: Watcher, shared: SharedFrames, send: Send
    ) -> None:
        idle = IdleTimer(reader.wake)
        frames = b"retry: %d\n\n" % RETRY_MILLISECONDS
        try:
            while not watcher.gone:
                await send({"type": "http.response.body", "body": frames, "more_body": True})
                idle.restart()
                before = reader.cursor
                ending = watcher.ending  # behind what was published until then
                if self._query.end == "now" or ending:
                    reader.wake()
                given = await reader.next()
                if given is None or (ending and not given):
                    break
                if (last := self._last_of(given)) is not None:
                    await send({"type": "http.response.body", "body": _frames_of(last, before)})
                    return
                frames = shared.of(given, before) + watcher.take_notices() or COMMENT
        except EventsError as error:
            # Before the headers it would be an answer; now the client comes back and is told then.
            logger.warning("cannot follow %s: %s", watcher.conversation_id, error)
        finally:
            idle.stop()
        if not watcher.gone:
            await send({"type": "http.response.body", "body": _come_back()})

    def _last_of(self, given: Given) -> Sequence[StoredEvent] | None:
        """Return the events with which the stream ends where that was asked for; None: it goes on."""
        if self._query.end == "now" and not given:
            return ()
        if self._query.end == "turn":
            for place, one in enumerate(given):
                if isinstance(one, StoredEvent) and _is_end_of_turn(one):
                    return cast("Sequence[StoredEvent]", given[: place + 1])
        return None


class IdleTimer:
    """Calls `wake` whenever nothing was sent for so many seconds."""

    def __init__(self, wake: Callable[[], None], seconds: float = IDLE_SECONDS) -> None:
        self._wake = wake
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    def restart(self) -> None:
        """Note that something was sent."""
        self._sent_at = self._loop.time()

    def stop(self) -> None:
        """Call nothing any more."""
        self._timer.cancel()

    def _look(self) -> None:
        due = self._sent_at + self._seconds
        if due <= self._loop.time():
            self._wake()
            due = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(due, self._look)


def _come_back() -> bytes:
    """Return what tells a client to come back, at another moment than the others."""
    return b"retry: %d\n\n" % randbelow(RETRY_SPREAD_MILLISECONDS)


async def _left(receive: Receive, watcher: "Watcher") -> None:
    """Wait until the client has left; what it sends meanwhile is not looked at."""
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.leave()


def _frames_of(given: Given, before: Cursor) -> bytes:
    """Return the frames of what a reader was given behind a cursor, each with the cursor behind it.

    What is open has no cursor of its own: it moves nothing.
    """
    if isinstance(given, Opened):
        return b"event: delta\ndata: %b\n\n" % orjson.dumps(delta_of(given))
    frames: list[bytes] = []
    position, held = before.position, dict(before.held)
    for one in given:
        if isinstance(one, StoredEvent):
            position = one.id
            if held:
                held.pop(partial_of(one) or "", None)
            # A line end in a body, where another program wrote it, would end the frame.
            whole = b"\n" not in one.body and b"\r" not in one.body
            name, data = b"event", one.body if whole else orjson.dumps(orjson.loads(one.body))
        else:
            if isinstance(one, Piece):
                held[one.id] = one.to
            else:
                held.pop(one.id, None)
            name, data = b"delta", orjson.dumps(delta_of(one))
        cursor = str(Cursor(position, held)).encode()
        frames.append(b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, name, data))
    return b"".join(frames)


def _is_end_of_turn(event: StoredEvent) -> bool:
    return TURN_ENDED in event.body and orjson.loads(event.body).get("observation") == "turn_ended"
