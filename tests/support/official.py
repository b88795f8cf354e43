"""The official client under Node, driven from Python."""

import asyncio
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tests.support.checker import Received
from tests.support.payloads import Payload
from tests.support.waiting import WAIT_SECONDS

FOLDER = Path(__file__).parents[1] / "node"
LINE_BYTES = 16 * 1024 * 1024
TRY_SECONDS = 5.0


class Answer(NamedTuple):
    """The acknowledgement of one event, and how often it was sent."""

    body: dict[str, Any]
    tries: int


class Joining(NamedTuple):
    """The request of a connection, and when (Unix seconds) it was told that it is connected."""

    latest_event_id: str
    at: float


def assert_installed() -> None:
    """Assert that Node and the official client are installed."""
    client = FOLDER / "node_modules" / "socket.io-client"
    assert shutil.which("node"), "Node is not installed; scripts/setup-tools does that"
    assert client.is_dir(), "the official client is not installed; scripts/setup-tools does that"


class OfficialClient:
    """One process with one client; what it tells is kept, by connection and in order."""

    def __init__(self, process: Process) -> None:
        self.connections: list[Received] = []
        self.joinings: list[Joining] = []
        self.payloads: list[Payload] = []
        self.answers: dict[int, Answer] = {}
        self.unanswered = 0
        self.disconnects: list[str] = []
        self.refusals: list[dict[str, Any]] = []
        self.others: list[str] = []
        """Names of what came besides `oh_event`."""
        self._by_id: dict[str, Received] = {}
        self._numbers = count()
        self._process = process
        self._changed = asyncio.Condition()

    async def join(
        self, url: str, conversation_id: str | None, *, cursor: object = -1, **options: Any
    ) -> None:
        """Begin to connect, with the query the page sends."""
        query = {"latest_event_id": cursor, "providers_set": [], "session_api_key": None}
        if conversation_id is not None:
            query["conversation_id"] = conversation_id
        await self._order("join", url=url, query=query, options=options)

    async def begin_send(self, payload: Payload, seconds: float = TRY_SECONDS) -> int:
        """Send until acknowledged, also over reconnections; the number of its answer."""
        number = next(self._numbers)
        await self._order("send", number=number, payload=payload, timeout_ms=seconds * 1000)
        return number

    async def send(self, payload: Payload) -> dict[str, Any]:
        """Send, and return the acknowledgement."""
        number = await self.begin_send(payload)
        await self.until(lambda: number in self.answers)
        return self.answers[number].body

    async def until(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait until the condition holds; it is looked at whenever something was told."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def has(self, event_id: int) -> bool:
        """Whether the newest connection has got so far."""
        return any(event["id"] >= event_id for one in self.connections[-1:] for event in one.events)

    async def read(self) -> None:
        """Take in what is told until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self._note(orjson.loads(line))
            async with self._changed:
                self._changed.notify_all()

    async def _order(self, what: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"do": what} | fields) + b"\n")
        await self._process.stdin.drain()

    def _note(self, told: dict[str, Any]) -> None:
        match told["told"]:
            case "connection":
                text = told["latest_event_id"]
                cursor = int(text) if text.lstrip("-").isdigit() else -1
                self.joinings.append(Joining(text, told["at"] / 1000))
                self.connections.append(Received(cursor))
                self._by_id[told["id"]] = self.connections[-1]
            case "event":
                self.payloads.append(told["payload"])
                if type(told["payload"].get("id")) is int:
                    self._by_id[told["id"]].events.append(told["payload"])
            case "answer":
                self.answers[told["number"]] = Answer(told["answer"], told["tries"])
            case "unanswered":
                self.unanswered += 1
            case "disconnect":
                self.disconnects.append(told["reason"])
            case "other":
                self.others.append(told["name"])
            case _:
                self.refusals.append(told)


@asynccontextmanager
async def official_client() -> AsyncIterator[OfficialClient]:
    """A running client that has not joined yet; ended with the block."""
    assert_installed()
    process = await asyncio.create_subprocess_exec(
        "node", "client.mjs", stdin=PIPE, stdout=PIPE, cwd=FOLDER, limit=LINE_BYTES
    )
    client = OfficialClient(process)
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
