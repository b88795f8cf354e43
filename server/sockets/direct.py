"""The short way between a websocket and its session: no queue, no task, no library.

Versions are checked at start; where they differ the plain way serves (`library`). Polling and
upgraded transports stay with it in any case.
"""

import asyncio
import contextlib
from collections.abc import Callable
from importlib.metadata import version

from server.sockets.intake import Intake
from server.sockets.outlet import ClientGone, Outlet, Send
from server.sockets.protocol import ClientPacket, parse_event
from server.sockets.websocket import Websocket

TESTED = {"uvicorn": "0.54.0", "python-socketio": "5.18.1"}


def unsupported() -> str | None:
    """Why the short way cannot be used with what is installed; None when it can."""
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
        """See Outlet. CONNECT was written before anything else is."""

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
    """Takes a client's events off its websocket in the order they come, without a task."""

    __slots__ = ("_take", "_websocket")

    def __init__(self, websocket: Websocket, take: Callable[[ClientPacket], None]) -> None:
        super().__init__()
        self._websocket = websocket
        self._take = take
        websocket.receiver = self.receive

    def receive(self, message: bytes) -> bool:
        """Take a message if it is an event; anything else is left to Engine.IO."""
        packet = parse_event(message)
        if packet is None:
            return False
        self._take(packet)
        return True

    def close(self) -> None:
        """Leave everything to Engine.IO again."""
        self._websocket.receiver = None

    def _hold(self, *, hold: bool) -> None:
        self._websocket.hold_reading(hold=hold)
