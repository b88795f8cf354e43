"""Logs are compared with what was published after a failover, and those that differ opened anew."""

import pytest

from events.conformance.records import append, record, records
from events.errors import DamagedHead
from events.page_reader import PageReader
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from server.conversations.lost_events import LostEvents
from tests.support.faulty_store import FaultyEventStore
from tests.support.streams import USER, message
from tests.support.waiting import others_have_ended, until

KEPT = 12


class World:
    """Streams over one store, and what is told of them."""

    def __init__(self):
        self.store = FaultyEventStore(MemoryEventStore())
        self.reader = PageReader(self.store, page_size=10, cache_bytes=1_000_000)
        self.streams: list[EventStream] = []
        self.reopened = []
        self.lost_events = LostEvents(self.store, lambda: self.streams, self.reopen)

    async def reopen(self, conversation_id):
        self.reopened.append(conversation_id)

    async def open(self, conversation_id):
        stream = await EventStream.open(conversation_id, self.store, self.reader)
        self.lost_events.opened(stream)
        return stream

    async def published(self, conversation_id, *texts):
        """A stream that has published these after what is kept of its log."""
        await append(self.store.inner, conversation_id, records(0, KEPT))
        stream = await self.open(conversation_id)
        for text in texts:
            await stream.append(message(text), USER)
        self.streams.append(stream)
        return stream

    async def fail_over(self, **instead):
        """Put logs without what was published in the place of all, each with so many new events."""
        self.store.inner = MemoryEventStore()
        for conversation_id, count in instead.items():
            new = [record(KEPT + number, "new") for number in range(count)]
            await append(self.store.inner, conversation_id, [*records(0, KEPT), *new])
        self.lost_events.failed_over()


@pytest.fixture
def world():
    return World()


def lost(stream):
    error = stream.shortened
    return None if error is None else (error.first_id, error.last_id)


async def test_logs_that_are_shorter_are_found_and_the_others_left(world):
    shorter = await world.published("shorter", "a", "b")
    same = await world.published("same")

    await world.fail_over(shorter=0, same=0)
    await until(lambda: world.reopened)
    await others_have_ended()

    assert world.reopened == ["shorter"]
    assert (lost(shorter), lost(same)) == ((KEPT, KEPT + 1), None)


@pytest.mark.parametrize("cached", [True, False])
async def test_a_log_in_which_others_have_appended_more_than_was_lost_is_found(world, cached):
    stream = await world.published("c", "a", "b")
    if cached:
        await stream.read(10)

    await world.fail_over(c=5)
    await until(lambda: world.reopened)

    # Of a page that is not known nothing is known to be the same.
    assert lost(stream) == (KEPT if cached else 10, KEPT + 1)
    anew = await world.open("c")
    assert anew.resume_after(KEPT + 1) == (KEPT - 1 if cached else 9)


async def test_what_cannot_be_read_is_tried_again(world, caplog):
    stream = await world.published("c", "a")
    world.store.unreadable = 1

    await world.fail_over(c=0)
    await until(lambda: world.reopened)

    assert lost(stream) == (KEPT, KEPT)
    assert "cannot compare logs after a failover; trying again" in caplog.text


class OneDamaged(FaultyEventStore):
    """A store that cannot say where one log ends."""

    async def heads(self, conversation_ids):
        if "damaged" in conversation_ids:
            raise DamagedHead("damaged", 0, 0)
        return await super().heads(conversation_ids)


async def test_a_damaged_head_keeps_nobody_from_the_others(world, caplog):
    world.store = OneDamaged(MemoryEventStore())
    world.reader = PageReader(world.store, page_size=10, cache_bytes=1_000_000)
    world.lost_events = LostEvents(world.store, lambda: world.streams, world.reopen)
    damaged = await world.published("damaged", "a")
    shorter = await world.published("shorter", "a")

    await world.fail_over(damaged=0, shorter=0)
    await until(lambda: world.reopened)
    await others_have_ended()

    assert (lost(damaged), lost(shorter)) == (None, (KEPT, KEPT))
    assert "cannot look at the end of" in caplog.text
