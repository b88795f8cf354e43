"""A client that speaks HTTP and websocket frames by hand, from an address of its choice."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpx
import orjson

from tests.support.clients import message
from tests.support.live import Live
from tests.support.waiting import WAIT_SECONDS

TEXT, BINARY, CLOSE, PING, CONT = 1, 2, 8, 9, 0
ELSEWHERE = "127.0.0.66"
"""An address of this machine to which limits apply."""
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


class Answer:
    """An HTTP answer's head."""

    def __init__(self, head: bytes) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }


class Intruder:
    """One TCP connection."""

    def __init__(self, netloc: str, reader: StreamReader, writer: StreamWriter) -> None:
        self._netloc = netloc
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are. Raises ConnectionError."""
        self._writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            await self._writer.drain()

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send a request and read the head of its answer. Raises EOFError when cut instead."""
        fields = {"Host": self._netloc} | dict(headers or {})
        lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {fields[key]}" for key in fields)]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await self.answer()

    async def answer(self) -> Answer:
        """The head of the next answer."""
        async with asyncio.timeout(WAIT_SECONDS):
            return Answer(await self._reader.readuntil(b"\r\n\r\n"))

    async def body(self, answer: Answer) -> bytes:
        """The body of an answer whose head says how long it is."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._reader.readexactly(int(answer.headers["content-length"]))

    async def rest(self, answer: Answer) -> bytes:
        """Read the body of an answer, after its head."""
        async with asyncio.timeout(WAIT_SECONDS):
            if "content-length" in answer.headers:
                return await self._reader.readexactly(int(answer.headers["content-length"]))
            return await self._reader.readuntil(b"0\r\n\r\n")

    async def opened(self) -> str:
        """The id of the session that a poll has opened, from the answer's body."""
        async with asyncio.timeout(WAIT_SECONDS):
            body = await self._reader.readuntil(b"}")
            await self._reader.readuntil(b"0\r\n\r\n")
        return str(orjson.loads(body[body.index(b"{") :])["sid"])

    async def upgrade(self, query: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for a websocket."""
        target = f"/socket.io/?EIO=4&transport=websocket&{query}"
        return await self.ask("GET", target, WEBSOCKET | dict(headers or {}))

    async def text(self, text: str) -> None:
        """Send a text message."""
        await self.send(frame(TEXT, text.encode()))

    async def message(self) -> str:
        """The next text message; pings are passed over."""
        async with asyncio.timeout(WAIT_SECONDS):
            first, size = await self._reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
            body = await self._reader.readexactly(size)
        return body.decode() if first & 15 == TEXT and body != b"2" else await self.message()

    async def cut(self, seconds: float = WAIT_SECONDS) -> bytes:
        """Read until the server ends the connection; what came."""
        came = b""
        async with asyncio.timeout(seconds):
            with suppress(ConnectionError):
                while part := await self._reader.read(65536):
                    came += part
        return came

    def close(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()


def frame(opcode: int, body: bytes, *, fin: bool = True, announced: int | None = None) -> bytes:
    """A masked frame; it may announce more than it brings."""
    size = len(body) if announced is None else announced
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 2**16:
        head += b"\xfe" + size.to_bytes(2)
    else:
        head += b"\xff" + size.to_bytes(8)
    return head + bytes(4) + body


async def join(live: Live, one: Intruder) -> None:
    """Take a connection into a new conversation."""
    assert (await one.upgrade(f"conversation_id={await live.new()}")).status == 101
    await one.message()
    await one.text("40")
    assert (await one.message()).startswith("40{")


async def still_serves(live: Live) -> None:
    """Check that an honest client is served."""
    async with live.raw(await live.new()) as good:
        await good.connect()
        assert (await good.send(message("/quiet hello")))["status"] == "ok"


async def until_figure(url: str, family: str, wanted: float) -> None:
    """Wait until a figure of the server has a value, by asking for it again and again."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client,
        asyncio.timeout(WAIT_SECONDS),
    ):
        while figure(await client.get("/metrics"), family) != wanted:
            continue


def figure(told: httpx.Response, family: str) -> float:
    """The value of a figure; 0 where it is not told."""
    assert told.status_code == 200, told.text
    lines = [line for line in told.text.splitlines() if line.startswith(f"{family} ")]
    return float(lines[0].partition(" ")[2]) if lines else 0.0


@asynccontextmanager
async def intruder(url: str, source: str = ELSEWHERE) -> AsyncIterator[Intruder]:
    """A connection on which nothing was said yet."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        address.hostname, address.port, local_addr=(source, 0), limit=2**24
    )
    one = Intruder(address.netloc, reader, writer)
    try:
        yield one
    finally:
        one.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
