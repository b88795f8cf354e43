"""The short way between a websocket and its session, past Engine.IO's queue and tasks.

It rests on parts of uvicorn that are not public, so versions are checked at start; where they
differ the plain way serves (`library`). Polling and upgraded transports stay with it in any case.
"""

import asyncio
import contextlib
from collections.abc import Callable
from importlib.metadata import version

from server.sockets.outlet import ClientGone, Outlet
from server.sockets.protocol import ClientPacket, parse_event
from server.sockets.transport import GuardedProtocol
from server.sockets.wire import FrameBatch

TESTED = {"uvicorn": "0.54.0", "python-socketio": "5.18.1"}
HOLD_AT = 512
"""Events of one client that are taken and unanswered before no more is read from it."""


def unsupported() -> str | None:
    """Why the short way cannot be used with what is installed; None when it can."""
    found = {name: version(name) for name in TESTED}
    differing = [f"{name} {found[name]}" for name in TESTED if found[name] != TESTED[name]]
    return f"untested versions: {', '.join(differing)}" if differing else None


class DirectOutlet(Outlet):
    """Writes websocket frames straight to the transport."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    @property
    def full(self) -> bool:
        """See Outlet."""
        return not self._protocol.flowing

    def write(self, packet: bytes) -> None:
        """See Outlet."""
        self._protocol.push(packet)

    def write_batch(self, batch: FrameBatch) -> None:
        """See Outlet."""
        if batch.wire:
            self.write(batch.wire)

    def offer(self, batch: FrameBatch) -> bool:
        """See Outlet. This is the hot path: once per client and batch."""
        protocol = self._protocol
        if not protocol.flowing:
            return False
        if not batch.wire:
            return True
        if protocol.due:
            protocol.push(batch.wire)
        else:
            protocol.transport.write(batch.wire)
        return True

    async def ready(self) -> None:
        """See Outlet. CONNECT was written before anything else is."""

    async def drained(self) -> None:
        """See Outlet."""
        self._protocol.flush()
        await self._flow(self._protocol, asyncio.get_running_loop().time())
        if not self._protocol.flowing:
            raise ClientGone("The client has left")

    def abort(self) -> None:
        """See Outlet."""
        self._protocol.abort()

    async def end(self, seconds: float) -> None:
        """See Outlet."""
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(seconds):
                await self.drained()
        self._protocol.end()


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
