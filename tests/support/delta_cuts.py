"""Clients that wander between conversations while texts are written, over lines that are cut.

Each holds what it was sent of each conversation, over any number of connections, doors and lives of
the server; what it holds of a text is at any time the beginning of it, or its event.
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import orjson
from websockets.exceptions import WebSocketException

from tests.support.clients import message
from tests.support.crash_run import CrashFigures, unlimited_server
from tests.support.payloads import Payload, ends, recalls
from tests.support.raw_client import EVENT, RawClient, payload_of, raw_client
from tests.support.remote import Remote, remote
from tests.support.seeds import choices
from tests.support.servers import ServerProcess
from tests.support.sse import Frame, SseView, sse_frames
from tests.support.stream_view import StreamView
from tests.support.writing_agent import (
    WritingAgent,
    assert_no_secret,
    plant_secret,
    request,
    shown_of,
)

CONVERSATIONS = 8
WORDS = (50, 700)
WATCH_SECONDS = 2.0
"""The longest time that a client stays."""
SLOW_SECONDS = 0.3
"""The longest time that a slow client reads nothing."""
SLOW_SHARE = 0.25
SMALL_BUFFER = 4096
DELTA = '42["oh_delta",'
GONE = (httpx.HTTPError, WebSocketException, OSError, TimeoutError, StopAsyncIteration)
"""The errors a client is told when its server was killed."""


@dataclass(slots=True)
class DeltaCutFigures(CrashFigures):
    """Figures of a run."""

    cuts: int = 0
    in_text: int = 0
    kills: int = 0
    frames: int = 0
    texts: int = 0
    crashed: int = 0
    doors: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        """See CrashFigures."""
        return (
            f"cuts {self.cuts} ({self.in_text} in the middle of a text), kills {self.kills},"
            f" connections {dict(self.doors)}, frames {self.frames}, texts {self.texts}"
            f" ({self.crashed} cut short by a kill); 0 wrong, 0 letters of the secret"
        )


class Conversation:
    """A conversation, and the texts that were asked for in it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.shown: set[str] = set()

    def check_held(self, view: StreamView) -> None:
        """Every text that a client holds is the beginning of one that was asked for."""
        for held in view.held.values():
            assert any(shown.startswith(held) for shown in self.shown), held[:80]


class Run:
    """The server of a run, its conversations, and what happened so far."""

    def __init__(
        self, server: ServerProcess, random: Random, figures: DeltaCutFigures, cuts: int
    ) -> None:
        self.server = server
        self.random = random
        self.figures = figures
        self.conversations: list[Conversation] = []
        self.serves = asyncio.Event()
        """Set while the server is up."""
        self.serves.set()
        self.enough = asyncio.Event()
        self._cuts = cuts

    def count_cut(self, view: StreamView) -> None:
        """Count a connection that was cut."""
        self.figures.cuts += 1
        self.figures.in_text += bool(view.held)
        if self.figures.cuts >= self._cuts:
            self.enough.set()


async def run_delta_cuts(
    data_dir: Path,
    seed: int,
    cuts: int,
    storage: str,
    *,
    wanderers: int = 64,
    kill_seconds: float = 20.0,
) -> DeltaCutFigures:
    """Cut so often, and kill the server every so many seconds. Raises AssertionError."""
    figures = DeltaCutFigures(seed, storage)
    async with unlimited_server(
        data_dir, storage, agent_class=WritingAgent, max_connections_per_address=1_000
    ) as server:
        run = Run(server, choices(seed), figures, cuts)
        async with remote(server.url) as api:
            await plant_secret(api)
            keys = await api.create_many(CONVERSATIONS)
        run.conversations = [Conversation(key) for key in keys]
        wandering = [Wanderer(run, choices(seed + number)) for number in range(wanderers)]
        async with asyncio.TaskGroup() as tasks:
            for one in run.conversations:
                tasks.create_task(_ask(run, one))
            for wanderer in wandering:
                tasks.create_task(wanderer.wander())
            tasks.create_task(_kill(run, kill_seconds))
        await _settle(run, wandering)
    return figures


async def _ask(run: Run, conversation: Conversation) -> None:
    """Ask for one text after the other, until there are enough cuts."""
    while not run.enough.is_set():
        await run.serves.wait()
        asked = request(run.random.randrange(2**31), run.random.randint(*WORDS))
        conversation.shown.add(shown_of(asked))
        with contextlib.suppress(*GONE):
            async with remote(run.server.url) as api:
                said = await api.post(conversation.key, message(asked))
                await _turn_ends(run, conversation.key, int(said["id"]))


async def _turn_ends(run: Run, key: str, after: int) -> None:
    """Wait until a turn has ended behind an event."""
    async with sse_frames(run.server.url, key, str(after), deltas=0, end="turn") as frames:
        async for _ in frames:
            pass


async def _finished(run: Run, api: Remote, conversation: Conversation) -> list[Payload]:
    """Have every message answered that a kill left open; the log then."""
    asked = request(0, WORDS[0])
    conversation.shown.add(shown_of(asked))
    await api.post(conversation.key, message(asked))
    while True:
        log = await api.log(conversation.key)
        marks = recalls(log)
        ended = {one["turn"] for one in ends(log)}
        said = {one["id"] for one in log if _is_asked(one)}
        taken_up = {one["cause"] for one in marks}
        if said <= taken_up and {one.get("turn", one["id"]) for one in marks} <= ended:
            return log
        await _turn_ends(run, conversation.key, log[-1]["id"])


