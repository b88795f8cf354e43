"""A model's endpoint as the clients of OpenAI, Anthropic and Google know it: scripted, killable, and it notes who left when.

The path of a request says whose interface it is; one that this provider would refuse is refused.
It speaks HTTP/1.1 by hand, because most of what it is for no server library does: answers that stop
in the middle of a frame or of a character, that never come, or whose connection is reset.
"""

import asyncio
import gzip
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from tests.support.model_wires import (
    Frames,
    OpenAIWire,
    Told,
    Wire,
    address_of,
    wire_of,
)
from tests.support.waiting import WAIT_SECONDS

PLANTED = "sk-planted-in-an-error-body-123456"
"""Stands in the bodies of errors, as some providers quote the key; nobody may ever see it."""
PLANTED_BODY = "planted words of a body"
"""Stand there too: they look like no key, so that nothing would mask them."""
PLANTED_HEADER = "planted-in-a-header-654321"
"""Stands in a header of every response, with the same promise."""
FAULTY = f"{PLANTED_BODY}, key {PLANTED}"
"""The text of every body that is faulty."""
HUGE_TOKENS = 20_000


@dataclass
class ModelRequest:
    """One request: what was asked, and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    sent: int = 0
    """Tokens sent."""
    finished: bool = False
    """Whether the whole answer was sent."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client's connection has ended."""
    left_at: float | None = None
    """When that was, on the loop's clock."""
    came_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When it came, on the same clock."""

    @property
    def wire(self) -> Wire:
        """The request as its provider's interface has it."""
        return wire_of(self.path, self.body)

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self.wire.model

    @property
    def told(self) -> list[Told]:
        """The conversation in the request, whichever interface it is."""
        return self.wire.told

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The request's messages, of OpenAI's interface."""
        return list(self.body.get("messages", ()))

    @property
    def said(self) -> list[tuple[str, str]]:
        """The roles and texts of the request's messages, of OpenAI's interface."""
        return [(one["role"], one.get("content") or "") for one in self.messages]


class Reply:
    """One request's way back, and the pace at which tokens go."""

    def __init__(self, endpoint: "ModelEndpoint", request: ModelRequest, out: StreamWriter) -> None:
        self.request = request
        self.wire = request.wire
        self._endpoint = endpoint
        self._out = out

    async def head(
        self,
        status: int = 200,
        *,
        kind: str = "text/event-stream",
        encoding: str = "identity",
        **headers: str,
    ) -> None:
        """Send the status and the headers of a stream."""
        fields = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
        fields["Content-Encoding"] = encoding
        fields |= {"Connection": "close", "X-Request-Id": PLANTED_HEADER, **headers}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {text}" for name, text in fields.items())]
        await self._write("\r\n".join((*lines, "", "")).encode())

    async def error(self, status: int, code: str, **headers: str) -> None:
        """Send an error as the API does, with a planted key in its text."""
        refusal = self.wire.refusal(status, code, FAULTY, headers)
        body = orjson.dumps(refusal.body)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        fields |= {"Connection": "close", "X-Request-Id": PLANTED_HEADER, **refusal.headers}
        lines = [
            f"HTTP/1.1 {refusal.status} X",
            *(f"{name}: {text}" for name, text in fields.items()),
        ]
        await self._write("\r\n".join((*lines, "", "")).encode() + body)
        self.request.finished = True

    async def delta(self, delta: dict[str, Any], finish: str | None = None) -> None:
        """Send a chunk of the stream, of OpenAI's interface."""
        assert isinstance(self.wire, OpenAIWire)
        await self.frames(self.wire.delta(delta, finish))

    async def frames(self, frames: Frames) -> None:
        """Send frames, each as a chunk."""
        for frame in frames:
            await self.raw(frame)

    async def raw(self, data: bytes) -> None:
        """Send bytes of the stream as one chunk."""
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def text(self, text: str) -> None:
        """Send a text, token by token; where the endpoint is stepped, one for each `step`."""
        await self._tokens(text, self.wire.text)

    async def thought(self, text: str) -> None:
        """Send a thought, as a text."""
        await self._tokens(text, self.wire.thought)

    async def _tokens(self, text: str, frames_of: Callable[[str], Frames]) -> None:
        for token in tokens_of(text):
            await self._endpoint.next_step()
            await self.frames(frames_of(token))
            self.request.sent += 1

    async def end(self, finish: str = "stop", *, usage: bool = True) -> None:
        """Send the end of an answer."""
        await self.frames(self.wire.end(finish, usage=usage))
        await self.over()

    async def over(self) -> None:
        """Send the end of the stream."""
        await self._write(b"0\r\n\r\n")
        self.request.finished = True

    async def before_fault(self) -> None:
        """Wait for what the endpoint waits for."""
        await self._endpoint.before_fault(self)

    async def hang(self) -> None:
        """Send nothing more until the client has left."""
        await asyncio.wait_for(self.request.left.wait(), WAIT_SECONDS)

    def reset(self) -> None:
        """Cut the connection with a reset."""
        connection = self._out.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._out.transport.abort()

    async def _write(self, data: bytes) -> None:
        self._out.write(data)
        await self._out.drain()


