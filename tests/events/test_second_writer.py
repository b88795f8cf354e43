"""Two streams over one log, one of which appends without a pause: the other always gets in."""

import asyncio

import pytest

from events.batch import Appended
from events.conformance.records import contents, records
from events.errors import AppendFailed, ConversationDeleted, Fenced, LogShortened, StreamClosed
from events.fence import Fence
from events.pump import READ_EVENTS
from events.stores.base import Form, Head
from events.stores.memory import MemoryEventStore
from tests.support.backends import EVENT_STORES, open_event_store
from tests.support.faulty_store import (
    FaultyEventStore,
    Overtaken,
    passes,
    unknown_after,
    unknown_before,
)
from tests.support.quick_loop import LOOPS
from tests.support.streams import AGENT, USER, Recorder, log_of, message, open_stream, put, texts

PRODUCERS = 4
SAID = [f"other {number}" for number in range(25)]


async def say_beside_a_busy_one(store) -> str:
    """Append one after the other, beside a stream that always has a batch under way."""
    others = FaultyEventStore(store)
    # A loaded machine's disk may be slower than the deadline, after which a third call decides.
    busy = await open_stream(store, append_seconds=1_000.0)
    other = await open_stream(others, append_seconds=1_000.0)
    published: list[int] = []
    other.tap(lambda events, _summary: published.extend(one.id for one in events))
    ended = False

    async def produce(number: int) -> int:
        count = 0
        while not ended:
            await busy.append(message(f"busy {number}"), USER)
            count += 1
        return count

    producing = [asyncio.ensure_future(produce(number)) for number in range(PRODUCERS)]
    asked = []
    for text in SAID:
        await anext(busy.follow(other.next_id - 1))  # the other one is behind
        before = len(others.attempts)
        appended = await other.append(message(text), USER)
        assert other.next_id > appended.id
        asked.append(len(others.attempts) - before)
    ended = True
    counts = await asyncio.gather(*producing)
    await asyncio.gather(busy.look(), other.look())

    log = await log_of(store)
    said = texts(log)
    assert [text for text in said if text.startswith("other")] == SAID
    assert len(said) == sum(counts) + len(SAID)
    assert published == list(range(len(log)))
    assert busy.next_id == len(log)
    # One try at the end that is known, and one that waits for its turn.
    assert asked == [2] * len(SAID)
    return f"{len(SAID)} events among {sum(counts)}, {sum(asked)} calls of the store"


@pytest.mark.parametrize("kind", EVENT_STORES)
def test_beside_a_stream_that_appends_without_a_pause_every_event_gets_in_at_its_turn(
    kind, tmp_path, record_property
):
    async def run() -> str:
        async with open_event_store(kind, tmp_path) as store, asyncio.timeout(3_000):
            return await say_beside_a_busy_one(store)

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        record_property("figures", runner.run(run()))


OVERTAKEN = Overtaken(lambda first_id: records(first_id, 2, "foreign"))


@pytest.mark.parametrize("fault", [unknown_before, unknown_after], ids=["not landed", "landed"])
async def test_an_unknown_outcome_at_the_end_of_the_log_is_read_back(pump, store, published, fault):
    store.script.extend([OVERTAKEN, fault])

    assert await asyncio.gather(*put(pump, "a", "b")) == [Appended(2), Appended(3)]

    assert contents(published) == ["foreign", "foreign", "a", "b"]
    assert published == await log_of(store.inner)


async def test_a_store_that_does_not_tell_its_end_is_asked_again(pump, store, published):
    store.script.extend([OVERTAKEN, passes])
    store.unreadable = 3

    assert await asyncio.gather(*put(pump, "a")) == [Appended(2)]

    assert store.unreadable == 0
    assert contents(published) == ["foreign", "foreign", "a"]


async def test_what_others_wrote_is_read_until_it_can_be_before_the_outcome_is_told(
    pump, store, published
):
    store.script.append(OVERTAKEN)
    (taken,) = put(pump, "a")
    store.unreadable = 2

    assert await taken == Appended(2)

    assert store.unreadable == 0
    assert contents(published) == ["foreign", "foreign", "a"]


async def test_a_long_log_of_others_is_read_in_parts_before_ones_own(store):
    other, stream = await open_stream(store), await open_stream(store)
    recorder = Recorder()
    subscription = stream.subscribe("reader", recorder)
    count = 2 * READ_EVENTS + 1
    await asyncio.gather(*(other.enqueue(message("x"), USER) for _ in range(count)))

    assert await stream.append(message("own"), USER) == Appended(count)

    await subscription.level()
    assert recorder.ids == list(range(count + 1))


