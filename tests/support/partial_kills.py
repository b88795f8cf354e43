"""Rounds of: have texts written, SIGKILL in the middle, start again, compare with what was stored."""

import asyncio
import contextlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import httpx
import orjson

from events.checkpoints import Checkpoint, CheckpointedText
from events.stores.base import PARTIALS, EventStore
from events.stores.opening import open_event_store
from storage.opening import open_storage
from tests.support.clients import message
from tests.support.crash_run import CrashFigures, unlimited_server
from tests.support.crashing import config_of
from tests.support.payloads import Payload, is_answer, recalls
from tests.support.remote import Remote, remote
from tests.support.seeds import choices
from tests.support.servers import ServerProcess
from tests.support.sse import SseView, sse_frames
from tests.support.waiting import WAIT_SECONDS
from tests.support.writing_agent import (
    WritingAgent,
    assert_no_secret,
    plant_secret,
    request,
    shown_of,
)

CONVERSATIONS = 4
WORDS = 2_000
KILL_SECONDS = (0.1, 2.2)
AGAIN_SECONDS = 0.05
"""The longest time until the kill of a server that is recovering texts."""
AGAIN_EVERY = 4


@dataclass(slots=True)
class PartialKillFigures(CrashFigures):
    """Figures of a run of rounds."""

    kills: int = 0
    texts: int = 0
    recovered: int = 0
    shown: int = 0
    kept: int = 0
    held_more: int = 0
    most_lost_seconds: float = 0.0
    """Seconds before its kill at which a client had been shown the oldest piece that was lost."""

    def summary(self) -> str:
        """See CrashFigures."""
        return (
            f"kills {self.kills}, texts {self.texts}, of these recovered {self.recovered},"
            f" characters shown {self.shown}, kept {self.kept}, clients that held more"
            f" {self.held_more}, by at most {self.most_lost_seconds:.2f} s;"
            " 0 checkpoints lost, 0 twice, 0 letters of the secret"
        )


@dataclass
class Watched:
    """A conversation in which a text is written, and what a client of it was sent, and when."""

    key: str
    asked: str
    view: SseView = field(default_factory=SseView)
    shown: list[tuple[float, int]] = field(default_factory=list)

    @property
    def held(self) -> str:
        """The text held now."""
        return next(iter(self.view.held.values()), "")

    def held_more_since(self, kept: int) -> float | None:
        """When it first held more than so many characters; None if it never did."""
        return next((at for at, length in self.shown if length > kept), None)


@dataclass
class Stored:
    """The remains of a conversation after a kill: the agent's messages, and texts that are to become some."""

    said: Sequence[Payload]
    unfinished: Sequence[CheckpointedText]


async def run_partial_kills(
    data_dir: Path, seed: int, kills: int, storage: str
) -> PartialKillFigures:
    """Kill and compare so often over one data directory. Raises AssertionError."""
    random = choices(seed)
    figures = PartialKillFigures(seed, storage)
    async with unlimited_server(data_dir, storage, agent_class=WritingAgent) as server:
        async with remote(server.url) as api:
            await plant_secret(api)
        while figures.kills < kills:
            async with remote(server.url) as api:
                await _round(server, api, random, figures)
    return figures


