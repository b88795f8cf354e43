"""The figures for Prometheus: what they count, and who may read them."""

from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from events.stores.memory import MemoryEventStore
from runtime_stub.scripted import ScriptedAgent
from tests.support.clients import ConnectRefused
from tests.support.faulty_store import FaultyEventStore, fails, unknown_after
from tests.support.intruder import intruder
from tests.support.live import live_server
from tests.support.payloads import is_answer
from tests.support.rest import assert_refused, rest_server
from tests.support.waiting import WAIT_SECONDS, until

KEY = "a-session-key"
METRICS_KEY = "a-key-for-metrics"
BEARER = {"authorization": f"Bearer {METRICS_KEY}"}


async def figures(client):
    """Every sample by its name and labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_requests_are_counted_by_the_template_of_their_route(rest):
    one = await rest.create()
    await rest.ask("GET", f"/api/conversations/{one}")
    await rest.ask("GET", "/api/conversations/another/events")
    await rest.ask("PUT", f"/api/conversations/{one}")
    await rest.ask("GET", "/api/nowhere/at/all")
    await rest.ask("BREW", "/api/conversations")

    found = await figures(rest.client)

    name, template = "parley_http_request_seconds_count", "/api/conversations/{conversation_id}"
    assert found[name, "/api/conversations", "200", "POST"] == 1
    assert found[name, template, "200", "GET"] == 1
    assert found[name, f"{template}/events", "404", "GET"] == 1
    assert found[name, template, "405", "PUT"] == 1
    assert found[name, "404", "GET", "unmatched"] == 1
    assert found[name, "/api/conversations", "405", "other"] == 1
    assert not any(one in label for labels in found for label in labels)


async def test_events_steps_and_loops_are_counted(rest):
    one = await rest.create(initial_user_msg="hello")
    await rest.wait_until_idle(one)

    found = await figures(rest.client)

    assert found[("parley_events_appended_total",)] >= 4
    assert found[("parley_agent_steps_total",)] >= 1
    assert found[("parley_agent_loops_started_total",)] == found[("parley_agent_loops",)] == 1
    assert found[("parley_conversations_open",)] == 1

    await rest.ask("POST", f"/api/conversations/{one}/stop", json={})

    found = await figures(rest.client)
    assert found[("parley_agent_loops",)] == 0
    assert found[("parley_conversations_open",)] == 0
    assert found[("parley_agent_loops_started_total",)] == 1


async def test_an_agent_that_fails_is_counted():
    async with rest_server(agent_class="tests.server.observability.test_metrics:Failing") as rest:
        one = await rest.create(initial_user_msg="hello")
        await rest.wait_for(
            one, lambda event: event.get("extras", {}).get("agent_state") == "error"
        )

        assert (await figures(rest.client))[("parley_agent_loop_failures_total",)] == 1


async def test_connections_are_counted_with_what_they_were_brought_past():
    async with live_server() as live, AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as http:
        one = await live.new()
        async with live.joined(one) as client:
            await client.say("hello")
            answer = await client.event(is_answer)
            await client.state("awaiting_user_input", after=answer["id"])
            there = await figures(http)
            log = await live.log(one)
        with pytest.raises(ConnectRefused):
            await refused(live, None)
        with pytest.raises(ConnectRefused):
            await refused(live, "unknown")
        await gone(live)
        after = await figures(http)

    assert there[("parley_connections",)] == 1
    assert there[("parley_connections_behind",)] == 0
    assert there[("parley_client_events_waiting",)] == 0
    assert there[("parley_connections_accepted_total",)] == 1
    assert there[("parley_events_delivered_total",)] == len(log)
    assert after[("parley_connections",)] == 0
    assert after[("parley_events_delivered_total",)] >= len(log)
    assert after["parley_connections_refused_total", "bad_query"] == 1
    assert after["parley_connections_refused_total", "conversation_not_found"] == 1


@pytest.mark.parametrize("delivery", ["direct", "engine"], indirect=True)
async def test_a_connection_that_is_refused_is_counted_by_its_reason(delivery):
    async with (
        live_server(session_api_key=KEY) as live,
        AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as http,
    ):
        one = await live.new()
        for headers in ({}, {"origin": "http://elsewhere.example"}):
            with pytest.raises(ConnectRefused):
                await refused(live, one, headers=headers)

        http.headers["x-session-api-key"] = KEY
        found = await figures(http)

    assert found["parley_connections_refused_total", "wrong_key"] == 1
    assert found["parley_connections_refused_total", "not_accepted"] == 1


async def test_those_who_ask_too_often_or_only_hold_a_place_are_counted():
    limits: dict[str, Any] = {"rate_handshakes": "2/minute", "handshake_seconds": 2}
    async with (
        live_server(**limits) as live,
        AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as http,
    ):
        async with intruder(live.url) as silent:
            await silent.upgrade("conversation_id=x")
            there = await figures(http)
            await silent.cut(WAIT_SECONDS)
        async with intruder(live.url) as other:
            assert (await other.upgrade("conversation_id=x")).status == 101
        async with intruder(live.url) as late:
            assert (await late.upgrade("conversation_id=x")).status == 429
        after = await figures(http)

    # The one that asks for the figures has said what it wants.
    assert there[("parley_handshakes",)] >= 1
    assert there[("parley_handshakes_cut_total",)] == 0
    assert after[("parley_handshakes_cut_total",)] >= 1
    assert after["parley_rate_limited_total", "handshakes"] == 1


async def test_failures_of_the_storage_are_counted():
    store = FaultyEventStore(MemoryEventStore(), [fails, unknown_after])
    async with (
        live_server(events=store) as live,
        AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as http,
    ):
        one = await live.new()
        for _ in range(2):
            await http.post(f"/api/conversations/{one}/message", json={"message": "hello"})

        found = await figures(http)

    assert found[("parley_appends_failed_total",)] >= 1  # of all that were in that batch
    assert found[("parley_appends_unknown_total",)] >= 1


def asked(**settings):
    """A question to a server with these settings, and its answer."""

    async def ask(headers=None):
        async with rest_server(**settings) as rest:
            return await rest.client.get("/metrics", headers=headers)

    return ask


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"]
)
async def test_without_any_key_who_asks_directly_may_read_and_who_comes_through_a_proxy_may_not(
    header,
):
    ask = asked()

    assert (await ask()).status_code == 200
    assert_refused(await ask({header: "127.0.0.1"}), 401, "unauthorized", "metrics key")


async def test_a_server_that_others_can_reach_shows_nothing_without_a_key():
    open_to_all = {"host": "0.0.0.0", "insecure": True}  # noqa: S104 - nothing listens

    assert (await asked(**open_to_all)()).status_code == 401
    assert (await asked(**open_to_all, metrics_key=METRICS_KEY)(BEARER)).status_code == 200
    assert (await asked(**open_to_all, metrics="open")()).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-session-api-key": KEY}, 200),
        ({"x-session-api-key": METRICS_KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer  {METRICS_KEY}"}, 200),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {KEY}x"}, 401),
        ({"x-session-api-key": "null"}, 401),
    ],
)
async def test_where_there_are_keys_one_of_them_is_needed(headers, status):
    ask = asked(session_api_key=KEY, metrics_key=METRICS_KEY)

    assert (await ask(headers)).status_code == status


async def test_the_key_for_metrics_opens_nothing_else():
    async with rest_server(session_api_key=KEY, metrics_key=METRICS_KEY) as rest:
        for headers in (BEARER, {"x-session-api-key": METRICS_KEY}):
            answer = await rest.client.get("/api/conversations", headers=headers)
            assert answer.status_code == 401


async def test_where_metrics_are_off_there_is_nothing_at_the_address():
    assert_refused(await asked(metrics="off")(), 404, "not_found")


async def test_a_foreign_page_may_not_read_them():
    async with rest_server() as rest:
        client = AsyncClient(
            transport=ASGITransport(rest.application.asgi), base_url="http://x.example"
        )
        async with client:
            assert (await client.get("/metrics")).status_code == 403


async def refused(live, conversation_id, **options):
    """Try to connect."""
    async with live.joined(conversation_id, **options):
        raise AssertionError("it was let in")


async def gone(live):
    """Wait until the server has noticed that all have left."""
    await until(lambda: not len(live.application.connections))


class Failing(ScriptedAgent):
    """An agent that cannot go on."""

    async def step(self):
        raise RuntimeError("planned")
