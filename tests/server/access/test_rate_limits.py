"""A client that asks too often is told when to come back; no other one notices."""

import asyncio
from typing import Any

import httpx
import pytest

from server.access.client_address import Addresses
from server.access.rate_limits import (
    BAN_SECONDS,
    MAX_BANS,
    MAX_KEYS,
    MovingWindows,
    RateClass,
    RateLimits,
)
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.errors import RateLimited
from tests.support.clients import message
from tests.support.intruder import ELSEWHERE, intruder, join
from tests.support.live import live_server
from tests.support.polling import polling_client, polling_through
from tests.support.rest import assert_refused, client_at, rest_server
from tests.support.waiting import WAIT_SECONDS

BOTH_WAYS = True
OPENING = "/socket.io/?EIO=4&transport=polling"
POLL = f"{OPENING}&sid=none"
CLASSES: dict[str, tuple[str, str, Any]] = {
    "reads": ("GET", "/api/conversations", {}),
    "writes": ("POST", "/api/reset-settings", {}),
    "creations": ("POST", "/api/conversations", {"json": {}}),
    "searches": ("GET", "/api/search?q=x", {}),
    "uploads": ("POST", "/api/conversations/c/upload-files", {"files": [("files", ("a", b"1"))]}),
    "handshakes": ("GET", OPENING, {}),
    "polls": ("GET", POLL, {}),
}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


async def served(client, kind):
    method, path, arguments = CLASSES[kind]
    answer = await client.request(method, path, **arguments)
    return answer if answer.status_code == 429 else None


def rates_of(clock, **settings):
    config = ServerConfig(**settings)
    return RateLimits(config, Addresses(config), clock)


def banned(rates, address):
    while not rates.is_banned(address):
        rates.violated(address)


def test_exactly_the_limit_is_served():
    rates = rates_of(Clock(), rate_reads="3/minute")
    for _ in range(3):
        rates.check(RateClass.READS, "10.0.0.1")
        rates.spend(RateClass.READS, "10.0.0.1")
    with pytest.raises(RateLimited):
        rates.check(RateClass.READS, "10.0.0.1")
    with pytest.raises(RateLimited):
        rates.spend(RateClass.READS, "10.0.0.1")


def test_of_too_many_bans_the_one_that_was_renewed_longest_ago_is_forgotten():
    rates = rates_of(Clock(), rate_violations="1/hour")
    for number in range(MAX_BANS):
        banned(rates, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    rates.violated("10.0.0.0")
    banned(rates, "192.168.0.1")

    assert rates.is_banned("10.0.0.0")
    assert not rates.is_banned("10.0.0.1")
    assert rates.is_banned("10.0.0.2")
    assert rates.is_banned("192.168.0.1")


def test_a_ban_lasts_from_the_last_breach_on():
    clock = Clock()
    rates = rates_of(clock, rate_violations="1/hour")
    banned(rates, "10.0.0.1")
    clock.now += BAN_SECONDS - 1
    rates.violated("10.0.0.1")
    clock.now += BAN_SECONDS - 1
    assert rates.is_banned("10.0.0.1")
    clock.now += 1
    assert not rates.is_banned("10.0.0.1")


@pytest.mark.parametrize("kind", CLASSES)
async def test_each_class_is_counted_by_itself(kind):
    others = [one for one in CLASSES if one != kind]
    async with (
        rest_server(**{f"rate_{kind}": "2/minute"}) as rest,
        client_at(rest, "10.0.0.1") as client,
    ):
        assert await served(client, kind) is None
        assert await served(client, kind) is None
        refused = await served(client, kind)

        assert_refused(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        for other in others:
            assert await served(client, other) is None


async def test_another_address_and_this_machine_are_served_on():
    async with (
        rest_server(rate_reads="1/hour") as rest,
        client_at(rest, "10.0.0.1") as busy,
        client_at(rest, "10.0.0.2") as other,
    ):
        assert await served(busy, "reads") is None
        assert await served(busy, "reads") is not None
        assert await served(other, "reads") is None
        for _ in range(5):
            assert await served(rest.client, "reads") is None


async def test_a_user_is_counted_wherever_he_asks_from():
    users = "tests.support.extensions:HeaderAuth"
    async with (
        rest_server(user_auth_class=users, rate_reads="2/hour") as rest,
        client_at(rest, "10.0.0.1", **{"x-forwarded-user": "ann"}) as here,
        client_at(rest, "10.0.0.2", **{"x-forwarded-user": "ann"}) as there,
        client_at(rest, "10.0.0.3", **{"x-forwarded-user": "bob"}) as other,
    ):
        assert await served(here, "reads") is None
        assert await served(there, "reads") is None
        assert await served(there, "reads") is not None
        assert await served(other, "reads") is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1, made up", "10.0.0.1"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", '"[2001:db8:1:2::9]:4711"', "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", None, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", None, "203.0.113.7"),
        ("testclient", None, "testclient"),
    ],
)
async def test_the_counted_address_is_the_client_s_as_far_as_it_can_be_believed(
    peer, forwarded, counted
):
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    async with (
        rest_server(rate_reads="1/hour", trusted_proxies=["10.0.0.0/24"]) as rest,
        client_at(rest, peer, **headers) as client,
    ):
        rates = rest.application.library.connection_limits.rates

        assert await served(client, "reads") is None

        with pytest.raises(RateLimited):
            rates.check(RateClass.READS, counted)


