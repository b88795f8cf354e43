"""Checkpoints: what was shown of a text is in the log after a crash, once."""

import asyncio
import logging
from contextlib import AsyncExitStack

import orjson
import pytest

from events.actions import MessageAction
from events.checkpoints import Checkpoints
from events.errors import AppendFailed, StoreUnavailable
from events.event import Interruption
from events.stores.base import MAX_ASIDE_BYTES, MEMORY, PARTIALS, Aside
from events.stores.memory import MemoryEventStore
from tests.support.partials import finish
from tests.support.streams import AGENT, USER, log_of, message, open_stream


class AsideStore(MemoryEventStore):
    """Notes the calls of `put_asides`; the next `failing` ones fail, and those of `asides`."""

    def __init__(self):
        super().__init__()
        self.calls: list[list[Aside]] = []
        self.failing = 0
        self.unreadable = 0

    async def put_asides(self, asides):
        self.calls.append(list(asides))
        if self.failing:
            self.failing -= 1
            raise AppendFailed("the disk is full")
        await super().put_asides(asides)

    async def asides(self, conversation_id):
        if self.unreadable:
            self.unreadable -= 1
            raise StoreUnavailable("connection lost")
        return await super().asides(conversation_id)


class Lives:
    """Processes over one store, one after the other; none of them ends in order."""

    def __init__(self, store, seconds=1.0):
        self.store = store
        self.seconds = seconds
        self.begin()

    def begin(self):
        """Begin another life, without a word to the one before."""
        self.checkpoints = Checkpoints(self.store, self.seconds)

    async def open(self, conversation_id="c", *, recover=True):
        stream = await open_stream(
            self.store, conversation_id, on_partials=self.checkpoints.note, page_size=3
        )
        if recover:
            await self.checkpoints.recover(stream)
        return stream

    async def crash(self, conversation_id="c"):
        """End the life as a crash does, and open the conversation in the next one."""
        self.checkpoints = Checkpoints(self.store, 0)
        self.begin()
        return await self.open(conversation_id)

    async def kept(self, conversation_id="c"):
        """The texts of the checkpoint in the store, by the id of the partial."""
        body = (await MemoryEventStore.asides(self.store, conversation_id)).get(PARTIALS)
        if body is None:
            return None
        return {one["id"]: one["text"] for one in orjson.loads(body)["texts"]}


@pytest.fixture
def store():
    return AsideStore()


@pytest.fixture
def lives(store):
    return Lives(store)


async def begin(stream, text="", kind="message", field="content", turn=0):
    writing = stream.partials.begin(kind, field, turn)
    if text:
        writing.write(text)
        await stream.partials.next_telling()
    return writing


async def started(lives, conversation_id="c"):
    stream = await lives.open(conversation_id)
    await stream.append(message("question"), USER)
    return stream


async def agents_events(store):
    return [
        payload
        for payload in (orjson.loads(event.body) for event in await log_of(store))
        if payload["source"] == "agent"
    ]


async def test_texts_of_all_conversations_that_grew_are_written_in_one_call_a_second(lives, store):
    streams = [await started(lives, one) for one in "abc"]
    writings = [await begin(stream, "once ") for stream in streams]
    await asyncio.sleep(1.01)
    assert [sorted(aside.conversation_id for aside in call) for call in store.calls] == [
        list("abc")
    ]
    assert await lives.kept("a") == {writings[0].id: "once "}

    writings[1].write("upon")
    await streams[1].partials.next_telling()
    await asyncio.sleep(1.01)
    assert [[aside.conversation_id for aside in call] for call in store.calls[1:]] == [["b"]]
    assert await lives.kept("b") == {writings[1].id: "once upon"}


async def test_what_was_shown_a_second_ago_is_in_the_store(lives):
    stream = await started(lives)
    writing = await begin(stream, "0")
    for number in range(1, 40):
        await asyncio.sleep(0.13)
        kept = await lives.kept() or {writing.id: ""}
        assert len(kept[writing.id]) >= number - 8
        writing.write(str(number % 10))
        await stream.partials.next_telling()


async def test_nothing_is_written_of_a_text_that_ends_within_the_second(lives, store):
    stream = await started(lives)
    writing = await begin(stream, "short")
    await asyncio.sleep(0.5)
    await finish(stream, writing)
    await asyncio.sleep(5)
    assert store.calls == []


