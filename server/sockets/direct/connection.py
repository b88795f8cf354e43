"""Engine.IO and Socket.IO on one direct websocket, without queues of their own."""

import asyncio
import contextlib
import logging
from asyncio import Future, TimerHandle
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from secrets import token_urlsafe
from typing import Any

from socketio import packet as kinds
from socketio.packet import Packet

from server.access.connection_limits import TokenBucket
from server.errors import Refused
from server.sockets.direct.websocket import Websocket
from server.sockets.handlers import JoinRequest, SocketHandlers
from server.sockets.intake import Intake
from server.sockets.outlet import ClientGone, Outlet, Send
from server.sockets.protocol import (
    MAX_ATTACHMENTS,
    PING_SECONDS,
    PONG_SECONDS,
    UNKNOWN_NAMESPACE,
    ClientPacket,
    connected,
    opening,
    parse_event,
    refusal,
    websocket_frame,
    weight_of,
)

logger = logging.getLogger(__name__)

TESTED = {"uvicorn": "0.54.0", "python-socketio": "5.18.1"}


def unsupported() -> str | None:
    """Return why the direct path cannot be used with the installed versions; None when it can."""
    found = {name: version(name) for name in TESTED}
    differing = [f"{name} {found[name]}" for name in TESTED if found[name] != TESTED[name]]
    return f"untested versions: {', '.join(differing)}" if differing else None


class DirectOutlet(Outlet):
    """Writes websocket frames straight to the transport."""

    __slots__ = ("_send", "_websocket")

    def __init__(self, websocket: Websocket) -> None:
        super().__init__()
        self._websocket = websocket
        self._send = websocket.transport.write

    @property
    def full(self) -> bool:
        """See Outlet."""
        return not self._websocket.flowing

    @property
    def transport(self) -> asyncio.Transport:
        """See Outlet."""
        return self._websocket.transport

    def write(self, frames: bytes) -> None:
        """See Outlet."""
        if not self._websocket.transport.is_closing():
            self._send(frames)

    def acknowledge(self, packet: bytes) -> None:
        """See Outlet."""
        self._websocket.push(packet)

    def live_sender(self, behind: Callable[[], None]) -> Send:
        """See Outlet. Nothing stands between the fan-out and the transport: it is the hot path."""
        self._websocket.behind = behind
        return self._websocket.send_live if self.acknowledges else self._send

    async def ready(self) -> None:
        """See Outlet. CONNECT is always written first."""

    async def drained(self) -> None:
        """See Outlet."""
        websocket = self._websocket
        websocket.flush()
        await self._flow(websocket.writable, websocket.loop.time())
        if not websocket.flowing:
            raise ClientGone("The client has left")

    def abort(self) -> None:
        """See Outlet."""
        self._websocket.abort()

    async def end(self, seconds: float) -> None:
        """See Outlet."""
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(seconds):
                await self.drained()
        self._websocket.end()


class DirectIntake(Intake):
    """Hands a client's events on as its websocket receives them, without a task."""

    __slots__ = ("_take", "_websocket")

    def __init__(self, websocket: Websocket, take: Callable[[ClientPacket], None]) -> None:
        super().__init__()
        self._websocket = websocket
        self._take = take
        websocket.receiver = self.receive

    def receive(self, message: bytes) -> bool:
        """Take a message that is an event; return False for any other, which Engine.IO handles."""
        packet = parse_event(message)
        if packet is None:
            return False
        self._take(packet)
        return True

    def close(self) -> None:
        """Leave every message to Engine.IO again."""
        self._websocket.receiver = None

    def _hold(self, *, hold: bool) -> None:
        self._websocket.hold_reading(hold=hold)