Answer: TypeAlias = Callable[[Reply], Awaitable[None]]
"""Sends one answer."""


class ModelEndpoint:
    """Answers requests for an answer in a stream, each with the next answer of its script.

    When the script is at its end, `otherwise` answers, and `plain` unless it was set.
    """

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.faults: list[str] = []
        """Why requests were refused that had not the form which their provider asks for."""
        self.script: deque[Answer] = deque()
        self.otherwise: Answer = plain()
        self.before_fault: Answer = _at_once
        """Awaited between the tokens of an answer and what goes wrong with it."""
        self.port = 0
        self._steps: asyncio.Semaphore | None = None
        self._server: asyncio.Server | None = None
        self._handling: set[asyncio.Task[None]] = set()
        self._asked = asyncio.Condition()

    @property
    def url(self) -> str:
        """The base address that clients of OpenAI's interface are given."""
        return self.url_of("openai")

    def url_of(self, provider: str) -> str:
        """Return the base address that clients of that provider's interface are given."""
        return address_of(provider, f"http://127.0.0.1:{self.port}")

    def say(self, *answers: Answer) -> None:
        """Answer the next requests so."""
        self.script.extend(answers)

    def hold(self) -> None:
        """From now on send a token for each `step` only."""
        self._steps = asyncio.Semaphore(0)

    def step(self, tokens: int = 1) -> None:
        """Let so many tokens go."""
        assert self._steps is not None, "hold first"
        for _ in range(tokens):
            self._steps.release()

    async def next_step(self) -> None:
        """Wait until a token may go."""
        if self._steps is not None:
            await self._steps.acquire()

    async def request(self, number: int, seconds: float = WAIT_SECONDS) -> ModelRequest:
        """Return the request of that number, from 0, waiting for it."""
        async with asyncio.timeout(seconds), self._asked:
            await self._asked.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    async def start(self) -> None:
        """Listen; on the port it had before, if it had one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Be gone: nobody listens, and what was open is cut."""
        assert self._server is not None
        self._server.close()
        for task in self._handling:
            task.cancel()
        if self._handling:
            await asyncio.wait(self._handling)
        await self._server.wait_closed()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        try:
            request = await self._read(reader)
            if request is None:
                return
            self.requests.append(request)
            async with self._asked:
                self._asked.notify_all()
            fault = request.wire.fault()
            if fault is not None:
                self.faults.append(fault)
                await Reply(self, request, writer).error(400, fault)
                return
            answer = self.script.popleft() if self.script else self.otherwise
            watching = asyncio.create_task(self._watch(reader, request))
            try:
                await answer(Reply(self, request, writer))
            finally:
                watching.cancel()
                await asyncio.wait([watching])
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._handling.discard(task)
            writer.close()

    async def _read(self, reader: StreamReader) -> ModelRequest | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): text.strip() for name, _, text in (one.partition(":") for one in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return ModelRequest(first.split(" ")[1], headers, orjson.loads(body) if body else {})

    async def _watch(self, reader: StreamReader, request: ModelRequest) -> None:
        """Note when the client leaves; each connection serves one request."""
        with suppress(ConnectionError):
            await reader.read(1)
        request.left_at = asyncio.get_running_loop().time()
        request.left.set()


async def _at_once(_reply: Reply) -> None:
    return


def tokens_of(text: str) -> Sequence[str]:
    """Return a text in tokens: its words, each with the space behind it."""
    words = text.split(" ")
    return [f"{word} " for word in words[:-1]] + words[-1:]


def plain(text: str = "Good morning to you.", *, usage: bool = True) -> Answer:
    """Answer with a text."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        await reply.text(text)
        await reply.end(usage=usage)

    return answer


def empty() -> Answer:
    """Answer with no text at all."""
    return plain("")


def declined() -> Answer:
    """Answer nothing, because the provider does not let the model."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        await reply.end("content_filter")

    return answer


def huge(tokens: int = HUGE_TOKENS) -> Answer:
    """Answer with very many tokens."""
    return plain("word " * tokens)


def reasoning(thought: str = "Let me see.", text: str = "Yes.", *, signature: str = "") -> Answer:
    """Answer with a thought, signed or not, and a text; a thought without words is not shown."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        if thought:
            await reply.thought(thought)
        if signature:
            await reply.frames(reply.wire.signed(signature))
        await reply.text(text)
        await reply.end()

    return answer


def hang(after: int | None = None, text: str = "Good morning to you, and so on.") -> Answer:
    """Send no head at all, or so many tokens, and then nothing until the client has left."""

    async def answer(reply: Reply) -> None:
        if after is not None:
            await reply.head()
            await reply.text("".join(tokens_of(text)[:after]))
        await reply.hang()

    return answer


def cut(after: int, text: str = "Good morning to you, and so on.") -> Answer:
    """Send so many tokens, then reset the connection."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        await reply.text("".join(tokens_of(text)[:after]))
        if after:
            await reply.before_fault()
        reply.reset()

    return answer


def half_a_frame(text: str = "Good morning") -> Answer:
    """Send a text, then half a frame, and end."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        await reply.text(text)
        (frame,) = reply.wire.text(", and so on")
        await reply.raw(frame[: len(frame) // 2] + FAULTY.encode())
        reply.reset()

    return answer


def split_characters(text: str = "Größe: 1 €, gut 🙂") -> Answer:
    """Send a text whose frames are cut within its characters."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        for byte in b"".join(reply.wire.text(text)):
            await reply.raw(bytes((byte,)))
        await reply.end()

    return answer


def calls(
    *called: tuple[str, str],
    text: str = "",
    thought: str = "",
    signature: str = "",
    usage: bool = True,
) -> Answer:
    """Call tools, each a name and the JSON of its arguments, all at once; after a thought and a text."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        if thought:
            await reply.thought(thought)
        if signature:
            await reply.frames(reply.wire.signed(signature))
        if text:
            await reply.text(text)
        for place, (name, arguments) in enumerate(called):
            await reply.frames(reply.wire.call(place, name, arguments))
        await reply.end("tool_calls", usage=usage)

    return answer


def error_in_stream(after: int, text: str = "Good morning to you, and so on.") -> Answer:
    """Send so many tokens, then an error in the place of the rest."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        await reply.text("".join(tokens_of(text)[:after]))
        await reply.before_fault()
        await reply.frames(reply.wire.broken(FAULTY))
        await reply.over()

    return answer


def no_model() -> Answer:
    """Answer with something that is no answer of a model at all."""

    async def answer(reply: Reply) -> None:
        await reply.head(kind="text/html")
        await reply.raw(f"<html><body>{FAULTY}</body></html>".encode())
        await reply.over()

    return answer


def endless() -> Answer:
    """Send a line that does not end, until the client has left."""

    async def answer(reply: Reply) -> None:
        await reply.head()
        await reply.raw(FAULTY.encode())
        while not reply.request.left.is_set():
            await reply.raw(b"x" * 2**20)

    return answer


def compressed() -> Answer:
    """Send a stream that is compressed, although nobody has asked for that."""

    async def answer(reply: Reply) -> None:
        await reply.head(encoding="gzip")
        await reply.raw(gzip.compress(FAULTY.encode() + b"x" * 2**20))
        await reply.over()

    return answer


def garbage_arguments() -> Answer:
    """Call a tool with arguments that are no JSON."""
    return calls(("run", '{"command": "echo'))


def unknown_tool() -> Answer:
    """Call a tool that there is not."""
    return calls(("teleport", '{"to": "the moon"}'))


def refused(status: int, code: str = "refused", **headers: str) -> Answer:
    """Refuse: 401, 429 (`**{"Retry-After": "1"}`), 500, or 400 with `context_length_exceeded`."""

    async def answer(reply: Reply) -> None:
        await reply.error(status, code, **headers)

    return answer


def slow(seconds: float, text: str = "Good morning to you.") -> Answer:
    """Send the head and every token so many seconds after what came before."""

    async def answer(reply: Reply) -> None:
        await asyncio.sleep(seconds)
        await reply.head()
        for token in tokens_of(text):
            await asyncio.sleep(seconds)
            await reply.text(token)
        await reply.end()

    return answer


def slow_headers(release: asyncio.Event, text: str = "At last.") -> Answer:
    """Send nothing until `release` is set, then a text."""

    async def answer(reply: Reply) -> None:
        await asyncio.wait_for(release.wait(), WAIT_SECONDS)
        await plain(text)(reply)

    return answer


@asynccontextmanager
async def model_endpoint() -> AsyncIterator[ModelEndpoint]:
    """An endpoint that listens until the block is left."""
    endpoint = ModelEndpoint()
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.kill()
