"""The memory an agent keeps for its next turn outlives the process, over every durable back-end."""

import asyncio

import pytest

from events.stores.base import MEMORY, PARTIALS, Aside
from events.stores.memory import MemoryEventStore
from server.turns.memory import AsideMemory, Remembered
from tests.support.backends import DURABLE, open_event_store
from tests.support.streams import USER, message, open_stream


async def begin_log(store, conversation_id="c"):
    stream = await open_stream(store, conversation_id)
    await stream.append(message("question"), USER)
    await stream.close()


@pytest.mark.parametrize("kind", sorted(DURABLE))
async def test_what_was_kept_last_is_there_in_the_next_process(kind, tmp_path):
    everything = bytes(range(256)) * 4096
    async with open_event_store(kind, tmp_path) as store:
        await begin_log(store)
        memory = AsideMemory(store)
        assert await memory.load("c") == Remembered()
        await memory.keep("c", Remembered(b"first", -1))
        assert await memory.load("c") == Remembered(b"first", -1)
        await memory.keep("c", Remembered(everything, 41))
    async with open_event_store(kind, tmp_path) as store:
        memory = AsideMemory(store)
        assert await memory.load("c") == Remembered(everything, 41)
        await memory.keep("c", Remembered(b"", 42))
        assert await memory.load("c") == Remembered(b"", 42)
        await memory.keep("c", Remembered(None))
        assert await memory.load("c") == Remembered()


async def test_a_record_of_another_version_counts_as_none_and_is_logged(caplog):
    store = MemoryEventStore()
    await begin_log(store)
    for body in (b"", b"2 5\nx", b"1 \nx", b"1 five\nx"):
        caplog.clear()
        await store.put_asides([Aside("c", MEMORY, body)])
        assert await AsideMemory(store).load("c") == Remembered()
        assert "of another version" in caplog.text


async def test_keeping_leaves_checkpoints_and_other_conversations_alone():
    store = MemoryEventStore()
    for one in "cd":
        await begin_log(store, one)
    await store.put_asides([Aside("c", PARTIALS, b"texts")])
    memory = AsideMemory(store)
    await memory.keep("c", Remembered(b"c", 1))
    await memory.keep("d", Remembered(b"d", 2))
    assert (await store.asides("c"))[PARTIALS] == b"texts"
    assert [await memory.load(one) for one in "cd"] == [Remembered(b"c", 1), Remembered(b"d", 2)]


class SilentStore(MemoryEventStore):
    """Answers nothing about asides."""

    async def put_asides(self, asides):
        await asyncio.Event().wait()

    async def asides(self, conversation_id):
        await asyncio.Event().wait()
        return {}


async def test_a_store_that_never_answers_is_an_error_at_the_deadline():
    memory = AsideMemory(SilentStore(), deadline_seconds=0.05)
    with pytest.raises(TimeoutError):
        await memory.keep("c", Remembered(b"c", 1))
    with pytest.raises(TimeoutError):
        await memory.load("c")
