"""The rests of the search indexer, by the clock of the loop."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

import orjson
import pytest

from events.event import StoredEvent
from events.search.indexer import EVENTS, LOGS, WRITE_EVENTS, Indexer
from events.search.throttle import (
    BUSY_RATE,
    BUSY_REST,
    LONGEST_REST,
    RATE_SECONDS,
    REST,
    Throttle,
)
from events.summary import NO_CHANGE
from storage.conversations.metadata import ConversationMetadata
from tests.support.backends import open_stores
from tests.support.quick_loop import QuickLoop
from tests.support.search import HeldIndex

T = TypeVar("T")
Args = TypeVarTuple("Args")

WORK_SECONDS = 0.06


def now():
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def commits(throttle, rate):
    """Have so many events a second committed during the block."""

    async def commit():
        while True:
            await asyncio.sleep(RATE_SECONDS / 8)
            throttle.note(round(rate * RATE_SECONDS / 8))

    task = asyncio.create_task(commit())
    try:
        yield
    finally:
        task.cancel()


async def rested(throttle, work_seconds=WORK_SECONDS):
    """Work for so long; the seconds of the rest after that."""
    began = now()
    await asyncio.sleep(work_seconds)
    worked = now()
    await throttle.rest_since(began)
    return now() - worked


@pytest.fixture
async def throttle():
    return Throttle(clock=now)


@pytest.mark.parametrize("rate", [0.0, BUSY_RATE / 2])
async def test_while_few_events_are_committed_the_rest_is_a_few_times_the_work(throttle, rate):
    async with commits(throttle, rate):
        assert await rested(throttle) == pytest.approx(REST * WORK_SECONDS)


async def test_while_many_events_are_committed_the_rest_is_many_times_the_work(throttle):
    async with commits(throttle, 2 * BUSY_RATE):
        await asyncio.sleep(2 * RATE_SECONDS)
        assert await rested(throttle) == pytest.approx(BUSY_REST * WORK_SECONDS)


async def test_the_rest_is_a_few_times_the_work_again_soon_after_a_burst(throttle):
    throttle.note(round(10 * BUSY_RATE))

    assert await rested(throttle) == pytest.approx(2 * RATE_SECONDS)
    assert await rested(throttle) == pytest.approx(REST * WORK_SECONDS)


async def test_a_burst_that_begins_during_a_rest_makes_it_longer(throttle):
    async with commits(throttle, 2 * BUSY_RATE):
        assert await rested(throttle) == pytest.approx(BUSY_REST * WORK_SECONDS)


@pytest.mark.parametrize("rate", [0.0, 2 * BUSY_RATE])
async def test_no_rest_is_longer_than_the_longest(throttle, rate):
    async with commits(throttle, rate):
        assert await rested(throttle, 100.0) == pytest.approx(LONGEST_REST)


async def test_a_throttle_without_a_rest_never_waits_while_few_events_are_committed():
    assert await rested(Throttle(0.0, now)) == 0


class ThreadlessLoop(QuickLoop):
    """Calls at once what is meant for a thread, which its clock would leap over."""

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> Future[T]:
        done: Future[T] = self.create_future()
        done.set_result(func(*args))
        return done


class SlowIndex(HeldIndex):
    """Takes WORK_SECONDS to write, and remembers how many events each write had."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    async def write(self, changes):
        self.sizes.append(
            sum(
                change.after.next_id - (change.before.next_id if change.before else 0)
                for change in changes
            )
        )
        await asyncio.sleep(WORK_SECONDS)
        return await super().write(changes)


async def index_a_burst(folder, conversations):
    """Have conversations of ten events made, at twice the busy rate, and indexed.

    Returns how many of them were indexed at the end of the burst, and the seconds from there until
    all were.
    """
    index = SlowIndex()

    async def open_index():
        return index

    async with (
        open_stores("memory", folder) as opened,
        Indexer(open_index, opened.events, opened.conversations, clock=now) as indexer,
    ):
        await indexer.level()
        spoken = [StoredEvent(number, 0, orjson.dumps({"id": number})) for number in range(10)]
        for number in range(conversations):
            key = f"c{number}"
            record = ConversationMetadata(conversation_id=key)
            await opened.conversations.for_user(None).save_metadata(record)
            await opened.events.append(key, 0, spoken, summary=NO_CHANGE)
            indexer.note(key, None, len(spoken))
            await asyncio.sleep(len(spoken) / (2 * BUSY_RATE))
        ended = now()
        during = len(await index.conversations("", conversations))
        await indexer.level()
        assert len(await index.conversations("", conversations)) == conversations
        return during, now() - ended


def test_a_burst_of_conversations_is_indexed_soon_after_its_end_and_not_before(tmp_path):
    with asyncio.Runner(loop_factory=ThreadlessLoop) as runner:
        during, seconds = runner.run(index_a_burst(tmp_path, 4 * LOGS))

    assert during <= LOGS
    assert seconds <= 2 * RATE_SECONDS + 4 * (1 + REST) * WORK_SECONDS


async def index_long_logs(folder, conversations):
    """Index conversations of EVENTS events and some; the sizes of the writes, and what was indexed."""
    index = SlowIndex()

    async def open_index():
        return index

    spoken = [StoredEvent(number, 0, orjson.dumps({"id": number})) for number in range(EVENTS + 10)]
    async with open_stores("memory", folder) as opened:
        for number in range(conversations):
            key = f"c{number}"
            record = ConversationMetadata(conversation_id=key)
            await opened.conversations.for_user(None).save_metadata(record)
            await opened.events.append(key, 0, spoken, summary=NO_CHANGE)
        async with Indexer(open_index, opened.events, opened.conversations, clock=now) as indexer:
            await indexer.level()
        found = await index.states([f"c{number}" for number in range(conversations)])
        return index.sizes, [state.next_id for state in found.values()]


def test_a_write_is_of_few_events_though_many_conversations_have_many(tmp_path):
    with asyncio.Runner(loop_factory=ThreadlessLoop) as runner:
        sizes, ends = runner.run(index_long_logs(tmp_path, 2 * LOGS))

    assert ends == [EVENTS + 10] * (2 * LOGS)
    assert max(sizes) < WRITE_EVENTS + EVENTS
