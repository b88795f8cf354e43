"""Subscription: a bounded queue that lags instead of waiting or dropping."""

import asyncio
import logging

import pytest

from events.conformance.records import record, records
from events.errors import ConversationDeleted, StoreUnavailable
from events.subscription import RETRY_SECONDS, Subscription


class Log:
    """A log in a list, and what a subscriber saw of it."""

    def __init__(self):
        self.events = []
        self.seen: list[int] = []
        self.calls: list[int] = []
        self.reads = 0
        self.failures: list[Exception] = []
        self.callback = self.note

    def grow(self, count):
        grown = records(len(self.events), count)
        self.events += grown
        return grown

    async def note(self, events):
        self.calls.append(len(events))
        self.seen += [event.id for event in events]

    async def read(self, start_id):
        if start_id >= len(self.events):
            return ()
        self.reads += 1
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return self.events[start_id : start_id + 10]

    def subscribe(self, *, position=-1, capacity=1000, **options):
        return Subscription(
            "test", self.hand_over, self.read, position=position, capacity=capacity, **options
        )

    async def hand_over(self, events):
        await self.callback(events)


@pytest.fixture
def log():
    return Log()


async def test_events_are_handed_over_in_order_and_the_position_follows(log):
    subscription = log.subscribe()
    for count in (1, 3, 2):
        subscription.offer(log.grow(count))
        await subscription.level()

    assert log.seen == list(range(6))
    assert log.calls == [1, 3, 2]
    assert subscription.position == 5
    assert log.reads == 0


async def test_what_is_offered_while_the_callback_works_is_handed_over_next(log):
    started, gate = asyncio.Event(), asyncio.Event()

    async def slow(events):
        started.set()
        await gate.wait()
        await log.note(events)

    log.callback = slow
    subscription = log.subscribe()
    subscription.offer(log.grow(1))
    await started.wait()
    subscription.offer(log.grow(2))
    subscription.offer(log.grow(3))
    gate.set()
    await subscription.level()

    assert log.calls == [1, 5]
    assert log.seen == list(range(6))


async def test_no_task_is_left_when_there_is_nothing_to_hand_over(log):
    subscription = log.subscribe()
    subscription.offer(log.grow(3))
    await subscription.level()

    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("capacity", [0, 1, 7])
async def test_what_does_not_fit_makes_it_lag_and_is_read_from_the_log(log, capacity):
    subscription = log.subscribe(capacity=capacity)

    for _ in range(20):
        subscription.offer(log.grow(2))
    await subscription.level()

    assert log.seen == list(range(40))
    assert subscription.lagged == 1
    assert log.reads > 0


async def test_what_is_too_long_for_its_queue_makes_it_lag_too(log):
    started, gate = asyncio.Event(), asyncio.Event()

    async def held(events):
        started.set()
        await gate.wait()
        await log.note(events)

    log.callback = held
    subscription = log.subscribe(capacity_bytes=1_000)
    subscription.offer(log.grow(1), 900)
    await started.wait()
    lags = [subscription.offer(log.grow(1), 400) for _ in range(4)]
    gate.set()
    await subscription.level()

    assert lags == [False, False, True, False]
    assert log.seen == list(range(5))
    assert not subscription.offer(log.grow(1), 900)
    await subscription.level()
    assert log.seen == list(range(6))


async def test_a_subscription_that_is_level_again_takes_from_its_queue(log):
    subscription = log.subscribe(capacity=5)
    subscription.offer(log.grow(30))
    await subscription.level()
    reads = log.reads

    subscription.offer(log.grow(2))
    await subscription.level()

    assert log.seen == list(range(32))
    assert (log.reads, subscription.lagged) == (reads, 1)


async def test_what_is_offered_while_it_reads_on_is_neither_lost_nor_repeated(log):
    subscription = log.subscribe(capacity=3)
    subscription.offer(log.grow(50))
    for turn in range(1_000):
        await asyncio.sleep(0)
        subscription.offer(log.grow(1 + turn % 5))
        if turn % 7 == 0:
            await subscription.level()

    await subscription.level()
    assert log.seen == list(range(len(log.events)))
    assert subscription.lagged >= 100


