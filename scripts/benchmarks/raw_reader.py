"""Reads a replay with bare sockets: nothing is parsed while the clock runs."""

import socket
import time
from typing import NamedTuple

import orjson

from benchmarks.clients import BenchError, event_id
from benchmarks.load_latency import client_frame, read_until, upgrade_request

BUFFER_BYTES = 80_000_000
"""More than 100,000 events; what comes is neither copied nor looked through while the clock runs."""
WINDOW_BYTES = 4 << 20
"""Of the receiver: it must not be the limit while the kernel learns how large it may be."""
TAIL_BYTES = 4096
"""The last event is looked for in so much of what came last."""
ONE_EVENT, MANY_EVENTS = b'42["oh_event",', b'42["oh_events",'
MEDIUM, LONG = 126, 127

_buffer = bytearray(b"\1") * BUFFER_BYTES  # written once, so that the system has given every page


class Replay(NamedTuple):
    """Seconds from opening the TCP connection to the first event; from asking to the last."""

    first: float
    whole: float


def replay(port: int, conversation: str, latest: int, last: int) -> Replay:
    """Connect with a cursor, read to the event `last`, check that all came once and in order."""
    marker = b'"id":%d,' % last
    view = memoryview(_buffer)
    with socket.socket() as connection:
        connection.settimeout(60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        began = time.perf_counter()
        connection.connect(("127.0.0.1", port))
        connection.sendall(upgrade_request(conversation, latest))
        read_until(connection, b"0{")
        asked = time.perf_counter()
        connection.sendall(client_frame(b"40"))
        first = 0.0
        filled = 0
        while _buffer.find(marker, max(0, filled - TAIL_BYTES), filled) < 0:
            filled = _more(connection, view, filled)
            if not first and _buffer.find(b"42[", 0, filled) >= 0:
                first = time.perf_counter() - began
        whole = time.perf_counter() - asked
        # The last event may not be whole yet; it is checked with the rest.
        while _buffer[filled - 1 : filled] != b"]":
            filled = _more(connection, view, filled)
    found = [one for one in _ids(bytes(view[:filled])) if latest < one <= last]
    if found != list(range(latest + 1, last + 1)):
        raise BenchError(f"replay gave {len(found)} events, {last - latest} were due")
    return Replay(first, whole)


def _more(connection: socket.socket, view: memoryview, filled: int) -> int:
    count = connection.recv_into(view[filled:])
    if not count:
        raise BenchError("the connection ended in a replay")
    return filled + count


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
