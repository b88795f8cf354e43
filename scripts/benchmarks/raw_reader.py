"""Reads a replay with bare sockets: nothing is parsed while the clock runs."""

import socket
import time
from typing import NamedTuple

import orjson

from benchmarks.clients import BenchError, event_id
from benchmarks.load_latency import client_frame, read_until, upgrade_request

CHUNK = 1 << 18
ONE_EVENT, MANY_EVENTS = b'42["oh_event",', b'42["oh_events",'
MEDIUM, LONG = 126, 127


class Replay(NamedTuple):
    """Seconds from opening the TCP connection to the first event; from asking to the last."""

    first: float
    whole: float


def replay(port: int, conversation: str, latest: int, last: int) -> Replay:
    """Connect with a cursor, read to the event `last`, check that all came once and in order."""
    marker = b'"id":%d,' % last
    chunks: list[bytes] = []
    with socket.socket() as connection:
        connection.settimeout(60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        connection.connect(("127.0.0.1", port))
        connection.sendall(upgrade_request(conversation, latest))
        read_until(connection, b"0{")
        asked = time.perf_counter()
        connection.sendall(client_frame(b"40"))
        first = 0.0
        tail = b""
        while marker not in tail:
            chunk = connection.recv(CHUNK)
            if not chunk:
                raise BenchError("the connection ended in a replay")
            tail = tail[-len(marker) :] + chunk
            chunks.append(chunk)
            if not first and b"42[" in tail:
                first = time.perf_counter() - began
        whole = time.perf_counter() - asked
        data = b"".join(chunks)
        # The last event may not be whole yet; it is checked with the rest.
        data += _rest(connection, data)
    found = [one for one in _ids(data) if latest < one <= last]
    if found != list(range(latest + 1, last + 1)):
        raise BenchError(f"replay gave {len(found)} events, {last - latest} were due")
    return Replay(first, whole)


def _rest(connection: socket.socket, data: bytes) -> bytes:
    rest = b""
    while not _whole(data + rest if len(data) < CHUNK else data[-CHUNK:] + rest):
        rest += connection.recv(CHUNK)
    return rest


def _whole(data: bytes) -> bool:
    return data.endswith(b"]")


def _ids(data: bytes) -> list[int]:
    found: list[int] = []
    place = 0
    while place + 2 <= len(data):
        length = data[place + 1]
        place += 2
        if length == MEDIUM:
            length, place = int.from_bytes(data[place : place + 2], "big"), place + 2
        elif length == LONG:
            length, place = int.from_bytes(data[place : place + 8], "big"), place + 8
        packet = data[place : place + length]
        place += length
        if packet.startswith(ONE_EVENT):
            found.append(event_id(packet))
        elif packet.startswith(MANY_EVENTS):
            found += [event["id"] for event in orjson.loads(packet[2:])[1]]
    return found
