"""The doorbell over a channel that loses, doubles and holds back what it is given."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest

from server.cluster import doorbell as subject
from server.cluster.doorbell import DEAF_SECONDS, MOST_NOTICES, MOST_PENDING, Doorbell
from server.cluster.wire import HEAD_BYTES, Kind, decode, encode
from tests.support.exchange import Exchange, Heard
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio

STRANGER = 77


@pytest.fixture
def exchange():
    return Exchange()


@asynccontextmanager
async def two(exchange, **options):
    """A doorbell that rings, one that hears, and what the second one heard; both hear by now."""
    heard = Heard()
    async with (
        Doorbell(exchange, Heard(), incarnation=1, **options) as left,
        Doorbell(exchange, heard, incarnation=2) as right,
    ):
        await until(lambda: left.hears and right.hears)
        yield left, right, heard


async def test_what_comes_within_a_tick_is_one_message_with_the_farthest_position_of_each_log(
    exchange,
):
    async with two(exchange) as (left, _, heard):
        exchange.sent.clear()
        for number, position in ((5, 1), (6, 4), (5, 3), (5, 2)):
            left.ring(number, position)
        await until(lambda: heard.rings)

    sent = [decode(one) for one in exchange.sent]
    assert [one.numbers for one in sent if one.incarnation == 1 and one.numbers] == [(5, 6)]
    assert heard.rings == {5: 3, 6: 4}


async def test_a_doorbell_does_not_tell_its_own_process(exchange):
    heard = Heard()
    async with Doorbell(exchange, heard, incarnation=1) as left, two(exchange) as (_, _, other):
        left.ring(5, 1)
        await until(lambda: other.rings)

    assert heard.rings == {}


async def test_a_message_that_is_missing_is_noticed_with_the_next_one(exchange):
    async with two(exchange) as (left, _, heard):
        exchange.carries = lambda message: not decode(message).numbers
        left.ring(5, 1)
        await until(lambda: any(decode(one).numbers for one in exchange.sent))
        exchange.carries = lambda _: 1
        left.ring(6, 1)
        await until(lambda: heard.rings)

    assert heard.rings == {6: 1}
    assert heard.misses == 1


async def test_messages_that_come_twice_or_late_are_none_that_are_missing(exchange):
    exchange.carries = lambda _: 2
    async with two(exchange) as (left, _, heard):
        for number in range(5):
            left.ring(number, 1)
            await until(partial(heard.rings.__contains__, number))
        exchange.deliver(encode(Kind.RINGS, 0, 1, 1, {99: 1}))
        await until(lambda: 99 in heard.rings)

    assert heard.misses == 0


async def test_the_first_message_of_a_process_says_nothing_of_those_before(exchange):
    async with two(exchange) as (_, _, heard):
        exchange.deliver(encode(Kind.RINGS, 0, STRANGER, 1_000, {5: 1}))
        await until(lambda: heard.rings)

    assert heard.misses == 0


async def test_numbers_beyond_the_bound_are_dropped_and_others_learn_that_some_are_missing(
    exchange,
):
    async with two(exchange) as (left, _, heard):
        for number in range(MOST_PENDING + 1):
            left.ring(number, 1)
        await until(lambda: len(heard.rings) == MOST_PENDING)

    assert MOST_PENDING not in heard.rings
    assert heard.misses == 1
    assert max(map(len, exchange.sent)) <= exchange.most_bytes


async def test_of_notices_beyond_the_bound_the_oldest_are_dropped(exchange):
    async with two(exchange) as (left, _, heard):
        for number in range(MOST_NOTICES + 1):
            left.notice("c", {"number": number})
        await until(lambda: len(heard.notices) == MOST_NOTICES)

    assert heard.notices[0] == ("c", {"number": 1})


async def test_a_notice_that_is_too_long_or_no_json_harms_no_other(exchange, caplog):
    async with two(exchange) as (left, _, heard):
        left.notice("long", {"text": "x" * exchange.most_bytes})
        left.notice("none", {"what": object()})
        left.notice("short", {"text": "x"})
        await until(lambda: heard.notices)

    assert heard.notices == [("short", {"text": "x"})]
    assert "a notice cannot be sent" in caplog.text


async def test_bytes_of_others_are_passed_over_and_logged(exchange, caplog):
    async with two(exchange) as (left, right, heard):
        exchange.deliver(b"hello")
        left.ring(5, 1)
        await until(lambda: heard.rings)
        assert right.hears

    assert "no message" in caplog.text


async def test_a_kind_of_a_later_version_counts_and_says_nothing(exchange):
    async with two(exchange) as (_, _, heard):
        later = bytearray(encode(Kind.RINGS, 0, STRANGER, 2, {5: 1}))
        later[3] = 200
        exchange.deliver(encode(Kind.RINGS, 0, STRANGER, 1, {}))
        exchange.deliver(bytes(later))
        exchange.deliver(encode(Kind.RINGS, 0, STRANGER, 3, {6: 1}))
        await until(lambda: heard.rings)

    assert heard.rings == {6: 1}
    assert heard.misses == 0


@pytest.mark.parametrize("broken", ["sends are held", "messages vanish"])
async def test_who_does_not_hear_itself_is_deaf_and_hears_again_afterwards(exchange, broken):
    heard = Heard()
    loop = asyncio.get_running_loop()
    async with Doorbell(exchange, heard, incarnation=1) as bell:
        await until(lambda: bell.hears)
        began = loop.time()
        if broken == "sends are held":
            exchange.answers = False
        else:
            exchange.carries = lambda _: 0
        for number in range(100):
            bell.ring(number, 1)  # never waits
        await until(lambda: not bell.hears)
        assert loop.time() - began >= DEAF_SECONDS - subject.QUIET_SECONDS - 0.1
        exchange.answers, exchange.carries = True, lambda _: 1
        await until(lambda: bell.hears)

    assert heard.hearing == [True, False, True, False]


async def test_a_channel_that_is_away_is_tried_again_and_its_loss_is_one_line(exchange, caplog):
    async with Doorbell(exchange, Heard(), incarnation=1) as bell:
        await until(lambda: bell.hears)
        exchange.cut()
        await until(lambda: not bell.hears)
        await until(lambda: caplog.text.count("no doorbell"))
        exchange.is_up = True
        await until(lambda: bell.hears)

    assert caplog.text.count("no doorbell") == 1


async def test_others_learn_whether_a_process_has_its_storage(exchange):
    answers = True
    async with two(exchange, answers=lambda: answers) as (left, right, _):
        await until(lambda: right.others_answer and left.others_answer)
        answers = False
        await until(lambda: not right.others_answer)
        assert left.others_answer


async def test_after_the_end_nothing_is_sent(exchange):
    async with two(exchange) as (left, _, _):
        pass
    count = len(exchange.sent)

    left.ring(5, 1)
    left.notice("c", {})

    assert not left.hears
    assert len(exchange.sent) == count
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_empty_message_is_as_short_as_the_head(exchange):
    async with two(exchange):
        pass

    assert {len(one) for one in exchange.sent} == {HEAD_BYTES}
