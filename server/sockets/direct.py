"""The short way between a websocket and its session, past Engine.IO's queue and tasks.

It rests on parts of uvicorn and engineio that are not public, so their versions are checked at
start; where they differ the plain `Outlet` serves. Polling, upgraded transports, pings, binary
packets and everything that is not an event stay with the libraries in any case.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import version

from engineio import AsyncServer as EngineServer

from server.sockets.outlet import ClientGone, Outlet, Send
from server.sockets.protocol import ClientPacket, parse_event
from server.sockets.transport import GuardedProtocol

TESTED = {"uvicorn": "0.54.0", "python-engineio": "4.15.1", "python-socketio": "5.18.1"}
HOLD_AT = 512
"""Events of one client that are taken and unanswered before no more is read from it."""


def unsupported() -> str | None:
    """Why the short way cannot be used with what is installed; None when it can."""
    found = {name: version(name) for name in TESTED}
    differing = [f"{name} {found[name]}" for name in TESTED if found[name] != TESTED[name]]
    return f"untested versions: {', '.join(differing)}" if differing else None


class DirectOutlet(Outlet):
    """Writes websocket frames straight to the transport once the client is connected.

    Until then, and for what is not a plain websocket, it is the plain outlet.
    """

    __slots__ = ("_direct", "_open", "_send")

    def __init__(self, engine: EngineServer, engine_id: str, protocol: GuardedProtocol) -> None:
        super().__init__(engine, engine_id, protocol)
        self._direct = protocol
        self._send = protocol.transport.write
        self._open = False

    @property
    def full(self) -> bool:
        """See Outlet."""
        return not self._direct.flowing if self._open else super().full

    def write(self, frames: bytes) -> None:
        """See Outlet."""
        if not self._open:
            super().write(frames)
        elif not (self._direct.close_sent or self._direct.transport.is_closing()):
            self._send(frames)

    def acknowledge(self, packet: bytes) -> None:
        """See Outlet."""
        if self._open:
            self._direct.push(packet)
        else:
            super().acknowledge(packet)

    def live_sender(self, behind: Callable[[], None]) -> Send:
        """See Outlet. Nothing stands between the fan-out and the transport: it is the hot path."""
        if not self._open:
            return super().live_sender(behind)
        self._direct.behind = behind
        return self._direct.send_live if self.acknowledges else self._send

    async def ready(self) -> None:
        """See Outlet. From here on frames overtake nothing: the queue is empty and written."""
        await super().ready()
        self._open = True

    async def drained(self) -> None:
        """See Outlet."""
        if not self._open:
            await super().drained()
            return
        self._direct.flush()
        await self._flow(self._direct, asyncio.get_running_loop().time())
        if not self._direct.flowing:
            raise ClientGone("The client has left")


class Intake:
    """Takes a client's events off its websocket in the order they come, without a task."""

    def __init__(self, protocol: GuardedProtocol, take: Callable[[ClientPacket], int]) -> None:
        self._protocol = protocol
        self._take = take
        self._held = False
        protocol.receiver = self.receive

    def receive(self, message: bytes) -> bool:
        """Take a message if it is an event; anything else is left to Engine.IO."""
        packet = parse_event(message)
        if packet is None:
            return False
        if self._take(packet) >= HOLD_AT and not self._held:
            self._held = True
            self._protocol.hold_reading(hold=True)
        return True

    def answered(self, waiting: int) -> None:
        """Note how many events are unanswered now; read on when they have become few."""
        if self._held and waiting <= HOLD_AT // 2:
            self._held = False
            self._protocol.hold_reading(hold=False)

    def close(self) -> None:
        """Leave everything to Engine.IO again."""
        self._protocol.receiver = None
