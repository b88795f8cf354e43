"""Watchers of texts that are being written, by Socket.IO and by Server-Sent Events."""

import asyncio
import gc
import re
from collections.abc import Sequence
from typing import Any

import orjson

from benchmarks.clients import BenchError, Client, Control, connect, raise_problems, until
from benchmarks.held import Held
from benchmarks.machine import Meter

WARM_SECONDS = 0.5
AT_ONCE = 32


class SocketWatcher(Client):
    """Holds what comes over a Socket.IO connection."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Held()

    def on_event(self, data: bytes) -> None:
        """Take a piece or an event."""
        self.held.take_packet(data)
        if self.held.problem is not None:
            self.problem = self.problem or self.held.problem


FRAME = re.compile(rb"event: (event|delta)\ndata: ([^\n]*)\n\n")
BETWEEN_CHUNKS = re.compile(rb"\r\n[0-9a-f]+\r\n")


class StreamWatcher(asyncio.Protocol):
    """Holds what comes as Server-Sent Events over a connection of its own."""

    def __init__(self, conversation: str) -> None:
        self.held = Held()
        self.problem: str | None = None
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._conversation = conversation
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport
        path = f"/api/conversations/{self._conversation}/stream"
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        transport.write(request)  # type: ignore[attr-defined]  # asyncio.Transport, by TCP

    def data_received(self, data: bytes) -> None:
        """Take the whole frames."""
        data = self._rest + data
        if not self.joined.done():
            if b"event: delta" not in data and b"\r\n\r\n" not in data:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self.joined.set_exception(BenchError(data[:200].decode()))
                return
            self.joined.set_result(None)
        end = data.rfind(b"\n\n") + 2
        if end < len(b"\n\n"):
            self._rest = data
            return
        self._rest = data[end:]
        for name, body in FRAME.findall(data[:end]):
            if name == b"delta":
                self.held.take_delta(orjson.loads(body))
            else:
                self.held.take_event(body)
        self.problem = self.problem or self.held.problem

    def connection_lost(self, error: Exception | None) -> None:
        """An answer that ends before the run does is a failure."""
        self.problem = self.problem or f"disconnected: {error}"

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


Watcher = SocketWatcher | StreamWatcher


async def deltas(job: dict[str, Any]) -> dict[str, Any]:
    """Let `conversations` agents write for `seconds` while `watchers` of each conversation watch.

    `how` they write, `tokens`, `secrets` and `each_token`: see benchmarks.writers. `by` is `deltas` (a socket
    that asks for them), `events` (one that does not) or `sse`. With `stalls`, the server's loop is
    watched, which costs processor time.
    """
    control = await Control.open(job["control"])
    names = await control.ask("new", count=job["conversations"])
    watchers = await _watchers(job, [name for name in names for _ in range(job["watchers"])])
    more = {key: job[key] for key in ("tokens", "secrets", "each_token") if key in job}
    await control.ask("write", conversations=names, how=job["how"], **more)
    await asyncio.sleep(WARM_SECONDS)
    gc.collect()
    gc.disable()
    if job.get("stalls"):
        await control.ask("watch")
    before = sum(one.held.pieces for one in watchers)
    told = sum(one.held.events for one in watchers)
    meter = Meter(job["pid"])
    await asyncio.sleep(job["seconds"])
    figures = meter.stop()
    pieces = sum(one.held.pieces for one in watchers) - before
    told = sum(one.held.events for one in watchers) - told
    stall = await control.ask("stall") if job.get("stalls") else {"cpu": 0.0}
    appended = await control.ask("hush")
    due = [count for count in appended for _ in range(job["watchers"])]
    pairs = list(zip(watchers, due, strict=True))
    await until(
        lambda: (
            any(one.problem for one in watchers)
            or all(one.held.events >= count for one, count in pairs)
        ),
        "every watcher had every event",
    )
    raise_problems(watchers)
    if any(one.held.events != count for one, count in pairs):
        raise BenchError("a watcher had an event twice")
    delays = sorted(delay for one in watchers for delay in one.held.delays)
    for one in watchers:
        one.problem = "closed"
        one.close()
    return figures | {
        "core": figures["server_cpu"] / figures["wall"],
        "pieces_per_s": pieces / figures["wall"],
        "events_per_s": told / figures["wall"],
        "first_p50": delays[len(delays) // 2] / 1e9 if delays else 0.0,
        "stall": stall["cpu"],
    }


async def _watchers(job: dict[str, Any], names: Sequence[str]) -> list[Any]:
    watchers: list[Any] = []
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        watchers += await asyncio.gather(*(_watcher(job, name) for name in some))
    return watchers


async def _watcher(job: dict[str, Any], name: str) -> Watcher:
    if job["by"] != "sse":
        more = "&deltas=1" if job["by"] == "deltas" else ""
        return await connect(job["port"], name, SocketWatcher, more=more)
    loop = asyncio.get_running_loop()
    _, watcher = await loop.create_connection(lambda: StreamWatcher(name), "127.0.0.1", job["port"])
    await asyncio.wait_for(watcher.joined, 30)
    return watcher
