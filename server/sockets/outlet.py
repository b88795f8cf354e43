"""The Outlet contract, and its implementation through Engine.IO's queue.

Only this module uses parts of engineio that are not public: the socket of a connection and its
queue. Their presence is checked at start.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from asyncio import Task, Transport
from collections.abc import Callable
from functools import partial
from typing import Any

from engineio import AsyncServer as EngineServer
from engineio.packet import MESSAGE, NOOP, Packet

from server.errors import Refused, ServerError
from server.sockets.protocol import packet_texts
from server.sockets.transport.uvicorn_websocket import GuardedProtocol

SLICE_BYTES = 64 * 1024
SLOW_SECONDS = 0.5
"""Seconds for a slice beyond which a client counts as slow, until it receives one faster."""
SLOW_SLICE_BYTES = 8 * 1024
"""Bytes that may be in flight: a ping waits behind them, and must be answered within 20 s on a slow
line."""
CAP_BYTES = 64 * 1024
"""Bytes in the queue beyond which a client leaves the live path."""
CAP_PACKETS = 8192
"""Packets in the queue, acknowledgements among them, beyond which a client is aborted."""

Send = Callable[[bytes], object]
"""Takes websocket frames that are joined; never waits."""


class ClientGone(ServerError):
    """The transport has ended or is ending; the session will be closed next."""


class Outlet(ABC):
    """The output of one client.

    `write` never waits; callers check `full` first, which bounds the queue.
    """

    # Slots, here and in the session: what is touched for every client and event lies together.
    __slots__ = ("acknowledges", "slow")

    def __init__(self) -> None:
        self.acknowledges = False
        """Whether the client requests acknowledgements."""
        self.slow = False

    @property
    def slice_bytes(self) -> int:
        """Bytes that may be written between two waits for `drained`."""
        return SLOW_SLICE_BYTES if self.slow else SLICE_BYTES

    @property
    @abstractmethod
    def full(self) -> bool:
        """Whether output is backed up: wait for `drained` before writing more."""

    @property
    @abstractmethod
    def transport(self) -> Transport | None:
        """The transport, for inspection; None for a polling client."""

    @abstractmethod
    def write(self, frames: bytes) -> None:
        """Send joined websocket frames."""

    @abstractmethod
    def acknowledge(self, packet: bytes) -> None:
        """Send an acknowledgement, at the latest at the end of this iteration of the event loop."""

    @abstractmethod
    def live_sender(self, behind: Callable[[], None]) -> Send:
        """Return the function that sends published frames; `behind` is called when the client lags."""

    @abstractmethod
    async def ready(self) -> None:
        """Wait until CONNECT has been sent to the client."""

    @abstractmethod
    async def drained(self) -> None:
        """Wait until the output is written and more is accepted. Raises ClientGone."""

    @abstractmethod
    def abort(self) -> None:
        """End the transport at once; queued output is lost."""

    @abstractmethod
    async def end(self, seconds: float) -> None:
        """Send queued output for at most `seconds`, then end the transport without a close frame."""

    async def _flow(self, writable: asyncio.Event, begun: float) -> None:
        """Wait until the transport accepts more; a long wait marks the client as slow."""
        if not writable.is_set():
            await writable.wait()
            self.slow = asyncio.get_running_loop().time() - begun > SLOW_SECONDS


class EngineOutlet(Outlet):
    """The outlet through Engine.IO's queue and writer. Raises Refused if the client has left."""

    __slots__ = ("_ending", "_protocol", "_queued_bytes", "_socket")

    def __init__(
        self, engine: EngineServer, engine_id: str, protocol: GuardedProtocol | None
    ) -> None:
        super().__init__()
        try:
            self._socket: Any = engine._get_socket(engine_id)  # noqa: SLF001 - see the module's text
        except KeyError as error:
            raise Refused("The client has left") from error
        self._protocol = protocol
        self._queued_bytes = 0
        self._ending: Task[None] | None = None

    @property
    def full(self) -> bool:
        """See Outlet."""
        if self._socket.queue.empty():
            self._queued_bytes = 0
        paused = self._protocol is not None and not self._protocol.writable.is_set()
        return paused or self._queued_bytes > CAP_BYTES

    @property
    def transport(self) -> Transport | None:
        """See Outlet."""
        return None if self._protocol is None else self._protocol.transport

    def write(self, frames: bytes) -> None:
        """See Outlet. A client with too many queued packets is aborted."""
        if self._socket.closed:
            return
        for text in packet_texts(frames):
            if self._socket.queue.qsize() >= CAP_PACKETS:
                self.abort()
                return
            self._socket.queue.put_nowait(Packet(MESSAGE, data=text))
        self._queued_bytes += len(frames)

    def acknowledge(self, packet: bytes) -> None:
        """See Outlet."""
        self.write(packet)

    def live_sender(self, behind: Callable[[], None]) -> Send:
        """See Outlet."""
        return partial(self._send_live, behind)

    async def ready(self) -> None:
        """See Outlet."""
        await self._socket.queue.join()

    async def drained(self) -> None:
        """See Outlet."""
        begun = asyncio.get_running_loop().time()
        await self._socket.queue.join()
        if self._protocol is not None:
            await self._flow(self._protocol.writable, begun)
            if self._protocol.transport.is_closing():
                raise ClientGone("The client has left")
        self._queued_bytes = 0

    def _send_live(self, behind: Callable[[], None], frames: bytes) -> None:
        self.write(frames)
        if self.full:
            behind()

    def abort(self) -> None:
        """See Outlet."""
        if self._protocol is not None:
            self._protocol.abort()
        else:
            self._ending = asyncio.get_running_loop().create_task(self._end_engine())

    async def end(self, seconds: float) -> None:
        """See Outlet."""
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(seconds):
                await self.drained()
        if self._protocol is not None:
            self._protocol.end()
        else:
            await self._end_engine()

    async def _end_engine(self) -> None:
        if self._socket.upgraded:
            # Ends the writer, which closes the websocket; a CLOSE packet would be ignored there.
            self._socket.queue.put_nowait(None)
        else:
            await self._socket.close(wait=False)


def end_poll(engine: EngineServer, engine_id: str) -> None:
    """Answer the pending poll of a client that has left, which would stay open otherwise."""
    engine_socket = engine.sockets.get(engine_id)
    if engine_socket is not None and not engine_socket.upgraded:
        engine_socket.queue.put_nowait(Packet(NOOP))


def check_engine(engine: EngineServer) -> None:
    """Raise RuntimeError if this engineio lacks the internals that `EngineOutlet` uses."""
    if not hasattr(engine, "_get_socket") or not hasattr(engine, "sockets"):
        raise RuntimeError("this version of python-engineio is not supported")
