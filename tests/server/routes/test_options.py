"""The first requests of a page: options, settings, health."""

from datetime import UTC, datetime

import pytest

from runtime_stub.scripted import ScriptedAgent
from tests.support.rest import ModelAgent, assert_refused, rest_server

MODEL_AGENT = "tests.support.rest:ModelAgent"
KEYLESS_MODEL_AGENT = "tests.support.rest:KeylessModelAgent"


@pytest.mark.parametrize("programs", [True, False])
async def test_the_page_learns_its_mode_and_whether_tool_servers_may_be_programs(programs):
    async with rest_server(mcp_stdio=programs) as rest:
        answer = await rest.ask("GET", "/api/options/config")

    assert answer.json() == {
        "APP_MODE": "oss",
        "GITHUB_CLIENT_ID": "",
        "POSTHOG_CLIENT_KEY": "",
        "FEATURE_FLAGS": {
            "ENABLE_BILLING": False,
            "HIDE_LLM_SETTINGS": False,
            "ALLOW_MCP_STDIO": programs,
        },
    }


async def test_an_agent_without_a_model_offers_none(rest):
    assert (await rest.ask("GET", "/api/options/models")).json() == []


async def test_an_agent_with_a_model_offers_it():
    async with rest_server(agent_class=MODEL_AGENT) as rest:
        assert (await rest.ask("GET", "/api/options/models")).json() == [ModelAgent.model]


async def test_agents_and_security_analyzers_are_lists(rest):
    assert (await rest.ask("GET", "/api/options/agents")).json() == ["scripted"]
    assert (await rest.ask("GET", "/api/options/security-analyzers")).json() == []


async def test_an_agent_offers_ways_to_begin(rest):
    offered = (await rest.ask("GET", "/api/options/examples")).json()

    assert [one["message"] for one in offered] == [one.message for one in ScriptedAgent.examples]
    assert all(one["title"] for one in offered)


async def test_an_agent_that_offers_none_has_none():
    async with rest_server(agent_class="tests.support.extensions:ReticentAgent") as rest:
        assert (await rest.ask("GET", "/api/options/examples")).json() == []


async def test_with_nothing_stored_settings_are_the_server_s_defaults():
    limits = {"max_iterations": 7, "max_budget_per_task": 1.5, "turn_seconds": 90.5}
    chosen = limits | {"confirmation_mode": True}
    async with rest_server(**chosen) as rest:
        answer = await rest.ask("GET", "/api/settings")

    settings = answer.json()
    assert answer.status_code == 200
    assert {name: settings[name] for name in chosen} == chosen
    assert settings["llm_api_key_set"] is True
    assert settings["provider_tokens_set"] == {}


@pytest.mark.parametrize("name", ["llm_api_key", "search_api_key", "email_verified"])
async def test_settings_hold_no_secret_and_nothing_that_locks_the_page(rest, name):
    assert (await rest.ask("GET", "/api/settings")).json()[name] is None


async def test_settings_ask_for_no_consent(rest):
    settings = (await rest.ask("GET", "/api/settings")).json()

    assert settings["user_consents_to_analytics"] is False


@pytest.mark.parametrize(("agent", "key_set"), [(MODEL_AGENT, False), (KEYLESS_MODEL_AGENT, True)])
async def test_settings_tell_whether_the_agent_s_model_lacks_its_key(agent, key_set):
    async with rest_server(agent_class=agent) as rest:
        settings = (await rest.ask("GET", "/api/settings")).json()

    assert settings["llm_api_key_set"] is key_set
    assert settings["llm_model"].endswith("/large")


async def test_a_server_that_requires_settings_has_none_to_show():
    async with rest_server(require_settings=True) as rest:
        answer = await rest.ask("GET", "/api/settings")

    assert_refused(answer, 404, "settings_not_found", "Settings not found")


async def test_a_living_server_says_so(rest):
    assert (await rest.ask("GET", "/alive")).json() == {"status": "ok"}
    assert (await rest.ask("GET", "/health")).json() == "OK"
    assert (await rest.ask("GET", "/ready")).json() == {"status": "ok"}


async def test_a_stopping_server_is_alive_but_not_ready_and_says_why(rest):
    rest.application.stop_intake()

    assert (await rest.ask("GET", "/alive")).status_code == 200
    assert_refused(await rest.ask("GET", "/ready"), 503, "not_ready", "stopping")


async def test_a_stopping_server_takes_nothing_in_but_can_be_read(rest):
    conversation_id = await rest.create()
    one = f"/api/conversations/{conversation_id}"
    rest.application.stop_intake()

    for path in ("/api/conversations", f"{one}/start", f"{one}/events"):
        assert_refused(await rest.ask("POST", path, json={}), 503, "not_available", "stopping")
    assert (await rest.ask("GET", f"{one}/events")).status_code == 200


async def test_server_info_has_times_and_resources(rest):
    info = (await rest.ask("GET", "/server_info")).json()

    assert 0 <= info["idle_time"] <= info["uptime"] < 20
    resources = info["resources"]
    assert resources["cpu_percent"] >= 0
    assert resources["memory"]["rss"] > 1_000_000
    assert 0 <= resources["memory"]["percent"] <= 100
    assert resources["disk"]["total"] >= resources["disk"]["free"] > 0
    assert {"read_bytes", "write_bytes"} <= set(resources["io"])


async def test_server_info_counts_what_was_done(rest):
    conversation_id = await rest.create(initial_user_msg="hello")
    await rest.wait_until_idle(conversation_id)

    counters = (await rest.ask("GET", "/server_info")).json()["counters"]

    events = (
        await rest.ask("GET", f"/api/conversations/{conversation_id}/events?limit=100")
    ).json()
    assert counters["events"] == len(events["events"])
    assert {"commits", "waiting_writes", "clients_behind", "replayed_bytes"} <= set(counters)


async def test_a_server_with_a_connection_is_not_idle(rest):
    class Connected:
        connection_id, conversation_id, user_id = "one", "c", None
        live, waiting, delivered = True, 0, 0

    rest.application.connections.add(Connected())
    before = datetime.now(UTC)

    info = (await rest.ask("GET", "/server_info")).json()

    assert info["idle_time"] <= (datetime.now(UTC) - before).total_seconds()
