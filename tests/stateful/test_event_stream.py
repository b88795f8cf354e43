"""Any history of appends, faults, readers and restarts agrees with a plain list."""

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from events.batch import Appended
from events.errors import AppendFailed, ConversationDeleted
from events.stream import EventStream
from tests.support.backends import DURABLE, EVENT_STORES, HISTORIES
from tests.support.faulty_store import FAULTS, FOREIGN, fails
from tests.support.histories import short_of, try_histories
from tests.support.report import counted
from tests.support.stream_machine import BOUND_SECONDS, StreamMachine
from tests.support.streams import USER, StallingReader, log_of, message, open_stream, texts
from tests.support.waiting import until

KEYS = st.sampled_from(["k0", "k1", "k2"])
SCRIPTS = st.lists(st.sampled_from([*FAULTS]), max_size=3)
CAPACITIES = st.sampled_from([1, 1, 3, 1024])


class EventStreamMachine(StreamMachine):
    """One conversation, its stream, its readers, and the list of texts its log should hold."""

    @initialize(capacity=CAPACITIES)
    def begin(self, capacity):
        self.capacity = capacity
        self.generation = 0
        self.count = 0
        self.run(self.open_store())
        self.start_over()

    def start_over(self):
        self.conversation_id = f"c{self.generation}"
        self.model: list[str] = []
        self.keys: dict[str, int] = {}
        self.readers: list[StallingReader] = []
        self.run(self.open_stream())

    async def open_stream(self) -> None:
        self.stream: EventStream = await open_stream(
            self.store,
            self.conversation_id,
            page_size=4,
            subscription_queue=self.capacity,
            append_seconds=BOUND_SECONDS,
        )

    def teardown(self):
        if hasattr(self, "stream"):
            self.release()
            self.run(self.stream.close(drain_seconds=BOUND_SECONDS))
            self.count_readers()
        super().teardown()

    def text(self) -> str:
        self.count += 1
        return f"text {self.count}"

    @rule(keys=st.lists(st.none() | KEYS, min_size=1, max_size=5), script=SCRIPTS)
    def append(self, keys, script):
        wanted = [(self.text(), key) for key in keys]
        self.store.script.extend(FAULTS[fault] for fault in script)

        outcomes, log = self.run(self.append_all(wanted))

        self.settle(log)
        for (text, key), outcome in zip(wanted, outcomes, strict=True):
            self.check(text, key, outcome)
        self.figures["appends"] += len(wanted)
        self.figures.update(script)

    async def append_all(self, wanted):
        taken = [self.stream.enqueue(message(text), USER, client_id=key) for text, key in wanted]
        outcomes = await asyncio.gather(*taken, return_exceptions=True)
        return outcomes, await log_of(self.store.inner, self.conversation_id)

    def check(self, text, key, outcome):
        """Compare the outcome that a caller was told with the log."""
        if isinstance(outcome, AppendFailed):
            assert text not in self.model
            return
        assert isinstance(outcome, Appended), outcome
        if outcome.duplicate:
            assert self.keys[key] == outcome.id
            assert text not in self.model
        else:
            assert self.model[outcome.id] == text
            if key is not None:
                assert self.keys.setdefault(key, outcome.id) == outcome.id

    def settle(self, log):
        """Take the log over into the model: the callers explain what it has grown by."""
        said = texts(log)
        assert said[: len(self.model)] == self.model, "the past was changed"
        self.model = said
        self.store.script.clear()

    @rule(callers=st.integers(1, 4), turns=st.integers(0, 12), script=SCRIPTS)
    def cancel_callers(self, callers, turns, script):
        wanted = [self.text() for _ in range(callers)]
        refused: set[str] = set()
        self.store.script.extend(self.noting(FAULTS[fault], refused) for fault in script)
        before = len(self.model)

        log = self.run(self.append_and_cancel(wanted, turns))

        self.settle(log)
        own = [text for text in self.model[before:] if text != FOREIGN]
        assert own == [text for text in wanted if text not in refused]
        self.figures["cancelled"] += callers
        self.figures.update(script)

    def noting(self, fault, refused):
        async def noted(attempt):
            if fault is fails:
                refused.update(texts(attempt.events))
            await fault(attempt)

        return noted

    async def append_and_cancel(self, wanted, turns):
        callers = [asyncio.ensure_future(self.stream.append(message(t), USER)) for t in wanted]
        await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        # Whatever these callers left behind is settled when a later one is.
        pump = self.stream._pump
        await until(lambda: not len(pump._queue.waiting) and not pump._in_flight, BOUND_SECONDS)
        return await log_of(self.store.inner, self.conversation_id)

    @rule(back=st.integers(0, 12))
    def subscribe(self, back):
        reader = StallingReader(max(-1, len(self.model) - 1 - back))
        self.run(self.do_subscribe(reader))
        self.readers.append(reader)

    async def do_subscribe(self, reader) -> None:
        reader.subscription = self.stream.subscribe("reader", reader, after=reader.after)

    @precondition(lambda self: self.readers)
    @rule(choice=st.randoms(use_true_random=False))
    def stall(self, choice):
        """From now on a reader's queue fills up, until it is released."""
        choice.choice(self.readers).gate.clear()

    @rule()
    def release(self):
        for reader in self.readers:
            reader.gate.set()

    @rule(start=st.integers(0, 40), limit=st.none() | st.integers(0, 6), reverse=st.booleans())
    def search(self, start, limit, reverse):
        found = self.run(self.found(start, limit, reverse))

        expected = list(range(start, len(self.model)))[:: -1 if reverse else 1][:limit]
        assert [event.id for event in found] == expected
        assert texts(found) == [self.model[event_id] for event_id in expected]

    async def found(self, start, limit, reverse):
        walk = self.stream.search_events(start, limit=limit, reverse=reverse)
        return [event async for event in walk]

    @rule(whole=st.sampled_from([False, False, False, True]))
    def restart(self, whole):
        """A new stream with a cold cache; a new medium, too, where it is durable."""
        self.release()
        self.run(self.do_restart(whole))
        for reader in self.readers:
            self.check_reader(reader)
        self.count_readers()
        self.figures["restarts"] += 1

    async def do_restart(self, whole) -> None:
        await self.stream.close(drain_seconds=BOUND_SECONDS)
        if whole and self.kind in DURABLE:
            await self.stack.aclose()
            await self.open_store()
        await self.open_stream()

    @precondition(lambda self: self.count > 12)
    @rule()
    def delete(self):
        self.release()
        self.run(self.do_delete())
        self.figures["deletions"] += 1
        self.generation += 1
        self.count_readers()
        self.start_over()

    async def do_delete(self) -> None:
        await self.store.delete(self.conversation_id)
        await self.stream.mark_deleted()
        with pytest.raises(ConversationDeleted):
            await self.stream.append(message("late"), USER)
        with pytest.raises(ConversationDeleted):
            await self.open_stream()

    @invariant()
    def store_stream_pages_and_readers_agree_with_the_list(self):
        paged, stored = self.run(self.look())

        assert paged == stored
        assert texts(stored) == self.model
        assert self.stream.next_id == len(self.model)
        for reader in self.readers:
            self.check_reader(reader)

    async def look(self):
        for reader in self.readers:
            if reader.gate.is_set():
                await reader.subscription.level()
        paged = await self.found(0, None, reverse=False)
        return paged, await log_of(self.store.inner, self.conversation_id)

    def check_reader(self, reader):
        """A gapless prefix without doubles, and all of it unless the reader is stalled."""
        expected = list(range(reader.after + 1, len(self.model)))
        if not reader.gate.is_set():
            expected = expected[: len(reader.ids)]
        assert reader.ids == expected
        assert reader.texts == [self.model[event_id] for event_id in expected]

    def count_readers(self):
        for reader in self.readers:
            self.figures["delivered"] += len(reader.ids)
            self.figures["lagged"] += reader.subscription.lagged
        self.readers = []


@pytest.mark.parametrize("kind", EVENT_STORES)
def test_any_history_of_a_stream_agrees_with_a_plain_list(kind, record_property):
    histories = HISTORIES.get(kind, 200)
    floors = {"appends": 5 * histories, "delivered": 5 * histories, "lagged": histories / 4}

    figures = try_histories(EventStreamMachine, floors, histories=histories, steps=30, kind=kind)

    record_property("figures", counted(figures))
    assert short_of(floors, figures) == {}
