"""Publishing never waits and never drops; following has neither gap nor double."""

import asyncio

import pytest

from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import FaultyEventStore
from tests.support.streams import AGENT, USER, Recorder, log_of, message, open_stream, texts


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


@pytest.fixture
async def stream(store):
    opened = await open_stream(store)
    yield opened
    await opened.close()


async def say(stream, count):
    return await asyncio.gather(*(stream.append(message(str(n)), USER) for n in range(count)))


async def collect(stream, after, until):
    seen = []
    async for event in stream.follow(after):
        seen.append(event.id)
        if event.id == until:
            break
    return seen


@pytest.mark.parametrize("at_a_time", [1, 3, 1_000])
async def test_an_agent_with_a_queue_of_one_emits_a_thousand_events_from_its_own_callback(
    store, record_property, at_a_time
):
    stream = await open_stream(store, subscription_queue=1)
    seen = Recorder()
    emitted = 0
    asides = []

    async def agent(events):
        nonlocal emitted
        await seen(events)
        for _ in range(min(at_a_time, 1_000 - emitted)):
            emitted += 1
            appended = stream.append(message(f"answer {emitted}"), AGENT)
            if emitted % 2:
                await appended
            else:
                asides.append(stream.enqueue(message(f"aside {emitted}"), AGENT))
                await appended

    subscription = stream.subscribe("agent", agent)
    other = Recorder()
    stream.subscribe("other", other)
    await stream.append(message("go"), USER)
    async with asyncio.timeout(60):
        assert await collect(stream, -1, 1_500) == list(range(1_501))
    await stream.close()

    log = await log_of(store)
    record_property(
        "figures",
        f"{len(log)} appended, {len(seen.ids)} delivered to the agent that emits them,"
        f" lagged {subscription.lagged} times",
    )
    assert len(log) == 1_501
    assert seen.events == other.events == log
    assert subscription.lagged >= 1


async def test_a_subscriber_that_hangs_holds_neither_appends_nor_others_up(stream):
    gate = asyncio.Event()
    slow = Recorder()

    async def hangs(events):
        await gate.wait()
        await slow(events)

    stream.subscribe("slow", hangs)
    other = Recorder()
    stream.subscribe("other", other)

    await say(stream, 300)
    await asyncio.sleep(0.1)
    assert other.ids == list(range(300))
    assert slow.ids == []

    gate.set()
    await stream.flush()
    assert slow.ids == list(range(300))


async def test_a_lagging_subscriber_resumes_from_the_log_where_it_was(store):
    stream = await open_stream(store, subscription_queue=5)
    gate = asyncio.Event()
    recorder = Recorder()

    async def slow(events):
        await recorder(events)
        await gate.wait()

    subscription = stream.subscribe("slow", slow)
    await say(stream, 2)
    await asyncio.sleep(0.1)
    await say(stream, 100)
    assert subscription.lagged == 1
    gate.set()
    await stream.flush()
    await say(stream, 3)
    await stream.flush()

    assert recorder.events == await log_of(store)
    assert subscription.position == 104


@pytest.mark.parametrize("after", [-1, 0, 8, 9, 10, 24, 29, 30, 99, -7])
async def test_a_subscription_begins_behind_any_position(stream, after):
    await say(stream, 30)
    recorder = Recorder()
    stream.subscribe("test", recorder, after=after)
    await say(stream, 5)
    await stream.flush()

    assert recorder.ids == list(range(max(after, -1) + 1 if after < 30 else 30, 35))


async def test_without_a_position_a_subscription_begins_now(stream):
    await say(stream, 3)
    recorder = Recorder()
    stream.subscribe("test", recorder)
    await say(stream, 2)
    await stream.flush()

    assert recorder.ids == [3, 4]


async def test_an_ended_subscription_is_handed_nothing_more(stream):
    recorder = Recorder()
    subscription = stream.subscribe("test", recorder)
    await say(stream, 2)
    await stream.unsubscribe(subscription, drain_seconds=1.0)
    await stream.unsubscribe(subscription)
    await say(stream, 2)

    assert recorder.ids == [0, 1]


@pytest.mark.parametrize("after", [-1, 0, 9, 24, 29, -7])
async def test_following_gives_the_backlog_and_then_what_comes(stream, after):
    await say(stream, 30)
    following = asyncio.ensure_future(collect(stream, after, 59))
    for _ in range(30):
        await asyncio.sleep(0)
        stream.enqueue(message("live"), USER)

    assert await following == list(range(max(after, -1) + 1, 60))


async def test_followers_at_any_moment_of_a_busy_stream_miss_and_repeat_nothing(
    stream, store, record_property
):
    following = []
    for number in range(500):
        stream.enqueue(message(str(number)), USER)
        if number % 10 == 0:
            after = (number * 7) % (stream.next_id + 1) - 1
            following.append((after, asyncio.ensure_future(collect(stream, after, 499))))
        for _ in range(number % 4):
            await asyncio.sleep(0)

    delivered = 0
    for after, follower in following:
        seen = await follower
        assert seen == list(range(after + 1, 500))
        delivered += len(seen)
    record_property("figures", f"500 appended, {delivered} delivered to {len(following)} followers")
    assert delivered > 10_000


async def test_a_follower_ends_when_the_stream_closes_and_has_seen_everything(stream):
    async def follow():
        return [event async for event in stream.follow(-1)]

    following = asyncio.ensure_future(follow())
    await say(stream, 15)
    await stream.close()

    assert texts(await following) == [str(n) for n in range(15)]


async def test_flushing_is_bounded(stream):
    async def hangs(events):
        await asyncio.get_running_loop().create_future()

    stream.subscribe("hangs", hangs)
    await stream.append(message("a"), USER)
    begun = asyncio.get_running_loop().time()

    await stream.flush(2.0)

    assert 2.0 <= asyncio.get_running_loop().time() - begun < 3.0
