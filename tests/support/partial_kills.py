"""Rounds of: have texts written, SIGKILL in the middle, start again, compare with what was shown."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import orjson

from tests.support.checker import Payload
from tests.support.clients import message
from tests.support.remote import Remote, remote
from tests.support.seeds import choices
from tests.support.servers import ServerProcess, server_process
from tests.support.sse import SseView, sse_frames
from tests.support.writing_agent import SECRET_LETTERS, SETTINGS, plant_secret, request, shown_of

CONVERSATIONS = 4
WORDS = 2_000
KILL_SECONDS = (0.1, 2.2)
SHOWN_BEFORE_SECONDS = 1.5
"""What was shown so long before a kill is in the log after it."""
AGAIN_SECONDS = 0.05
"""The longest time until the kill of a server that is recovering texts."""
AGAIN_EVERY = 4


@dataclass(slots=True)
class PartialKillFigures:
    """What a run of rounds did."""

    seed: int
    storage: str
    kills: int = 0
    texts: int = 0
    recovered: int = 0
    shown: int = 0
    kept: int = 0
    held_more: int = 0

    def __str__(self) -> str:
        return (
            f"{self.storage}, seed {self.seed}: kills {self.kills}, texts {self.texts}, of these"
            f" recovered {self.recovered}, characters shown {self.shown}, kept {self.kept},"
            f" clients that held more {self.held_more}; 0 lost, 0 twice, 0 letters of the secret"
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

    def shown_at(self, moment: float) -> int:
        """Characters that were held at a moment."""
        return max((length for at, length in self.shown if at <= moment), default=0)


async def run_partial_kills(
    data_dir: Path, seed: int, kills: int, storage: str
) -> PartialKillFigures:
    """Kill and compare so often over one data directory. Raises AssertionError."""
    random = choices(seed)
    figures = PartialKillFigures(seed, storage)
    environment = SETTINGS | {"PARLEY_STORAGE": storage}
    async with server_process(data_dir, environment=environment) as server:
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
                    assert not SECRET_LETTERS.intersection(_text(frame.data))
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
    async with asyncio.timeout(20):
        await all_begun.wait()
    await asyncio.sleep(random.uniform(*KILL_SECONDS))
    killed.set()
    killed_at = asyncio.get_running_loop().time()
    await server.kill()
    figures.kills += 1
    await asyncio.gather(*watching)
    await server.start()
    if figures.kills % AGAIN_EVERY == 0:
        await _kill_again(server, watched, random)
        figures.kills += 1
    for one in watched:
        await _check(server, api, one, killed_at, figures)


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


async def _check(
    server: ServerProcess, api: Remote, one: Watched, killed_at: float, figures: PartialKillFigures
) -> None:
    shown, held, partials = shown_of(one.asked), one.held, set(one.view.held)
    assert shown.startswith(held)
    async with sse_frames(server.url, one.key, one.view.cursor, end="now") as frames:
        async for frame in frames:
            assert not SECRET_LETTERS.intersection(_text(frame.data))
            one.view.take(frame)
    assert one.view.held == {}, "neither an event nor `open` told of a text"
    said = [event for event in one.view.events if event.get("partial") in partials]
    assert said == [event for event in await api.log(one.key) if _is_said(event)]
    kept = ""
    if said:
        (event,) = said
        kept = event["args"]["content"]
        assert event["interrupted"] == "crashed"
        assert event["turn"] == next(e["id"] for e in one.view.events if _is_recall(e))
        assert shown.startswith(kept)
    assert len(kept) >= one.shown_at(killed_at - SHOWN_BEFORE_SECONDS)
    figures.texts += 1
    figures.recovered += bool(said)
    figures.shown += len(held)
    figures.kept += len(kept)
    figures.held_more += len(held) > len(kept)


def _text(data: object) -> str:
    return orjson.dumps(data).decode()


def _is_said(event: Payload) -> bool:
    return event["source"] == "agent" and event.get("action") == "message"


def _is_recall(event: Payload) -> bool:
    return event.get("action") == "recall"
