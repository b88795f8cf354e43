"""A client that speaks Engine.IO and Socket.IO by hand, and may behave badly."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.checker import Received
from tests.support.payloads import Payload, is_error_state
from tests.support.waiting import WAIT_SECONDS

CONNECT = "40"
EVENT = '42["oh_event",'


class RawClient:
    """One websocket. Nothing is sent or read unless a method is called.

    `received` holds what came of the log since CONNECT was answered, `cursor` follows it as the
    V0 page's does.
    """

    def __init__(self, connection: ClientConnection, cursor: int) -> None:
        self.connection = connection
        self.cursor = cursor
        self.received = Received(cursor)
        self._ack_ids = count()

    async def packet(self, seconds: float = WAIT_SECONDS) -> str:
        """The next packet as it came; pings are answered. Raises ConnectionClosed."""
        while True:
            async with asyncio.timeout(seconds):
                text = cast("str", await self.connection.recv())
            if text != "2":
                self._note(text)
                return text
            await self.connection.send("3")

    async def connect(self) -> str:
        """Ask for the namespace, and return the answer's packet."""
        await self.connection.send(CONNECT)
        return await self.packet()

    async def event(self, seconds: float = WAIT_SECONDS) -> Payload:
        """The next `oh_event`; acknowledgements are passed over."""
        while not (text := await self.packet(seconds)).startswith(EVENT):
            continue
        return payload_of(text)

    async def emit(self, payload: object, event: str = "oh_user_action") -> None:
        """Emit without asking for an acknowledgement."""
        await self.connection.send(f"42{orjson.dumps([event, payload]).decode()}")

    async def send(self, payload: object, event: str = "oh_user_action") -> Any:
        """Emit, and return the acknowledgement; events that come before it are recorded."""
        ack_id = next(self._ack_ids)
        await self.connection.send(f"42{ack_id}{orjson.dumps([event, payload]).decode()}")
        prefix = f"43{ack_id}["
        while not (text := await self.packet()).startswith(prefix):
            continue
        return orjson.loads(text[len(prefix) - 1 :])[0]

    def stop_reading(self) -> None:
        """Take nothing more from the kernel."""
        self.connection.transport.pause_reading()

    def start_reading(self) -> None:
        """Take from the kernel again."""
        self.connection.transport.resume_reading()

    def cut(self) -> None:
        """End the TCP connection at once."""
        self.connection.transport.abort()

    async def close_code(self, seconds: float = WAIT_SECONDS) -> int:
        """The code the server closes with, reading until then."""
        try:
            while True:
                await self.packet(seconds)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006

    async def wait_cut(self, seconds: float) -> None:
        """Wait until the server has ended the TCP connection, reading nothing."""
        loop = asyncio.get_running_loop()
        happened = asyncio.Event()
        connection = self.connection.transport.get_extra_info("socket")
        # An epoll without events tells of a lost connection alone, and can be waited for itself.
        with select.epoll() as lost:
            lost.register(connection.fileno(), 0)
            loop.add_reader(lost.fileno(), happened.set)
            try:
                async with asyncio.timeout(seconds):
                    await happened.wait()
            finally:
                loop.remove_reader(lost.fileno())

    def _note(self, text: str) -> None:
        if not text.startswith(EVENT):
            return
        payload = payload_of(text)
        if type(payload.get("id")) is int:
            self.received.events.append(payload)
            if not is_error_state(payload):
                self.cursor = payload["id"]


def payload_of(text: str) -> Payload:
    """The payload of an `oh_event` packet."""
    return cast("Payload", orjson.loads(text[len(EVENT) : -1]))


@asynccontextmanager
async def raw_client(
    url: str,
    conversation_id: str,
    *,
    cursor: int = -1,
    query: dict[str, str] | None = None,
    receive_bytes: int | None = None,
) -> AsyncIterator[RawClient]:
    """An open websocket on which CONNECT was not sent yet; cut at the end if still open."""
    address = urlsplit(url)
    asked = {"EIO": "4", "transport": "websocket", "conversation_id": conversation_id}
    asked |= {"latest_event_id": str(cursor)} | (query or {})
    plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.setblocking(False)  # noqa: FBT003 - the socket API
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(plain, (str(address.hostname), int(address.port or 80)))
    except BaseException:
        plain.close()
        raise
    connection = await connect(
        f"ws://{address.netloc}/socket.io/?{urlencode(asked)}",
        sock=plain,
        compression=None,
        ping_interval=None,
        max_size=None,
        proxy=None,
        close_timeout=1,
    )
    client = RawClient(connection, cursor)
    try:
        opening = await client.packet()
        assert opening.startswith("0{"), opening
        yield client
    finally:
        client.cut()
        await connection.wait_closed()