async def test_no_timer_runs_while_nothing_is_written(lives, store):
    """The loop of this test tells of waiting for ever: it would not, were a timer left."""
    stream = await started(lives)
    writing = await begin(stream, "long")
    await asyncio.sleep(2)
    await finish(stream, writing)
    await asyncio.sleep(2)
    assert [call[0].body is None for call in store.calls] == [False, True]
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert asyncio.get_running_loop().time() == now


async def test_a_checkpoint_whose_texts_are_over_is_removed(lives):
    stream = await started(lives)
    first, second = await begin(stream, "one"), await begin(stream, "two")
    await asyncio.sleep(1.1)
    await finish(stream, first)
    await asyncio.sleep(1.1)
    assert await lives.kept() == {second.id: "two"}
    second.drop("anew")
    await asyncio.sleep(1.1)
    assert await lives.kept() is None


async def test_after_a_crash_the_text_is_an_event_once(lives, store):
    stream = await started(lives)
    said = await begin(stream, "The answer", turn=7)
    thought = await begin(stream, "Let me", kind="think", field="thought", turn=7)
    await asyncio.sleep(1.1)
    said.write(" is 42")
    await stream.partials.next_telling()

    again = await lives.crash()
    events = await agents_events(store)
    assert [(one["action"], one["partial"]) for one in events] == [
        ("message", said.id),
        ("think", thought.id),
    ]
    assert events[0]["args"]["content"] == "The answer"
    assert events[1]["args"]["thought"] == "Let me"
    assert {(one["interrupted"], one["turn"]) for one in events} == {("crashed", 7)}
    assert await lives.kept() is None

    await lives.checkpoints.recover(again)
    await lives.crash()
    assert await agents_events(store) == events


async def test_a_kill_between_the_event_and_the_end_of_its_checkpoint_doubles_nothing(lives, store):
    stream = await started(lives)
    for text in ("one", "two"):
        await begin(stream, text)
    await asyncio.sleep(1.1)
    store.failing = 1
    await lives.crash()
    assert len(await agents_events(store)) == 2
    assert await lives.kept()
    await lives.crash()
    assert [one["args"]["content"] for one in await agents_events(store)] == ["one", "two"]
    assert await lives.kept() is None


async def test_a_kill_between_two_events_of_a_checkpoint_doubles_and_loses_nothing(lives, store):
    stream = await started(lives)
    first, second = await begin(stream, "one"), await begin(stream, "two")
    await asyncio.sleep(1.1)
    event = MessageAction(content="one", partial=first.id, interrupted=Interruption.CRASHED)
    await stream.append(event, AGENT)
    await lives.crash()
    events = await agents_events(store)
    assert [one["partial"] for one in events] == [first.id, second.id]


async def test_a_text_whose_event_is_in_the_log_is_left_as_it_is(lives, store):
    stream = await started(lives)
    writing = await begin(stream, "The answer")
    await asyncio.sleep(1.1)
    writing.write(" is 42")
    await finish(stream, writing)
    for number in range(7):
        await stream.append(message(str(number)), USER)
    assert await lives.kept()
    await lives.crash()
    (event,) = await agents_events(store)
    assert event["args"]["content"] == "The answer is 42"
    assert "interrupted" not in event
    assert await lives.kept() is None


async def test_an_action_that_was_still_being_written_and_white_space_become_nothing(lives, store):
    stream = await started(lives)
    await begin(stream, "rm -rf build", kind="run", field="command")
    await begin(stream, " \n")
    await asyncio.sleep(1.1)
    await lives.crash()
    assert await agents_events(store) == []
    assert await lives.kept() is None


async def test_a_secret_learnt_meanwhile_is_masked_in_the_event(lives, store):
    stream = await started(lives)
    await begin(stream, "The key is hunter2-hunter2.")
    await asyncio.sleep(1.1)
    lives.begin()
    again = await lives.open(recover=False)
    again.update_secrets({"KEY": "hunter2-hunter2"})
    await lives.checkpoints.recover(again)
    (event,) = await agents_events(store)
    assert event["args"]["content"] == "The key is <secret_hidden>."


async def test_what_is_held_back_as_the_beginning_of_a_secret_is_in_no_checkpoint(lives):
    stream = await started(lives)
    stream.update_secrets({"KEY": "hunter2-hunter2"})
    writing = await begin(stream, "The key is hunter2-hun")
    await asyncio.sleep(1.1)
    assert await lives.kept() == {writing.id: "The key is "}