async def test_one_that_starts_behind_catches_up_and_then_lives(log):
    log.grow(25)
    subscription = log.subscribe(position=3)
    subscription.catch_up()
    subscription.offer(log.grow(1))
    await subscription.level()
    subscription.offer(log.grow(1))
    await subscription.level()

    assert log.seen == list(range(4, 27))


async def test_an_error_of_the_callback_is_logged_counted_and_stops_nothing(log, caplog):
    async def breaks(events):
        await log.note(events)
        if events[0].id == 0:
            raise ValueError("broken")

    log.callback = breaks
    subscription = log.subscribe()
    subscription.offer(log.grow(2))
    await subscription.level()
    subscription.offer(log.grow(2))
    await subscription.level()

    assert log.seen == [0, 1, 2, 3]
    assert subscription.errors == 1
    assert "events 0-1" in caplog.text
    assert "broken" in caplog.text


async def test_a_callback_that_ends_in_something_cancelled_stops_nothing(log):
    gate = asyncio.Event()

    async def awaits_the_cancelled(events):
        await log.note(events)
        if events[0].id == 0:
            await gate.wait()
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            never.cancel()
            await never

    log.callback = awaits_the_cancelled
    subscription = log.subscribe()
    subscription.offer(log.grow(1))
    await asyncio.sleep(0)
    subscription.offer(log.grow(2))
    gate.set()
    await subscription.level()

    assert log.seen == [0, 1, 2]
    assert (subscription.errors, subscription.position) == (1, 2)


async def test_a_log_that_cannot_be_read_is_tried_again(log, caplog):
    log.failures = [StoreUnavailable("away"), StoreUnavailable("away")]
    subscription = log.subscribe(capacity=1)
    begun = asyncio.get_running_loop().time()
    subscription.offer(log.grow(5))
    await subscription.level()

    assert log.seen == list(range(5))
    assert subscription.errors == 2
    assert asyncio.get_running_loop().time() - begun >= 2 * RETRY_SECONDS
    assert "cannot read the log" in caplog.text


async def test_a_deleted_log_ends_it_quietly(log, caplog):
    log.failures = [ConversationDeleted("c")]
    subscription = log.subscribe(capacity=1)
    subscription.offer(log.grow(5))
    await subscription.level()
    subscription.offer(log.grow(1))
    await subscription.level()

    assert log.seen == []
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_closing_hands_over_what_waits_within_its_deadline(log):
    subscription = log.subscribe()
    subscription.offer(log.grow(3))

    await subscription.close(drain_seconds=1.0)
    subscription.offer(log.grow(1))
    subscription.wake()

    assert log.seen == [0, 1, 2]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_ends_a_callback_that_hangs(log):
    async def hangs(events):
        await asyncio.get_running_loop().create_future()

    log.callback = hangs
    subscription = log.subscribe()
    subscription.offer(log.grow(3))

    await subscription.close(drain_seconds=1.0)

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_from_within_the_callback_ends_it_after_that_call(log):
    async def closes(events):
        await log.note(events)
        await subscription.close(drain_seconds=1.0)
        subscription.offer(log.grow(1))

    log.callback = closes
    subscription = log.subscribe()
    subscription.offer(log.grow(2))
    await subscription.level()

    assert log.seen == [0, 1]


async def test_offering_returns_before_the_callback_is_called(log):
    subscription = log.subscribe()

    subscription.offer([record(0)])

    assert log.seen == []
    await subscription.level()


async def test_a_callback_that_never_waits_leaves_the_loop_to_others(log):
    turns = 0

    async def offers_more(events):
        if len(log.events) < 100:
            subscription.offer(log.grow(1))

    async def other():
        nonlocal turns
        while len(log.events) < 100:
            turns += 1
            await asyncio.sleep(0)

    log.callback = offers_more
    subscription = log.subscribe()
    subscription.offer(log.grow(1))
    await other()

    assert turns > 50


async def test_a_read_that_others_cancelled_is_tried_again(log, caplog):
    log.failures = [asyncio.CancelledError()]
    log.grow(3)
    subscription = log.subscribe()
    subscription.catch_up()
    await subscription.level()

    assert log.seen == [0, 1, 2]
    assert "cannot read the log; retrying" in caplog.text