async def test_a_key_that_the_other_appended_gives_its_event_which_is_published_by_then(store):
    other, stream = await open_stream(store), await open_stream(store)
    published: list[str] = []
    stream.tap(lambda events, _summary: published.extend(texts(events)))
    await other.append(message("theirs"), USER)
    await other.append(message("said twice"), USER, client_id="k")
    known: list[int] = []
    outcomes = [
        stream.enqueue(message("a"), USER),
        stream.enqueue(message("said twice"), USER, client_id="k"),
        stream.enqueue(message("b"), USER),
    ]
    outcomes[1].add_done_callback(lambda _: known.append(stream.next_id))

    assert await asyncio.gather(*outcomes) == [
        Appended(2),
        Appended(1, duplicate=True),
        Appended(3),
    ]
    assert known[0] >= 2
    assert published == ["theirs", "said twice", "a", "b"]


async def test_a_claim_that_became_stale_before_its_turn_fails_its_own_events_only(store):
    other, stream = await open_stream(store), await open_stream(store)
    await other.held_by(Fence(8, 2)).append(message("taken over"), AGENT)

    outcomes = await asyncio.gather(
        stream.held_by(Fence(7, 1)).enqueue(message("stale"), AGENT),
        stream.enqueue(message("of a person"), USER),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], Fenced)
    assert outcomes[1] == Appended(1)
    assert texts(await log_of(store)) == ["taken over", "of a person"]


async def test_a_log_that_is_deleted_before_the_turn_is_told(store):
    other, stream = await open_stream(store), await open_stream(store)
    await other.append(message("a"), USER)

    async def overtaken_by_a_deletion(attempt):
        await store.delete("c")
        await attempt.write()

    store.script.extend([passes, overtaken_by_a_deletion])
    with pytest.raises(ConversationDeleted):
        await stream.append(message("late"), USER)


async def test_a_log_that_has_become_shorter_takes_no_id_twice(pump, store):
    await asyncio.gather(*put(pump, "a", "b"))
    store.inner = MemoryEventStore()

    (outcome,) = await asyncio.gather(*put(pump, "c"), return_exceptions=True)

    assert isinstance(outcome, LogShortened)
    assert (outcome.first_id, outcome.last_id) == (0, 1)
    assert await store.inner.head("c") == Head(0, None, "")


class LateStore(FaultyEventStore):
    """Lets whoever comes first wait for its turn until the gate is open."""

    def __init__(self, inner: MemoryEventStore) -> None:
        super().__init__(inner)
        self.gate: asyncio.Event | None = asyncio.Event()
        self.late: asyncio.Task[object] | None = None

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore."""
        gate, self.gate = self.gate, None
        if gate is not None:
            self.opened = gate
            self.late = asyncio.current_task()
            await gate.wait()
        return await super().append_next(conversation_id, form)


async def test_a_turn_that_does_not_come_in_time_is_asked_for_again_and_writes_nothing_late():
    store = LateStore(MemoryEventStore())
    other, stream = await open_stream(store), await open_stream(store, append_seconds=10.0)
    await other.append(message("theirs"), USER)
    begun = asyncio.get_running_loop().time()

    assert await stream.append(message("own"), USER) == Appended(1)

    assert asyncio.get_running_loop().time() - begun >= 10.0
    assert store.late is not None
    store.opened.set()
    (late,) = await asyncio.gather(store.late, return_exceptions=True)
    assert isinstance(late, AppendFailed)
    assert texts(await log_of(store)) == ["theirs", "own"]


async def test_a_stream_that_closes_while_it_waits_for_its_turn_writes_nothing_afterwards():
    store = LateStore(MemoryEventStore())
    other, stream = await open_stream(store), await open_stream(store, append_seconds=100.0)
    await other.append(message("theirs"), USER)
    own = stream.enqueue(message("own"), USER)

    await stream.close(drain_seconds=5.0)

    with pytest.raises(StreamClosed):
        await own
    assert store.late is not None
    store.opened.set()
    (late,) = await asyncio.gather(store.late, return_exceptions=True)
    assert isinstance(late, AppendFailed)
    assert texts(await log_of(store)) == ["theirs"]