async def test_a_failing_store_is_logged_once_and_tried_again(lives, store, caplog):
    stream = await started(lives)
    writing = await begin(stream, "once ")
    store.failing = 5
    with caplog.at_level(logging.WARNING, logger="events.checkpoints"):
        await asyncio.sleep(6.5)
    assert await lives.kept() == {writing.id: "once "}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert len(store.calls) == 6


@pytest.mark.parametrize("what", ["asides", "append", "removal"])
async def test_what_cannot_be_recovered_yet_is_before_the_next_checkpoint(lives, store, what):
    stream = await started(lives)
    old = await begin(stream, "old")
    await asyncio.sleep(1.1)
    lives.begin()
    again = await lives.open(recover=False)
    if what == "asides":
        store.unreadable = 1
    elif what == "removal":
        store.failing = 1
    else:
        await again.close()  # it takes no events
    await lives.checkpoints.recover(again)
    if what == "append":
        again = await lives.open(recover=False)
    assert await lives.kept() == {old.id: "old"}

    new = await begin(again, "new")
    await asyncio.sleep(1.1)
    assert await lives.kept() == {new.id: "new"}
    assert [one["args"]["content"] for one in await agents_events(store)] == ["old"]


async def test_a_store_that_never_answers_holds_nobody_up(lives, store):
    stream = await started(lives)
    await begin(stream, "old")
    await asyncio.sleep(1.1)
    lives.begin()

    async def never(conversation_id):
        await asyncio.Event().wait()

    store.asides = never
    begun = asyncio.get_running_loop().time()
    await lives.open()
    assert asyncio.get_running_loop().time() - begun == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"version": 2, "texts": "x"}', b'{"version": 1, "next_id": 0}']
)
async def test_a_checkpoint_of_another_version_is_left_alone(lives, store, body, caplog):
    stream = await started(lives)
    await stream.close()
    await store.put_asides([Aside("c", PARTIALS, body)])
    await lives.crash()
    assert (await store.asides("c"))[PARTIALS] == body
    assert "is left out" in caplog.text


async def test_an_agents_memory_is_left_alone(lives, store):
    stream = await started(lives)
    await begin(stream, "text")
    await asyncio.sleep(1.1)
    await store.put_asides([Aside("c", MEMORY, b"memory")])
    await lives.crash()
    assert dict(await store.asides("c")) == {MEMORY: b"memory"}


async def test_a_text_left_open_when_its_stream_is_closed_is_recovered(lives, store):
    stream = await started(lives)
    writing = await begin(stream, "unsealed")
    await stream.close()
    await asyncio.sleep(1.1)
    assert await lives.kept() == {writing.id: "unsealed"}
    await lives.open()
    (event,) = await agents_events(store)
    assert event["partial"] == writing.id


async def test_the_end_of_a_process_writes_what_is_left_to_write(lives):
    stream = await started(lives)
    async with lives.checkpoints:
        over = await begin(stream, "over")
        await asyncio.sleep(1.1)
        await finish(stream, over)
        assert await lives.kept()
    assert await lives.kept() is None
    await begin(stream, "too late")
    await asyncio.sleep(5)
    assert await lives.kept() is None


async def test_with_zero_seconds_nothing_is_written_and_texts_of_before_are_recovered(store):
    lives = Lives(store)
    stream = await started(lives)
    await begin(stream, "text")
    await asyncio.sleep(1.1)
    lives.seconds = 0
    again = await lives.crash()
    assert [one["args"]["content"] for one in await agents_events(store)] == ["text"]
    calls = len(store.calls)
    await begin(again, "another")
    await asyncio.sleep(5)
    assert len(store.calls) == calls


async def test_many_long_texts_are_written_in_several_calls_and_cut_at_the_size_of_an_aside(
    lives, store
):
    async with AsyncExitStack() as stack:
        streams = [await started(lives, str(number)) for number in range(5)]
        for stream in streams:
            stack.push_async_callback(stream.close)
            await begin(stream, "x" * 700_000)
        await asyncio.sleep(1.1)
        assert [len(call) for call in store.calls] == [2, 2, 1]

    stream = await started(lives)
    texts = [await begin(stream, "\U0001f511" * 1_500_000) for _ in range(4)]
    await asyncio.sleep(1.1)
    kept = await lives.kept()
    assert kept is not None
    assert list(kept) == [one.id for one in texts[:2]]
    (written,) = store.calls[-1]
    assert written.body is not None
    assert 0 < len(written.body) <= MAX_ASIDE_BYTES