async def test_wrong_keys_close_the_door_and_missing_ones_do_not():
    right = {"x-session-api-key": "right"}
    async with (
        rest_server(session_api_key="right", rate_failures="3/hour") as rest,
        client_at(rest, "10.0.0.1") as guesser,
        client_at(rest, "10.0.0.2") as other,
    ):
        path = "/api/options/config"
        for _ in range(10):
            assert (await guesser.get(path)).status_code == 401
        for number in range(3):
            tried = {"x-session-api-key": f"guess {number}"}
            assert (await guesser.get(path, headers=tried)).status_code == 401

        assert_refused(await guesser.get(path, headers=right), 429, "rate_limited")
        assert_refused(await guesser.get(OPENING), 429, "rate_limited")
        assert (await other.get(path, headers=right)).status_code == 200


async def test_wrong_keys_for_the_metrics_count_as_well():
    async with (
        rest_server(
            session_api_key="right", metrics_key="metrics-key-0123456789", rate_failures="3/hour"
        ) as rest,
        client_at(rest, "10.0.0.1") as guesser,
        client_at(rest, "10.0.0.2") as other,
    ):
        for _ in range(5):
            assert (await guesser.get("/metrics")).status_code == 401
        for number in range(3):
            name = "x-session-api-key" if number % 2 else "authorization"
            tried = {name: f"Bearer guess {number}"}
            assert (await guesser.get("/metrics", headers=tried)).status_code == 401

        right = {"x-session-api-key": "right"}
        assert_refused(await guesser.get("/metrics", headers=right), 429, "rate_limited")
        assert_refused(await guesser.get("/api/options/config", headers=right), 429, "rate_limited")
        assert (await other.get("/metrics", headers=right)).status_code == 200


async def test_wrong_keys_on_one_connection_close_the_door_as_well():
    limits: dict[str, Any] = {"unlimited_addresses": [], "rate_failures": "2/hour"}
    wrong, right = (f'40{{"session_api_key":"{key}"}}' for key in ("wrong", "right"))
    async with live_server(session_api_key="right", **limits) as live:
        conversation_id = await live.new()
        async with (
            live.raw(conversation_id) as client,
            polling_client(live.url, conversation_id=conversation_id) as other,
        ):
            for _ in range(2):
                await client.connection.send(wrong)
                assert "invalid_session_api_key" in await client.packet()
            await client.connection.send(right)
            told = await client.packet()
            # Opened before: a new session would be refused by its request.
            await other.send(right)
            told_other = await other.packet()

    assert told.startswith('44{"message":"Too many requests')
    assert told_other.startswith('44{"message":"Too many requests')


async def test_wrong_keys_of_sockets_count_as_well():
    limits: dict[str, Any] = {"unlimited_addresses": [], "rate_failures": "2/hour"}
    async with live_server(session_api_key="right", **limits) as live:
        query = f"conversation_id={await live.new()}&session_api_key="
        for _ in range(2):
            async with intruder(live.url) as one:
                assert (await one.upgrade(f"{query}wrong")).status == 101
                await one.message()
                await one.text("40")
                assert "invalid_session_api_key" in await one.message()
        async with intruder(live.url) as one:
            answer = await one.upgrade(f"{query}right")

            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 3600


async def test_too_many_handshakes_of_an_address_are_told_when_to_come_back():
    async with live_server(rate_handshakes="2/minute") as live:
        told = "0"
        for expected in (101, 101, 429):
            async with intruder(live.url) as one:
                answer = await one.upgrade("conversation_id=x")
                assert answer.status == expected
                told = answer.headers.get("retry-after", "0")
        assert 1 <= int(told) <= 60
        async with intruder(live.url, "127.0.0.67") as other:
            assert (await other.upgrade("conversation_id=x")).status == 101


