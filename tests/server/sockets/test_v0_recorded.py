"""Conversations recorded before texts were streamed: pages of V0 are sent the same bytes today."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from tests.support.live import live_server
from tests.support.sse import sse_frames
from tests.support.v0_conversations import SCRIPTS, create, lead
from tests.support.waiting import until

BOTH_WAYS = True

SAID_OF_FAILURES = ("ScriptedFailure: ", "")
"""Of a failure, people are told the text alone now: the one difference that is meant."""
RECORDED = orjson.loads(
    Path(__file__)
    .with_name("v0_recorded.json")
    .read_text(encoding="utf-8")
    .replace(*SAID_OF_FAILURES)
)
"""By script, what `lead` returned of the version before turns, partials and deltas."""
DELTA = '42["oh_delta",'


async def scribble(stream):
    """Write texts and take them back, for ever: none of them is in the log."""
    while True:
        text = stream.partials.begin("message", "content", 0)
        for piece in ("Once ", "upon ", "a time"):
            text.write(piece)
            await stream.partials.next_telling()
        text.drop("anew")


async def follow_by_socket(live, key, pieces):
    async with live.raw(key, query={"deltas": "1"}) as client:
        await client.connect()
        while True:
            pieces["socket"] += (await client.packet(20)).startswith(DELTA)


async def follow_by_sse(live, key, pieces):
    async with sse_frames(live.url, key) as frames:
        async for frame in frames:
            pieces["sse"] += frame.name == "delta"


@asynccontextmanager
async def streaming(live, key):
    """Texts are written in the conversation, and others follow them, until the block is left."""
    pieces: Counter[str] = Counter()
    works = (
        scribble(await live.stream(key)),
        follow_by_socket(live, key, pieces),
        follow_by_sse(live, key, pieces),
    )
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await until(lambda: min(pieces["socket"], pieces["sse"]) > 3)
        yield pieces
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_page_is_sent_the_bytes_that_were_recorded(name):
    script = SCRIPTS[name]
    async with live_server(**script.settings) as live:
        told = await lead(live.url, await create(live.url, script), script)
    assert told.events == RECORDED[name]["events"]
    assert sorted(told.notices) == RECORDED[name]["notices"]


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_page_is_sent_the_recorded_bytes_while_others_follow_texts(name):
    script = SCRIPTS[name]
    async with live_server(**script.settings, delta_interval_seconds=0.02) as live:
        key = await create(live.url, script)
        async with streaming(live, key) as pieces:
            told = await lead(live.url, key, script)
            before = pieces.copy()
            await until(lambda: all(pieces[door] > before[door] for door in before))
    assert told.events == RECORDED[name]["events"]
    assert sorted(told.notices) == RECORDED[name]["notices"]