def _is_asked(event: Payload) -> bool:
    return event["source"] == "user" and event.get("action") == "message"


async def _kill(run: Run, seconds: float) -> None:
    while not run.enough.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await run.enough.wait()
                return
        run.serves.clear()
        await run.server.kill()
        run.figures.kills += 1
        await run.server.start()
        run.serves.set()


class Wanderer:
    """A client that connects somewhere, stays a while, is cut, and comes back where it was."""

    def __init__(self, run: Run, chance: Random) -> None:
        self.views: dict[str, SseView] = {}
        self._run = run
        self._chance = chance
        self._door = ("sse", "socket")[chance.randrange(2)]

    async def wander(self) -> None:
        """Wander until there are enough cuts."""
        run = self._run
        while not run.enough.is_set():
            await run.serves.wait()
            conversation = self._chance.choice(run.conversations)
            view = self.views.setdefault(f"{self._door} {conversation.key}", SseView())
            run.figures.doors[self._door] += 1
            watch = self._watch_sse if self._door == "sse" else self._watch_socket
            with contextlib.suppress(*GONE):
                async with asyncio.timeout(self._chance.uniform(0, WATCH_SECONDS)):
                    await watch(conversation, view)
            run.count_cut(view)

    async def _watch_sse(self, conversation: Conversation, view: SseView) -> None:
        async with sse_frames(self._run.server.url, conversation.key, view.cursor) as frames:
            async for frame in frames:
                take_sse(self._run, conversation, view, frame)
                await self._rest()

    async def _watch_socket(self, conversation: Conversation, view: SseView) -> None:
        buffer = SMALL_BUFFER if self._chance.random() < SLOW_SHARE else None
        async with socket_of(self._run, conversation, view, buffer) as client:
            await client.connect()
            while True:
                text = await client.packet(seconds=20.0)
                take_socket(self._run, conversation, view, text)
                await self._rest()

    async def _rest(self) -> None:
        """Read nothing for a while, as a slow client now and then."""
        if self._chance.random() < SLOW_SHARE / 10:
            await asyncio.sleep(self._chance.uniform(0, SLOW_SECONDS))


def take_sse(run: Run, conversation: Conversation, view: SseView, frame: Frame) -> None:
    """Hold a frame of an event stream, and check it."""
    run.figures.frames += 1
    assert_no_secret(orjson.dumps(frame.data).decode())
    view.take(frame)
    conversation.check_held(view)


def take_socket(run: Run, conversation: Conversation, view: StreamView, text: str) -> None:
    """Hold a packet of a socket, and check it."""
    if not text.startswith((EVENT, DELTA)):
        return
    run.figures.frames += 1
    assert_no_secret(text)
    if text.startswith(DELTA):
        view.take_delta(orjson.loads(text[len(DELTA) : -1]))
    elif type((payload := payload_of(text)).get("id")) is int:
        view.take_event(payload)
    conversation.check_held(view)


def socket_of(
    run: Run, conversation: Conversation, view: StreamView, buffer: int | None = None
) -> contextlib.AbstractAsyncContextManager[RawClient]:
    """Return a socket that asks for what comes behind a view."""
    held = ",".join(f"{one}:{len(text)}" for one, text in view.held.items())
    return raw_client(
        run.server.url,
        conversation.key,
        cursor=max(view.ids, default=-1),
        query={"deltas": held or "1"},
        receive_bytes=buffer,
    )


async def _settle(run: Run, wandering: list[Wanderer]) -> None:
    """Have every client read to the end: it holds the log's texts, and nothing else."""
    async with remote(run.server.url) as api:
        for conversation in run.conversations:
            log = await _finished(run, api, conversation)
            said = [one for one in log if "partial" in one]
            partials = [one["partial"] for one in said]
            assert len(set(partials)) == len(partials), "a text is in the log twice"
            for event in said:
                text = event["args"]["content"]
                if "interrupted" in event:
                    assert event["interrupted"] == "crashed", event
                    assert any(shown.startswith(text) for shown in conversation.shown)
                    run.figures.crashed += 1
                else:
                    assert text in conversation.shown
            run.figures.texts += len(said)
            for wanderer in wandering:
                for name, view in wanderer.views.items():
                    door, _, key = name.partition(" ")
                    if key == conversation.key:
                        await _read_to_end(run, conversation, view, door, log[-1]["id"])
                        assert view.held == {}
                        assert [one for one in view.events if "partial" in one] == said


async def _read_to_end(
    run: Run, conversation: Conversation, view: SseView, door: str, last_id: int
) -> None:
    if door == "sse":
        url = run.server.url
        async with sse_frames(url, conversation.key, view.cursor, end="now") as frames:
            async for frame in frames:
                take_sse(run, conversation, view, frame)
        assert view.ids[-1] >= last_id
        return
    opened = view.opened
    async with socket_of(run, conversation, view) as client:
        await client.connect()
        while view.opened == opened:
            take_socket(run, conversation, view, await client.packet(seconds=20.0))
