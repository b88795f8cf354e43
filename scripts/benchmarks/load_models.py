"""A model that sends tokens, and a client that sees the first character and stops the turn."""

import asyncio
import json
import time
from typing import Any

import orjson

from benchmarks.clients import BenchError
from benchmarks.load_deltas import FRAME
from benchmarks.writers import TOKENS_PER_SECOND

TOKEN = b" word"
TURN_SECONDS = 0.3
"""Seconds for which the model has sent before the turn is stopped."""
WAIT_SECONDS = 20


class Model(asyncio.Protocol):
    """One connection to the model: tokens at a steady rate, until the other side leaves."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first_sent: asyncio.Future[float] = loop.create_future()
        self.closed: asyncio.Future[float] = loop.create_future()
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to send."""
        self._transport = transport  # type: ignore[assignment]  # asyncio.Transport, by TCP
        self.first_sent.set_result(time.perf_counter())
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Note when the other side has left."""
        if self._timer is not None:
            self._timer.cancel()
        self.closed.set_result(time.perf_counter())

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(TOKEN)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(1 / TOKENS_PER_SECOND, self._send)


class Models:
    """A model's endpoint; its connections in the order in which they come."""

    def __init__(self) -> None:
        self.port = 0
        self._made: asyncio.Queue[Model] = asyncio.Queue()

    async def open(self) -> None:
        """Listen on a free port of the loopback address."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._make, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])

    async def connection(self) -> Model:
        """Return the next connection, waiting for it."""
        return await asyncio.wait_for(self._made.get(), WAIT_SECONDS)

    def _make(self) -> Model:
        model = Model()
        self._made.put_nowait(model)
        return model


async def models(job: dict[str, Any]) -> dict[str, Any]:
    """Let an agent ask a model `count` times, each in a new conversation, and stop each turn.

    Without an agent (`bare`) the same is done by a plain connection here.
    """
    endpoint = Models()
    await endpoint.open()
    once = _directly if job.get("bare") else _by_agent
    firsts, stops = [], []
    for _ in range(job["count"]):
        first, stop = await once(job["port"], endpoint)
        firsts.append(first)
        stops.append(stop)
    middle = job["count"] // 2
    return {"first": sorted(firsts)[middle], "stop": sorted(stops)[middle], "own_share": 0.0}


async def _directly(_port: int, endpoint: Models) -> tuple[float, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    model = await endpoint.connection()
    await reader.read(len(TOKEN))
    came = time.perf_counter()
    await asyncio.sleep(TURN_SECONDS)
    asked = time.perf_counter()
    writer.close()
    closed = await asyncio.wait_for(model.closed, WAIT_SECONDS)
    return came - await model.first_sent, closed - asked


async def _by_agent(port: int, endpoint: Models) -> tuple[float, float]:
    conversation = (await _post(port, "", {}))["conversation_id"]
    follower = await Follower.open(port, conversation)
    await _post(port, f"/{conversation}/message", {"message": str(endpoint.port)})
    model = await endpoint.connection()
    came = await asyncio.wait_for(follower.came, WAIT_SECONDS)
    await asyncio.sleep(TURN_SECONDS)
    asked = time.perf_counter()
    answer = asyncio.ensure_future(
        _post(port, f"/{conversation}/stop-turn", {"turn": follower.turn})
    )
    closed = await asyncio.wait_for(model.closed, WAIT_SECONDS)
    if not (await answer)["stopped"]:
        raise BenchError("a turn that was stopped had ended by itself")
    follower.close()
    return came - await model.first_sent, closed - asked


class Follower:
    """A client by Server-Sent Events: when the first character came, and of which turn."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.turn = -1
        self._writer = writer
        self._reading = asyncio.ensure_future(self._read(reader))

    @classmethod
    async def open(cls, port: int, conversation: str) -> "Follower":
        """Connect, and wait until it follows."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/api/conversations/{conversation}/stream"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b'"type":"open"'), WAIT_SECONDS)
        return cls(reader, writer)

    def close(self) -> None:
        """Leave."""
        self._reading.cancel()
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        data = b""
        while not self.came.done():
            data += await reader.read(65536)
            for name, body in FRAME.findall(data):
                if name == b"delta" and (delta := orjson.loads(body))["type"] == "text":
                    self.turn = delta["turn"]
                    self.came.set_result(time.perf_counter())
                    return


async def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST to a conversation over a connection of its own. Raises BenchError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = json.dumps(body).encode()
    head = (
        f"POST /api/conversations{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
    )
    writer.write(head.encode() + sent)
    status, _, answer = (await asyncio.wait_for(reader.read(), WAIT_SECONDS)).partition(b"\r\n")
    writer.close()
    if b" 200 " not in status:
        raise BenchError(f"POST {path}: {status.decode()} {answer[-300:].decode()}")
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found
