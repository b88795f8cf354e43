"""The conformance suite of an EventStore, as tests of pytest and pytest-asyncio."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from events.conformance.records import MOMENT, append, key, record, records, summary_of
from events.errors import (
    AppendConflict,
    ConversationDeleted,
    DuplicateClientId,
    Fenced,
    MasksChanged,
)
from events.event import EventFlag
from events.fence import Fence
from events.stores.base import NO_KEYS, EventStore, Formed, Head
from storage.promise import Promise


class Former:
    """Forms `count` events for the ends of a log, and notes for which."""

    def __init__(
        self,
        text: str = "",
        count: int = 1,
        *,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: Fence | None = None,
        masks: int | None = None,
    ) -> None:
        self.heads: list[Head] = []
        self._text, self._count = text, count
        self._named = (keys, fence, masks)

    def __call__(self, head: Head) -> Formed:
        self.heads.append(head)
        events = records(head.next_id, self._count, self._text)
        return Formed(events, summary_of(events), *self._named)


class BusyWriter:
    """Appends to one log without a pause: each append is asked for as soon as the last is told."""

    def __init__(self, store: EventStore, conversation_id: str) -> None:
        self._store = store
        self._id = conversation_id
        self._ended: asyncio.Future[None] | None = None
        self._went_on: asyncio.Future[None] | None = None
        self.appended = 0

    def begin(self, next_id: int = 0) -> None:
        """Go on from there."""
        events = records(next_id, 1, "busy")
        attempt = Promise.of(
            self._store.append(self._id, next_id, events, summary=summary_of(events))
        )
        told = partial(self._told, next_id, attempt)
        if attempt.done:  # within this step nobody else could do anything
            asyncio.get_running_loop().call_soon(told)
        else:
            attempt.then(lambda _: told())

    async def go_on(self) -> None:
        """Wait until it has appended again."""
        self._went_on = asyncio.get_running_loop().create_future()
        await self._went_on

    async def end(self) -> None:
        """Append no more; what is under way is waited for."""
        self._ended = asyncio.get_running_loop().create_future()
        await self._ended

    def _told(self, next_id: int, attempt: Promise[object]) -> None:
        self.appended += attempt.error is None
        if self._went_on is not None and attempt.error is None:
            self._went_on.set_result(None)
            self._went_on = None
        if self._ended is not None:
            self._ended.set_result(None)
        elif attempt.error is None:
            self.begin(next_id + 1)
        else:
            assert isinstance(attempt.error, AppendConflict)
            again = Promise.of(self._store.head(self._id))
            again.then(lambda head: self.begin(head.result().next_id))


async def everything(store, conversation_id="c"):
    head = await store.head(conversation_id)
    return await store.read(conversation_id, 0, head.next_id)


class EventStoreSuite:
    """The contract of an EventStore; a subclass says how one is opened."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[EventStore]:
        """Yield the store under test, empty, and close it with the block."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def store(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    async def test_events_come_back_as_they_were_appended(self, store):
        written = [record(0, "Räksmörgås\x00 \N{SANDWICH}"), record(1, flag=EventFlag.SPECIAL)]
        await append(store, "c", written)

        assert await everything(store) == written

    async def test_an_unknown_conversation_has_an_empty_head_and_no_events(self, store):
        assert await store.head("c") == Head(0, None, "")
        assert await store.read("c", 0, 10) == []
        assert await store.find("c", key("a")) is None

    async def test_batches_continue_each_other_without_a_hole(self, store):
        await append(store, "c", records(0, 3))
        await append(store, "c", records(3, 1))
        await append(store, "c", records(4, 500))

        assert [event.id for event in await everything(store)] == list(range(504))

    @pytest.mark.parametrize("first_id", [0, 2, 4, 100])
    async def test_an_id_that_is_not_the_next_one_conflicts_and_changes_nothing(
        self, store, first_id
    ):
        await append(store, "c", records(0, 3, "first"), keys={1: key("a")})
        before = await store.head("c")

        with pytest.raises(AppendConflict):
            await append(store, "c", records(first_id, 2, "late"), keys={0: key("b")})

        assert await store.head("c") == before
        assert await everything(store) == records(0, 3, "first")
        assert await store.find("c", key("b")) is None

    async def test_a_first_append_that_does_not_begin_at_zero_conflicts_and_makes_no_log(
        self, store
    ):
        with pytest.raises(AppendConflict):
            await append(store, "c", records(1, 1))

        assert await store.head("c") == Head(0, None, "")

    async def test_of_two_writers_at_one_id_one_wins_whole_and_the_other_conflicts(self, store):
        left, right = records(0, 3, "left"), records(0, 2, "right")

        outcomes = await asyncio.gather(
            append(store, "c", left), append(store, "c", right), return_exceptions=True
        )

        winner = left if outcomes[0] is None else right
        assert sorted(map(type, outcomes), key=str) == [type(None), AppendConflict]
        assert await everything(store) == winner

    @pytest.mark.parametrize("stale", [Fence(4, 1), Fence(4, 9), Fence(5, 2)])
    async def test_a_stale_fence_is_refused_and_changes_nothing(self, store, stale):
        await append(store, "c", records(0, 1), fence=Fence(5, 1))
        await append(store, "c", records(1, 1), fence=Fence(5, 1), keys={0: key("a")})
        before = await store.head("c")

        for _ in range(2):
            with pytest.raises(Fenced):
                await append(store, "c", records(2, 1, "stale"), fence=stale, keys={0: key("b")})

        assert await store.head("c") == before
        assert before.fence == Fence(5, 1)
        assert await store.find("c", key("b")) is None
        await append(store, "c", records(2, 1), fence=Fence(5, 1))

    async def test_a_greater_fence_takes_the_log_over(self, store):
        await append(store, "c", records(0, 1), fence=Fence(5, 2**63 - 1))
        await append(store, "c", records(1, 1), fence=Fence(6, 1))

        with pytest.raises(Fenced):
            await append(store, "c", records(2, 1, "stale"), fence=Fence(5, 2**63 - 1))

        assert (await store.head("c")).fence == Fence(6, 1)
        assert await everything(store) == records(0, 2)

    async def test_a_stale_fence_right_behind_the_one_that_took_the_log_over_is_refused(
        self, store
    ):
        await append(store, "c", records(0, 1), fence=Fence(5, 1))
        await append(store, "c", records(1, 1), fence=Fence(5, 1))

        outcomes = await asyncio.gather(
            append(store, "c", records(2, 1), fence=Fence(6, 1)),
            append(store, "c", records(3, 1, "stale"), fence=Fence(5, 1)),
            append(store, "c", records(3, 1), fence=Fence(7, 1)),
            append(store, "c", records(4, 1, "stale"), fence=Fence(6, 1)),
            append(store, "c", records(4, 1), fence=Fence(7, 1)),
            return_exceptions=True,
        )

        assert [type(one) for one in outcomes[1::2]] == [Fenced, Fenced]
        assert [*outcomes[::2]] == [None, None, None]
        assert await everything(store) == records(0, 5)
        with pytest.raises(Fenced):
            await append(store, "c", records(5, 1, "stale"), fence=Fence(6, 1))

    async def test_an_append_without_a_fence_is_never_refused_for_one_and_leaves_it(self, store):
        await append(store, "c", records(0, 1))
        assert (await store.head("c")).fence is None
        await append(store, "c", records(1, 1), fence=Fence(7, 1))

        await append(store, "c", records(2, 1), keys={0: key("a")})
        await append(store, "c", records(3, 3))

        assert (await store.head("c")).fence == Fence(7, 1)
        assert await everything(store) == records(0, 6)
        with pytest.raises(Fenced):
            await append(store, "c", records(6, 1, "stale"), fence=Fence(6, 1))

    async def test_an_id_that_is_taken_conflicts_whatever_the_fence(self, store):
        await append(store, "c", records(0, 2), fence=Fence(5, 1))

        for fence in (None, Fence(4, 1), Fence(5, 1), Fence(6, 1)):
            with pytest.raises(AppendConflict):
                await append(store, "c", records(1, 1, "late"), fence=fence)

    async def test_append_next_appends_at_the_end_and_gives_the_end_it_was_formed_for(self, store):
        first, second = Former("first", 2), Former("second", 3, keys={1: key("a")})

        assert await store.append_next("c", first) == Head(0, None, "")
        before = await store.head("c")
        assert await store.append_next("c", second) == before
        await append(store, "c", [record(5, flag=EventFlag.STATE)], fence=Fence(3, 1))
        third = Former("third", fence=Fence(3, 1))
        head = await store.append_next("c", third)

        assert [*first.heads, *second.heads, *third.heads] == [Head(0, None, ""), before, head]
        assert (head.next_id, head.last_state_id, head.fence) == (6, 5, Fence(3, 1))
        assert head.epoch == before.epoch
        assert await store.read("c", 0, 5) == records(0, 2, "first") + records(2, 3, "second")
        assert await store.read("c", 6, 9) == records(6, 1, "third")
        assert await store.find("c", key("a")) == 3

    async def test_the_head_tells_the_newest_timestamp_of_the_log(self, store):
        assert (await store.head("c")).last_timestamp == ""
        await append(store, "c", records(0, 2))
        assert (await store.head("c")).last_timestamp == MOMENT

        assert (await store.append_next("c", Former())).last_timestamp == MOMENT

    @pytest.mark.parametrize(
        ("former", "error"),
        [
            (Former(keys={0: key("new"), 1: key("a")}, count=2), DuplicateClientId),
            (Former(fence=Fence(4, 1)), Fenced),
        ],
    )
    async def test_an_append_at_the_end_that_is_refused_changes_nothing(self, store, former, error):
        await append(store, "c", records(0, 2), keys={1: key("a")}, fence=Fence(5, 1))
        before = await store.head("c")

        with pytest.raises(error) as caught:
            await store.append_next("c", former)

        assert await store.head("c") == before
        assert await store.find("c", key("new")) is None
        if isinstance(caught.value, DuplicateClientId):
            assert caught.value.taken == {1: 1}
        await store.append_next("c", Former(fence=Fence(6, 1)))

    async def test_nothing_is_formed_for_a_deleted_log(self, store):
        await append(store, "c", records(0, 2))
        await store.delete("c")
        former = Former()

        with pytest.raises(ConversationDeleted):
            await store.append_next("c", former)

        assert former.heads == []

    async def test_what_forming_raises_is_told_and_holds_nobody_up(self, store):
        def fails(head):
            raise ArithmeticError(f"at {head.next_id}")

        await append(store, "c", records(0, 2))
        before = await store.head("c")

        with pytest.raises(ArithmeticError, match="at 2"):
            await store.append_next("c", fails)

        assert await store.head("c") == before
        await append(store, "c", records(2, 1))
        assert (await store.append_next("c", Former())).next_id == 3

    async def test_a_caller_that_gives_up_its_turn_holds_nobody_up(self, store):
        await append(store, "c", records(0, 2))
        waiting = [asyncio.ensure_future(store.append_next("c", Former())) for _ in range(5)]
        await asyncio.sleep(0)
        for one in waiting[:4]:
            one.cancel()

        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        await store.append_next("c", Former("last"))

        events = await everything(store)
        assert isinstance(outcomes[4], Head)
        assert [event.id for event in events] == list(range(len(events)))
        assert events[-1] == record(len(events) - 1, "last")

    async def test_appends_at_one_end_all_get_in_each_whole_and_formed_once(self, store):
        formers = [Former(f"writer {number}", 3) for number in range(20)]

        heads = await asyncio.gather(*(store.append_next("c", one) for one in formers))

        events = await everything(store)
        assert len(events) == 60
        for number, (former, head) in enumerate(zip(formers, heads, strict=True)):
            assert former.heads == [head]
            first_id = head.next_id
            written = records(first_id, 3, f"writer {number}")
            assert events[first_id : first_id + 3] == written

    async def test_beside_one_that_appends_without_a_pause_another_always_gets_in_at_once(
        self, store, record_property
    ):
        busy = BusyWriter(store, "c")
        busy.begin()
        formers = [Former("other") for _ in range(25)]
        for former in formers:
            head = await store.append_next("c", former)
            assert former.heads == [head]
            await busy.go_on()
        await busy.end()

        events = await everything(store)
        others = {former.heads[0].next_id for former in formers}
        assert events == [
            record(event_id, "other" if event_id in others else "busy")
            for event_id in range(25 + busy.appended)
        ]
        record_property("figures", f"25 events got in among {busy.appended}")

    async def test_masks_below_the_version_of_the_log_are_refused_and_change_nothing(self, store):
        await append(store, "c", records(0, 1), masks=3)
        await append(store, "c", records(1, 1), masks=3, keys={0: key("a")})
        before = await store.head("c")

        for _ in range(2):
            with pytest.raises(MasksChanged) as caught:
                await append(store, "c", records(2, 1, "stale"), masks=2, keys={0: key("b")})
            assert caught.value.version == 3

        assert await store.head("c") == before
        assert before.masks == 3
        assert await store.find("c", key("b")) is None
        await append(store, "c", records(2, 1), masks=3)
        await append(store, "c", records(3, 1), masks=7)
        assert (await store.head("c")).masks == 7
        with pytest.raises(MasksChanged):
            await store.append_next("c", Former(masks=3))

    async def test_an_append_that_names_no_masks_is_never_refused_for_them_and_leaves_them(
        self, store
    ):
        await append(store, "c", records(0, 1))
        assert (await store.head("c")).masks == 0
        await append(store, "c", records(1, 1), masks=5)

        await append(store, "c", records(2, 1), keys={0: key("a")})
        await append(store, "c", records(3, 2), fence=Fence(1, 1))

        assert (await store.head("c")).masks == 5
        assert await everything(store) == records(0, 5)
        with pytest.raises(MasksChanged):
            await append(store, "c", records(5, 1, "stale"), masks=4)

    async def test_a_conflict_is_told_before_a_stale_fence_and_that_before_masks_and_keys(
        self, store
    ):
        await append(store, "c", records(0, 2), fence=Fence(5, 1), masks=5, keys={0: key("a")})
        stale = {"fence": Fence(4, 1), "masks": 4, "keys": {0: key("a")}}

        with pytest.raises(AppendConflict):
            await append(store, "c", records(1, 1), **stale)
        with pytest.raises(Fenced):
            await append(store, "c", records(2, 1), **stale)
        with pytest.raises(MasksChanged):
            await append(store, "c", records(2, 1), **{**stale, "fence": None})
        with pytest.raises(DuplicateClientId):
            await append(store, "c", records(2, 1), keys=stale["keys"], masks=5)

    async def test_the_heads_of_several_logs_come_in_the_order_asked_for(self, store):
        await append(store, "a", records(0, 2))
        await append(store, "b", records(0, 3), fence=Fence(1, 1))
        await store.delete("a")

        asked = ["b", "unknown", "a", "b"]

        assert await store.heads(asked) == [await store.head(one) for one in asked]
        assert await store.heads([]) == []

    async def test_taken_keys_name_their_places_and_nothing_is_written(self, store):
        await append(store, "c", records(0, 3), keys={0: key("a"), 2: key("b")})
        before = await store.head("c")

        with pytest.raises(DuplicateClientId) as caught:
            await append(store, "c", records(3, 4), keys={0: key("new"), 1: key("b"), 3: key("a")})

        assert caught.value.taken == {1: 2, 3: 0}
        assert await store.head("c") == before
        assert await store.find("c", key("new")) is None
        await append(store, "c", records(3, 1), keys={0: key("new")})
        assert await store.find("c", key("new")) == 3

    async def test_a_key_belongs_to_its_conversation(self, store):
        await append(store, "c", records(0, 2), keys={1: key("a")})
        await append(store, "d", records(0, 1), keys={0: key("a")})

        assert await store.find("c", key("a")) == 1
        assert await store.find("d", key("a")) == 0

    async def test_a_conflict_is_told_before_taken_keys(self, store):
        await append(store, "c", records(0, 1), keys={0: key("a")})

        with pytest.raises(AppendConflict):
            await append(store, "c", records(0, 1), keys={0: key("a")})

    async def test_the_head_names_the_newest_state_event(self, store):
        await append(store, "c", [record(0), record(1, flag=EventFlag.STATE), record(2)])
        first = await store.head("c")
        await append(store, "c", records(3, 1))
        second = await store.head("c")
        await append(store, "c", [record(i, flag=EventFlag.STATE) for i in (4, 5)])
        third = await store.head("c")

        assert [head.last_state_id for head in (first, second, third)] == [1, 1, 5]
        assert [head.next_id for head in (first, second, third)] == [3, 4, 6]

    async def test_a_log_keeps_its_epoch_and_no_other_log_has_it(self, store):
        await append(store, "c", records(0, 1))
        await append(store, "d", records(0, 1))
        first, other = (await store.head("c")).epoch, (await store.head("d")).epoch
        await append(store, "c", records(1, 1))

        assert first
        assert first != other
        assert (await store.head("c")).epoch == first

    @pytest.mark.parametrize(
        ("start_id", "end_id", "expected"),
        [
            (0, 5, [0, 1, 2, 3, 4]),
            (2, 4, [2, 3]),
            (3, 99, [3, 4]),
            (4, 2**40, [4]),
            (-3, 2, [0, 1]),
            (2, 2, []),
            (3, 1, []),
            (-9, -1, []),
            (-9, 0, []),
            (5, 6, []),
            (2**32, 2**32 + 5, []),
            (2**70, 2**70 + 1, []),
        ],
    )
    async def test_a_read_gives_its_range_as_far_as_the_log_goes(
        self, store, start_id, end_id, expected
    ):
        await append(store, "c", records(0, 5))
        await append(store, "b", records(0, 7, "neighbour"))
        await append(store, "d", records(0, 7, "neighbour"))

        assert await store.read("c", start_id, end_id) == [
            record(event_id) for event_id in expected
        ]

    async def test_ranges_of_several_logs_are_read_as_each_by_itself(self, store):
        for number, name in enumerate("abc"):
            await append(store, name, records(0, 20 + number, f"of {name}"))
            await append(store, name, records(20 + number, 3, f"of {name}"))
        await append(store, "gone", records(0, 5))
        await store.delete("gone")

        asked = [
            ("b", 3, 9),
            ("a", 0, 99),
            ("gone", 0, 5),
            ("unknown", 0, 5),
            ("b", 20, 24),
            ("c", 22, 23),
            ("b", 3, 9),
            ("a", -5, 2),
            ("c", 4, 4),
            ("c", 9, 3),
            ("c", -9, 0),
            ("a", 23, 40),
            ("a", 2**32, 2**70),
        ]

        assert await store.read_many(asked) == [await store.read(*one) for one in asked]
        assert await store.read_many([]) == []
        first, *_ = await store.read_many(asked)
        assert first == records(3, 6, "of b")

    async def test_many_conversations_are_appended_to_at_once(self, store, record_property):
        async def write(number):
            for first_id in range(0, 40, 4):
                await append(store, f"c{number}", records(first_id, 4, f"of {number}"))

        await asyncio.gather(*(write(number) for number in range(30)))

        appended = 0
        for number in range(30):
            events = await everything(store, f"c{number}")
            assert events == records(0, 40, f"of {number}")
            appended += len(events)
        record_property("figures", f"{appended} events appended to 30 conversations")
        assert appended >= 1200

    async def test_a_conflict_among_many_appends_touches_no_neighbour(self, store):
        await append(store, "c0", records(0, 1))

        outcomes = await asyncio.gather(
            *(append(store, f"c{number}", records(0, 2)) for number in range(20)),
            return_exceptions=True,
        )

        assert isinstance(outcomes[0], AppendConflict)
        assert outcomes[1:] == [None] * 19
        assert len(await everything(store, "c0")) == 1
        for number in range(1, 20):
            assert await everything(store, f"c{number}") == records(0, 2)

    async def test_taken_keys_and_conflicts_among_appends_to_logs_under_way_touch_no_neighbour(
        self, store
    ):
        names = [f"c{number}" for number in range(20)]
        await asyncio.gather(
            *(append(store, name, records(0, 2), keys={1: key("old")}) for name in names)
        )
        states = [record(2), record(3, flag=EventFlag.STATE)]

        outcomes = await asyncio.gather(
            append(store, "c0", states, keys={0: key("old")}),
            append(store, "c1", records(1, 2), keys={0: key("late")}),
            append(store, "c2", records(2, 2, "left"), keys={0: key("new")}),
            append(store, "c2", records(2, 2, "right"), keys={0: key("new")}),
            *(append(store, name, states, keys={1: key("new")}) for name in names[3:]),
            return_exceptions=True,
        )

        assert [type(one) for one in outcomes[:2]] == [DuplicateClientId, AppendConflict]
        assert sorted(map(type, outcomes[2:4]), key=str) == [type(None), AppendConflict]
        assert outcomes[4:] == [None] * 17
        assert [len(await everything(store, name)) for name in names[:3]] == [2, 2, 4]
        assert await store.find("c1", key("late")) is None
        for name in names[3:]:
            assert await everything(store, name) == records(0, 2) + states
            assert await store.find(name, key("new")) == 3
            assert (await store.head(name)).last_state_id == 3

    async def test_a_body_of_several_megabytes_comes_back_whole(self, store):
        big = record(0, "\N{SANDWICH}" * 1_500_000)
        await append(store, "c", [big, record(1)])

        assert await everything(store) == [big, record(1)]
