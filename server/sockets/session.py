"""One connection's session: whose it is, which conversation, how far it has been sent."""

import asyncio
import logging
from asyncio import Task, TimerHandle
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from events.errors import ConversationDeleted, EventsError, LogShortened
from events.stream import EventStream
from server.access.connection_limits import UNLIMITED, TokenBucket
from server.errors import RateLimited
from server.observability.logs import context_of
from server.sockets.deltas import DeltaFeed
from server.sockets.frames import FrameReader, FrameRun
from server.sockets.outlet import SLOW_SECONDS, ClientGone, Outlet, Send
from server.sockets.protocol import payload_frame

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
FLUSH_SECONDS = 1.0


class LivePath(Protocol):
    """The live path of a conversation: its published events go to the sessions that have caught up."""

    @property
    def published(self) -> int:
        """The last log id handed to live sessions."""

    def enter(self, session: "WebSession", send: Send, *, deltas: bool) -> None:
        """Send a session that is level all that is published from now on, until `leave`.

        With `deltas` also what is told of partials.
        """

    def leave(self, session: "WebSession") -> None:
        """Send it no more; it has what is published now."""


class WebSession:
    """Sends one client every event after its cursor once, in order.

    `position` is the last log id examined. A session is either *live*, and then the fan-out
    sends it each event, or it reads the log by itself at its own pace. It turns live in the same
    step, without an await, in which its position has reached what the fan-out has published, and
    leaves the live path when its outlet says that the client is behind. With deltas it also has to
    have sent all that is told of partials.
    """

    __slots__ = (
        "_behind",
        "_closed",
        "_cursor",
        "_deltas",
        "_event_bucket",
        "_fanout",
        "_frames",
        "_joined_at",
        "_newest_state",
        "_outlet",
        "_owed",
        "_paid",
        "_position",
        "_stream",
        "_task",
        "connection_id",
        "conversation_id",
        "live",
        "unanswered",
        "user_id",
        "waiting",
    )

    def __init__(
        self,
        connection_id: str,
        user_id: str | None,
        stream: EventStream,
        fanout: LivePath,
        frames: FrameReader,
        outlet: Outlet,
        cursor: int,
        event_bucket: TokenBucket = UNLIMITED,
        held: Mapping[str, int] | None = None,
    ) -> None:
        self.connection_id = connection_id
        self.conversation_id = stream.conversation_id
        self.user_id = user_id
        self.live = False
        self.waiting = 0
        """Events of this client that are taken and not yet answered."""
        self.unanswered = 0
        """The weight of these events, by their length."""
        self._event_bucket = event_bucket
        self._position = self._cursor = stream.resume_after(cursor)
        self._stream = stream
        self._fanout = fanout
        self._frames = frames
        self._outlet = outlet
        self._deltas = None if held is None else DeltaFeed(stream.partials, held)
        """For a client that is sent texts while they are written; `held` is what it has of them."""
        self._joined_at = stream.next_id - 1
        self._newest_state = stream.last_state_id
        self._owed: bytes | None = None
        """The newest state at joining if it is an `error`, else nothing; None: not known yet."""
        self._paid = self._newest_state is None
        self._closed = False
        self._behind: TimerHandle | None = None
        """Set while it has left the live path and may still be back before it counts as slow."""
        self._task: Task[None] | None = None

    def start(self) -> None:
        """Begin replay; to be called when the client was told that it is connected."""
        if not self._closed:  # it may have left in the step in which it joined
            self._read_on(first=True)

    @property
    def ids(self) -> dict[str, str]:
        """The ids its log lines carry."""
        return {"conversation_id": self.conversation_id, "connection_id": self.connection_id}

    @property
    def delivered(self) -> int:
        """Events of the log it has passed, whether sent or invisible to clients."""
        return self.position - self._cursor

    @property
    def position(self) -> int:
        """The last log id examined; a live session has all that is published."""
        return self._fanout.published if self.live else self._position

    @property
    def head(self) -> int:
        """The last log id there is."""
        return self._stream.next_id - 1

    @property
    def client(self) -> str | None:
        """The address it comes from; None for one that polls."""
        transport = self._outlet.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        return str(peer[0]) if peer else None

    @property
    def queued_bytes(self) -> int:
        """Bytes in the write buffer of its transport."""
        transport = self._outlet.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def spend(self) -> None:
        """Take one event from what the client may send. Raises RateLimited."""
        event_bucket = self._event_bucket
        event_bucket.tokens -= 1
        if event_bucket.tokens < 0 and (seconds := event_bucket.lacking()):
            event_bucket.tokens += 1
            raise RateLimited(seconds)

    def notify(self, payload: Mapping[str, Any]) -> None:
        """Send a payload that is no event; lost if the connection is."""
        self.send(payload_frame(payload))

    def send(self, packet: bytes) -> None:
        """Send a packet that is no event of the log; lost if the connection is."""
        if not self._closed:
            self._outlet.write(packet)

    def acknowledge(self, packet: bytes) -> None:
        """Send an acknowledgement; from the first one on it shares its way with published events."""
        if self._closed:
            return
        if not self._outlet.acknowledges:
            self._outlet.acknowledges = True
            if self.live:
                self._enter()
        self._outlet.acknowledge(packet)

    async def drop(self) -> None:
        """Send what is due for a bounded time, then end the transport: the client comes back."""
        ends = asyncio.get_running_loop().time() + FLUSH_SECONDS
        if self._task is not None:
            await asyncio.wait([self._task], timeout=FLUSH_SECONDS)
        await self._outlet.end(max(0.0, ends - asyncio.get_running_loop().time()))

    def abort(self) -> None:
        """End the transport at once."""
        self._leave()
        self._outlet.abort()

    def close(self) -> None:
        """Stop sending: the connection is gone."""
        self._closed = True
        self._leave()
        self._forget_behind()
        task, self._task = self._task, None  # what it ends with leads back here, and would hold us
        if task is not None:
            task.cancel()

    def _read_on(self, *, first: bool) -> None:
        work = self._replay() if first else self._catch_up()
        name = f"replay of {self.conversation_id} to {self.connection_id}"
        # Later the task is started by a publisher, whose context is not this connection's.
        context = None if first else context_of(**self.ids)
        self._task = asyncio.get_running_loop().create_task(work, name=name, context=context)

    async def _replay(self) -> None:
        await self._outlet.ready()
        await self._catch_up()

    async def _catch_up(self) -> None:
        while not self._closed and self._stream.shortened is None:
            frame = None
            if self._is_level() and (frame := self._next_delta()) is None:
                # The same step, without an await, that saw the position: nothing slips between.
                self._task = None
                self._forget_behind()
                self.live = True
                self._enter()
                return
            try:
                if frame is not None:
                    self._outlet.write(frame)
                    await self._outlet.drained()
                elif self._outlet.full:
                    await self._outlet.drained()
                elif self._position >= self._joined_at and not self._paid:
                    await self._pay()
                else:
                    await self._send_page()
            except (ConversationDeleted, ClientGone):
                return
            except LogShortened as lost:
                self._stream.shorten(lost.first_id)  # its connections are dropped then
                return
            except EventsError:
                logger.exception(
                    "cannot read events of %s for a client; retrying", self.conversation_id
                )
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.exception(
                    "disconnecting a client of %s after an internal error", self.conversation_id
                )
                self._outlet.abort()
                return

    def _next_delta(self) -> bytes | None:
        """Return what the client lacks of texts that are being written; None: nothing."""
        if self._deltas is None:
            return None
        return self._deltas.next_frame(self._outlet.slice_bytes)

    def _enter(self) -> None:
        send = self._outlet.live_sender(self._fall_behind)
        self._fanout.enter(self, send, deltas=self._deltas is not None)

    def _fall_behind(self) -> None:
        if self.live:
            self._leave()
            self._read_on(first=False)
            transport = self._outlet.transport
            if transport is None or not transport.is_closing():  # else it leaves, slow or not
                # A burst is more than the quickest client takes at once.
                loop = asyncio.get_running_loop()
                self._behind = loop.call_later(SLOW_SECONDS, self._count_behind)

    def _count_behind(self) -> None:
        self._behind = None
        self._frames.counters.clients_behind += 1

    def _forget_behind(self) -> None:
        if self._behind is not None:
            self._behind.cancel()
            self._behind = None

    def _leave(self) -> None:
        self._position = self.position
        if self.live and self._deltas is not None:
            self._deltas.leave()
        self.live = False
        self._fanout.leave(self)

    def _is_level(self) -> bool:
        return self._paid and self._position >= self._fanout.published and not self._outlet.full

    async def _send_page(self) -> None:
        """Send what follows the position, to the end of its page or of what was there at joining."""
        next_id = self._stream.next_id
        if self._position < self._joined_at:
            next_id = min(next_id, self._joined_at + 1)
        page = await self._frames.read(self.conversation_id, self._position + 1, next_id)
        while self._position < page.last_id:
            await self._frames.scheduler.acquire()
            run = page.slice(self._position, self._outlet.slice_bytes)
            frames = run.without(self._old_states(run))
            self._frames.counters.replayed_bytes += len(frames)
            self._outlet.write(frames)
            self._frames.scheduler.sent(len(frames))
            self._position = run.last_id
            await self._outlet.drained()

    async def _pay(self) -> None:
        """Send the newest state at joining, an `error`: behind the backlog, before what is newer."""
        newest = self._newest_state
        if self._owed is None and newest is not None:
            try:
                run = await self._frames.read(self.conversation_id, newest, newest + 1)
                self._owed = run.error(newest)
            except EventsError:
                logger.exception("cannot read the latest state of %s", self.conversation_id)
        self._paid = True
        if self._owed:
            self._outlet.write(self._owed)

    def _old_states(self, run: FrameRun) -> Sequence[int]:
        """Return the states of the backlog to leave out: all but the newest."""
        newest = self._newest_state
        if run.first_id > self._joined_at or newest is None:
            return ()
        if newest in run.states:
            self._owed = run.error(newest)
        return [one for one in run.states if one != newest or self._owed]
