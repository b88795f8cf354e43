"""The latency of events: a message to another client, and fan-out among readers that do not read."""

import asyncio
import contextlib
import gc
import json
import os
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.clients import (
    BenchError,
    Client,
    Control,
    Receiver,
    connect_all,
    raise_problems,
    until,
)
from benchmarks.payload import FILLER, STAMP_DIGITS

STAMP_KEY = b'"message":"'
USER_MESSAGE = b'"action":"message"'
PAUSE_SECONDS = 0.02


class Listener(Client):
    """Tells when an event with a certain text comes."""

    marker = b""
    came: "asyncio.Future[float] | None" = None

    def on_event(self, data: bytes) -> None:
        """Note the moment."""
        # Agents quote messages in events of their own.
        is_message = USER_MESSAGE in data and b'"source":"user"' in data
        if self.came is not None and is_message and self.marker in data:
            if self.came.done():
                self.problem = "an event came twice"
            else:
                self.came.set_result(time.perf_counter())


async def echo(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds from a message's sending to its event at another client, server idle between."""
    conversation = job.get("conversation")
    if conversation is None:
        control = await Control.open(job["control"])
        (conversation,) = await control.ask("new", echo=True)
    speaker, listener = await connect_all(job["port"], [conversation] * 2, Listener)
    if job.get("quiet"):
        speaker.send(_packet("/quiet"))
    await asyncio.sleep(0.3)
    delays = []
    gc.disable()
    for number in range(job["count"] + 5):
        marker = f"echo {number} of {os.getpid()} "
        listener.came = asyncio.get_running_loop().create_future()
        listener.marker = marker.encode() + FILLER[:8].encode()
        began = time.perf_counter()
        speaker.send(_packet(marker + FILLER))
        delays.append(await asyncio.wait_for(listener.came, 5) - began)
        await asyncio.sleep(PAUSE_SECONDS)
    raise_problems([speaker, listener])
    return {"delays": delays[5:], "own_share": 0.0}


def _packet(content: str) -> bytes:
    action = {"action": "message", "args": {"content": content}}
    return b"42" + json.dumps(["oh_user_action", action]).encode()


class Timed(Receiver):
    """Notes how old each event is when it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[int] = []
        self.noting = False

    def on_event(self, data: bytes) -> None:
        """Compare its stamp with the clock, which all processes share."""
        if self.noting:
            start = data.index(STAMP_KEY) + len(STAMP_KEY)
            stamp = int(data[start : start + STAMP_DIGITS])
            self.delays.append(time.monotonic_ns() - stamp)
        super().on_event(data)


async def slow(job: dict[str, Any]) -> dict[str, Any]:
    """Delays at `clients` good clients while `stalled` others never read.

    First a burst that fills every buffer of those that do not read, then `rate` events a second.
    """
    control = await Control.open(job["control"])
    (conversation,) = await control.ask("new")
    paused_before = (await control.ask("figures"))["paused"]
    clients = await connect_all(job["port"], [conversation] * job["clients"], Timed)
    with contextlib.ExitStack() as stack:
        for _ in range(job["stalled"]):
            stack.enter_context(stalled_connection(job["port"], conversation))
        first = await control.ask("produce", conversation=conversation)
        for client in clients:
            client.begin(first)
        produced = 0
        for _ in range(job["burst"] // 20):
            control.credit(20)
            produced += 20
            await until(_reached(clients[:1], first + produced), "the burst came")
        gc.collect()
        gc.disable()
        for client in clients:
            client.noting = True
        due = time.perf_counter()
        for _ in range(int(job["seconds"] * job["rate"])):
            control.credit(1)
            produced += 1
            due += 1 / job["rate"]
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await until(_reached(clients, first + produced), "all good clients had all events")
        figures = await control.ask("figures")
    raise_problems(clients)
    paused = figures["paused"] - paused_before
    if job["stalled"] and paused < job["stalled"]:
        raise BenchError(f"of {job['stalled']} connections that never read, {paused} were paused")
    delays = sorted(delay for client in clients for delay in client.delays)
    for client in clients:
        client.close()
    return {
        "p50": delays[len(delays) // 2] / 1e9,
        "p99": delays[len(delays) * 99 // 100] / 1e9,
        "paused": paused,
        "aborted": figures["aborted"],
        "own_share": 0.0,
    }


def _reached(clients: Sequence[Receiver], due: int) -> Callable[[], bool]:
    return lambda: all(client.expected == due for client in clients)


@contextlib.contextmanager
def stalled_connection(port: int, conversation: str) -> Iterator[socket.socket]:
    """A connection that is let in and then never reads again."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        connection.sendall(upgrade_request(conversation))
        read_until(connection, b"0{")
        connection.sendall(client_frame(b"40"))
        read_until(connection, b"40{")
        yield connection


def upgrade_request(conversation: str, latest: int = -1) -> bytes:
    """A websocket handshake for a conversation."""
    key = b64encode(os.urandom(16)).decode()
    return (
        f"GET /socket.io/?EIO=4&transport=websocket&conversation_id={conversation}"
        f"&latest_event_id={latest} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def client_frame(payload: bytes) -> bytes:
    """A masked text frame of less than 126 bytes; the mask is zero."""
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def read_until(connection: socket.socket, marker: bytes) -> bytes:
    """Read until a text came. Raises BenchError when the connection ends before."""
    data = b""
    while marker not in data:
        more = connection.recv(65536)
        if not more:
            raise BenchError(f"the connection ended before {marker!r}: {data[-200:]!r}")
        data += more
    return data