class EngineConnection:
    """The Engine.IO and Socket.IO connection of one client, which joins and leaves for it.

    While a join or leave is under way, messages are held and reading is paused.
    """

    __slots__ = (
        "_auth",
        "_beat",
        "_binary",
        "_busy",
        "_event_bucket",
        "_gone",
        "_handlers",
        "_held",
        "_id",
        "_joined",
        "_pinged",
        "_query",
        "_scope",
        "_wake",
        "_websocket",
    )

    def __init__(
        self,
        websocket: Websocket,
        handlers: SocketHandlers,
        query: str,
        scope: Mapping[str, Any],
        event_bucket: TokenBucket,
    ) -> None:
        self._id = token_urlsafe(15)
        self._websocket = websocket
        self._handlers = handlers
        self._query = query
        self._scope = scope
        self._event_bucket = event_bucket
        self._auth: object = None
        """The payload of CONNECT until it is checked."""
        self._busy = False
        self._gone = False
        self._joined = False
        self._pinged = False
        self._held: list[tuple[bytes, bool]] = []
        self._binary: tuple[Packet, int] | None = None
        """A packet whose attachments have not all arrived, and its length in bytes."""
        self._wake: Future[None] | None = None
        self._beat: TimerHandle | None = None

    def greeting(self) -> bytes:
        """Return the first frame, which is sent together with the websocket's own handshake."""
        return websocket_frame(opening(self._id))

    async def serve(self) -> None:
        """Join and leave as the client asks, until the connection is over."""
        self._schedule_ping()
        try:
            while self._joined or not self._gone:
                await self._next_step()
                if self._joined:
                    self._joined = False
                    await self._handlers.leave(self._id)
                    self._websocket.admission.expect_handshake()
                elif not self._gone:
                    self._joined = await self._join()
                self._go_on()
        except Exception:
            logger.exception(
                "closing a connection after an internal error", extra={"connection_id": self._id}
            )
            self._websocket.abort()
        finally:
            if self._beat is not None:
                self._beat.cancel()

    def receive(self, message: bytes, *, text: bool) -> None:
        """Handle a message other than an event of a joined client. See Listener."""
        if self._busy:
            if not self._held:
                self._websocket.hold_reading(hold=True)
            self._held.append((message, text))
            return
        try:
            self._take(message, text=text)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            ids = {"connection_id": self._id}
            logger.info(
                "closing a connection that violated the protocol: %s",
                type(error).__name__,
                extra=ids,
            )
            self._websocket.admission.violated()
            self._websocket.end()

    def lost(self) -> None:
        """See Listener."""
        self._gone = True
        self._wake_up()

    async def _join(self) -> bool:
        websocket = self._websocket
        websocket.admission.handshake_done()
        outlet = partial(DirectOutlet, websocket)
        auth, self._auth = self._auth, None
        intake = partial(DirectIntake, websocket)
        request = JoinRequest(
            self._id,
            self._query,
            self._scope,
            outlet,
            intake,
            self._event_bucket,
            auth,
            websocket.admission.check_failures,
        )
        try:
            await self._handlers.join(request)
        except Refused as refused:
            websocket.admission.refused(refused)
            self._write(refusal(refused))
            return False
        websocket.widen()
        self._write(connected(self._id))
        return True

    async def _next_step(self) -> None:
        """Wait until a join or leave is due."""
        if not (self._busy or self._gone):
            self._wake = self._websocket.loop.create_future()
            await self._wake

    def _wake_up(self) -> None:
        self._busy = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _go_on(self) -> None:
        """Handle the held messages until another join or leave is due."""
        self._busy = False
        held, self._held = self._held, []
        if held:
            self._websocket.hold_reading(hold=False)
        for message, text in held:
            receiver = self._websocket.receiver
            if not (text and not self._busy and receiver is not None and receiver(message)):
                self.receive(message, text=text)

    def _take(self, message: bytes, *, text: bool) -> None:
        if not text:
            self._attach()
        elif message == b"3":
            self._schedule_ping()
        elif message == b"1":
            self._websocket.end()
        elif message[:1] == b"4":
            self._take_packet(Packet(encoded_packet=message[1:].decode()), len(message))
        else:
            raise ValueError("not an Engine.IO packet")

    def _take_packet(self, packet: Packet, size_bytes: int) -> None:
        if self._binary is not None:
            raise ValueError("an attachment is missing")
        namespace = packet.namespace or "/"
        match packet.packet_type:
            case kinds.CONNECT if namespace != "/":
                self._write(refusal(Refused(UNKNOWN_NAMESPACE), namespace))
            case kinds.CONNECT if not self._joined:
                self._auth = packet.data
                self._wake_up()
            case kinds.DISCONNECT if self._joined and namespace == "/":
                self._websocket.receiver = None  # nothing that follows is taken any more
                self._wake_up()
            case kinds.EVENT | kinds.BINARY_EVENT | kinds.BINARY_ACK if packet.attachment_count:
                self._await_attachments(packet, size_bytes)
            case kinds.EVENT | kinds.BINARY_EVENT:
                self._take_event(packet, size_bytes)
            case kinds.CONNECT | kinds.DISCONNECT | kinds.ACK:
                pass  # no effect: already done, or not asked for
            case _:
                raise ValueError("not a packet that clients send")

    def _await_attachments(self, packet: Packet, size_bytes: int) -> None:
        if packet.attachment_count > MAX_ATTACHMENTS:
            raise ValueError("too many attachments")
        self._binary = packet, size_bytes

    def _attach(self) -> None:
        """Count an attachment; its content is dropped, since no event may have one."""
        if self._binary is None:
            raise ValueError("an attachment without a packet")
        packet, size_bytes = self._binary
        if packet.add_attachment(b""):
            self._binary = None
            if packet.packet_type == kinds.BINARY_EVENT:
                self._take_event(packet, size_bytes)

    def _take_event(self, packet: Packet, size_bytes: int) -> None:
        event, *arguments = packet.data
        if self._joined and packet.namespace in (None, "/"):
            weight = weight_of(size_bytes)
            self._handlers.take(self._id, ClientPacket(event, arguments, packet.id, weight))

    def _schedule_ping(self) -> None:
        """Schedule the first ping, and after each pong the next."""
        if self._beat is None or self._pinged:
            self._pinged = False
            self._set_beat(PING_SECONDS, self._ping)

    def _ping(self) -> None:
        self._pinged = True
        self._write(b"2")
        self._set_beat(PONG_SECONDS, self._websocket.abort)

    def _set_beat(self, seconds: float, act: Callable[[], None]) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self._beat = self._websocket.loop.call_later(seconds, act)

    def _write(self, message: bytes) -> None:
        self._websocket.flush()
        if not self._websocket.transport.is_closing():
            self._websocket.transport.write(websocket_frame(message))