async def _round(
    server: ServerProcess, api: Remote, random: Random, figures: PartialKillFigures
) -> None:
    watched = [
        Watched(key, request(random.randrange(2**31), WORDS))
        for key in await api.create_many(CONVERSATIONS)
    ]
    for one in watched:
        await api.post(one.key, message(one.asked))
    all_begun, killed = asyncio.Event(), asyncio.Event()
    begun: set[str] = set()

    async def watch(one: Watched) -> None:
        try:
            async with sse_frames(server.url, one.key) as frames:
                async for frame in frames:
                    assert_no_secret(orjson.dumps(frame.data).decode())
                    one.view.take(frame)
                    if one.held:
                        one.shown.append((asyncio.get_running_loop().time(), len(one.held)))
                        begun.add(one.key)
                        if len(begun) == len(watched):
                            all_begun.set()
        except httpx.HTTPError:
            assert killed.is_set(), "a stream broke off while the server was up"
        finally:
            all_begun.set()  # what is wrong here is to be told, not a deadline

    watching = [asyncio.create_task(watch(one)) for one in watched]
    async with asyncio.timeout(WAIT_SECONDS):
        await all_begun.wait()
    await asyncio.sleep(random.uniform(*KILL_SECONDS))
    killed.set()
    killed_at = asyncio.get_running_loop().time()
    await server.kill()
    figures.kills += 1
    await asyncio.gather(*watching)
    left = await _stored(server.data_dir, figures.storage, watched)
    await server.start()
    if figures.kills % AGAIN_EVERY == 0:
        await _kill_again(server, watched, random)
        figures.kills += 1
    for one in watched:
        await _check(server, api, one, left[one.key], killed_at, figures)


async def _kill_again(server: ServerProcess, watched: list[Watched], random: Random) -> None:
    """Open every conversation, so that its text is recovered, and kill in the middle of that."""

    async def opened(one: Watched) -> None:
        async with remote(server.url) as api:
            with contextlib.suppress(httpx.HTTPError):
                await api.log(one.key)

    opening = [asyncio.create_task(opened(one)) for one in watched]
    await asyncio.sleep(random.uniform(0, AGAIN_SECONDS))
    await server.kill()
    await asyncio.gather(*opening)
    await server.start()


async def _stored(data_dir: Path, storage: str, watched: Sequence[Watched]) -> Mapping[str, Stored]:
    """Read what is stored, in a copy: the server is to find it as the kill left it."""
    with TemporaryDirectory(prefix="parley-kills-") as folder:
        copied = Path(folder) / "data"
        await asyncio.to_thread(shutil.copytree, data_dir, copied)
        async with open_storage(config_of(storage, copied)) as opened, AsyncExitStack() as stack:
            store = await open_event_store(opened, stack)
            return {one.key: await _stored_of(store, one.key) for one in watched}


async def _stored_of(store: EventStore, key: str) -> Stored:
    log = [orjson.loads(event.body) for event in await store.read(key, 0, 2**31)]
    body = (await store.asides(key)).get(PARTIALS)
    texts = () if body is None else Checkpoint.decode(body).texts
    named = {event.get("partial") for event in log}
    unfinished = [text for text in texts if text.id not in named and text.text.strip()]
    return Stored([event for event in log if is_answer(event)], unfinished)


async def _check(
    server: ServerProcess,
    api: Remote,
    one: Watched,
    left: Stored,
    killed_at: float,
    figures: PartialKillFigures,
) -> None:
    shown, held, partials = shown_of(one.asked), one.held, set(one.view.held)
    assert shown.startswith(held)
    async with sse_frames(server.url, one.key, one.view.cursor, end="now") as frames:
        async for frame in frames:
            assert_no_secret(orjson.dumps(frame.data).decode())
            one.view.take(frame)
    assert one.view.held == {}, "neither an event nor `open` told of a text"
    said = [event for event in await api.log(one.key) if is_answer(event)]
    assert said == [event for event in one.view.events if is_answer(event)]
    recovered = said[len(left.said) :]
    assert said[: len(left.said)] == left.said
    turn = recalls(one.view.events)[0]["id"]
    assert [
        (event["partial"], event["args"]["content"], event["interrupted"], event["turn"])
        for event in recovered
    ] == [(text.id, text.text, "crashed", turn) for text in left.unfinished]
    texts = {event["partial"]: event["args"]["content"] for event in said}
    assert all(shown.startswith(text) for text in texts.values())
    kept = sum(len(texts.get(partial, "")) for partial in partials)
    figures.texts += 1
    figures.recovered += bool(recovered)
    figures.shown += len(held)
    figures.kept += kept
    figures.held_more += len(held) > kept
    since = one.held_more_since(kept)
    if held and since is not None:
        figures.most_lost_seconds = max(figures.most_lost_seconds, killed_at - since)