@pytest.mark.parametrize("more", ["&xsid=1", "&sid=", "&x=sid="])
async def test_an_opening_that_looks_like_a_poll_is_counted_as_a_handshake(more):
    async with (
        rest_server(rate_handshakes="2/hour") as rest,
        client_at(rest, "10.0.0.1") as client,
    ):
        statuses = [(await client.get(OPENING + more)).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


async def test_events_beyond_the_allowance_are_refused_in_their_acknowledgement():
    limits: dict[str, Any] = {
        "actions_per_second": 1,
        "action_burst": 10,
        "unlimited_addresses": [],
    }
    async with live_server(**limits) as live:
        conversation_id = await live.new()
        async with live.raw(conversation_id) as client:
            await client.connect()
            told = [await client.send(message(f"/quiet {number}")) for number in range(30)]

            assert [one["status"] for one in told[:10]] == ["ok"] * 10
            refused = [one for one in told if one["status"] == "error"]
            assert refused
            assert {one["code"] for one in refused} == {"rate_limited"}
            assert "try again in" in refused[0]["message"]
            async with asyncio.timeout(WAIT_SECONDS):
                while (await client.send(message("/quiet again")))["status"] != "ok":
                    continue
            taken = sum(one["status"] == "ok" for one in told) + 1
        stored = [one for one in await live.log(conversation_id) if b"/quiet" in one.body]
    assert len([one for one in stored if b'"message"' in one.body]) >= taken


async def test_an_event_that_wants_no_acknowledgement_is_refused_by_a_notice():
    limits: dict[str, Any] = {
        "actions_per_second": 0.1,
        "action_burst": 1,
        "unlimited_addresses": [],
    }
    async with live_server(**limits) as live, live.raw(await live.new()) as client:
        await client.connect()
        for number in range(3):
            await client.emit(message(f"/quiet {number}"))
        async with asyncio.timeout(WAIT_SECONDS):
            while "RATE_LIMITED" not in str(told := await client.event()):
                continue

    assert "try again in" in told["message"]


def test_a_window_moves_and_says_when_there_is_room_again():
    clock = Clock()
    config = ServerConfig(rate_reads="2/minute")
    rates = RateLimits(config, Addresses(config), clock)
    rates.spend(RateClass.READS, "10.0.0.1")
    clock.now += 40
    rates.spend(RateClass.READS, "10.0.0.1")

    with pytest.raises(RateLimited) as refused:
        rates.spend(RateClass.READS, "10.0.0.1")
    assert refused.value.seconds == 20
    clock.now += 20
    rates.spend(RateClass.READS, "10.0.0.1")
    assert rates.refused == {"reads": 1}


def test_a_flood_of_addresses_takes_no_more_memory_than_is_set_aside():
    windows = MovingWindows(Clock())
    for number in range(MAX_KEYS + 500):
        windows.acquire_entry(str(number), 1, 60)

    assert len(windows) == MAX_KEYS
    assert windows.get("0") == 0
    assert not windows.acquire_entry(str(MAX_KEYS), 1, 60)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rate_reads", "often"),
        ("trusted_proxies", "proxy.example"),
        ("unlimited_addresses", ["10.0.0.1/8"]),
        ("actions_per_second", 0),
    ],
)
def test_a_bound_that_cannot_be_read_stops_the_start(setting, value):
    with pytest.raises(ConfigError, match=setting):
        ServerConfig(**{setting: value})


async def test_websockets_and_sessions_that_poll_share_what_their_address_may_send():
    limits: dict[str, Any] = {
        "actions_per_second": 0.001,
        "action_burst": 3,
        "unlimited_addresses": ["127.0.0.1"],
    }
    event = '["oh_user_action",{"action":"none"}]'
    async with (
        live_server(**limits) as live,
        intruder(live.url) as one,
        httpx.AsyncClient(
            base_url=live.url, transport=httpx.AsyncHTTPTransport(local_address=ELSEWHERE)
        ) as http,
    ):
        await join(live, one)
        poller = await polling_through(http, conversation_id=await live.new())
        await poller.connect()
        told = []
        for number in range(2):
            await one.text(f"42{number}{event}")
            while not (answer := await one.message()).startswith(f"43{number}["):
                continue
            told.append("rate_limited" in answer)
            await poller.send(f"42{number}{event}")
            while not (answer := await poller.packet()).startswith(f"43{number}["):
                continue
            told.append("rate_limited" in answer)
        assert told == [False, False, False, True]


async def test_a_websocket_has_one_place_however_it_is_served():
    async with (
        live_server(max_connections_per_address=2) as live,
        intruder(live.url) as first,
        intruder(live.url) as second,
    ):
        await join(live, first)
        await join(live, second)
        assert len(live.application.library.connection_limits) == 2


@pytest.mark.parametrize(
    ("network", "peer", "within"),
    [
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::/0", "2001:db8::1", True),
    ],
)
def test_a_network_holds_an_address_however_both_are_written(network, peer, within):
    addresses = Addresses(ServerConfig(trusted_proxies=[network], unlimited_addresses=[network]))

    assert addresses.is_proxy(peer) is within
    assert addresses.is_unlimited(peer) is within
