"""/api/settings: what is stored, what is kept, what is never shown."""

import pytest
from pydantic import SecretStr

from storage.errors import Unavailable
from storage.users.mcp import HIDDEN
from storage.users.settings import Settings
from tests.support.faulty_users import FailingSettings
from tests.support.rest import assert_refused, rest_server

SETTINGS = "/api/settings"
MODEL_AGENT = "tests.support.rest:ModelAgent"
FORM = {
    "language": "de",
    "agent": "scripted",
    "max_iterations": 9,
    "confirmation_mode": True,
    "llm_model": "acme/large",
    "llm_base_url": "https://acme.example.org",
    "llm_api_key": "planted llm key",
    "search_api_key": "planted search key",
    "sandbox_api_key": "planted sandbox key",
    "enable_default_condenser": False,
    "condenser_max_size": 20,
    "max_budget_per_task": 2.5,
    "turn_seconds": 90.5,
    "email": "ann@example.org",
    "git_user_name": "Ann",
    "user_consents_to_analytics": False,
    "v1_enabled": True,
}
KEYS = ("llm_api_key", "search_api_key", "sandbox_api_key")


async def store(rest, **fields):
    answer = await rest.ask("POST", SETTINGS, json=fields)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"message": "Settings stored"}


async def read(rest):
    answer = await rest.ask("GET", SETTINGS)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_stored_is_shown_except_the_keys(rest):
    before = await read(rest)
    await store(rest, **FORM)

    shown = await read(rest)

    assert shown == before | FORM | dict.fromkeys(KEYS) | {
        "llm_api_key_set": True,
        "search_api_key_set": True,
    }
    assert "planted" not in str(shown)


async def test_d81_a_partial_post_keeps_the_rest(rest):
    await store(rest, **FORM)
    before = await read(rest)

    await store(rest, mcp_config={"sse_servers": [{"url": "https://tools.example.org"}]})

    after = await read(rest)
    assert after["mcp_config"]["sse_servers"] == [
        {"url": "https://tools.example.org", "api_key": None}
    ]
    assert after | {"mcp_config": None} == before


async def test_an_empty_key_clears_it(rest):
    await store(rest, **FORM)

    await store(rest, llm_api_key="")

    assert (await read(rest))["llm_api_key_set"] is False


async def test_d81_the_form_s_empty_search_key_wipes_nothing(rest):
    await store(rest, **FORM)

    await store(rest, search_api_key="", llm_api_key=None)

    shown = await read(rest)
    assert (shown["search_api_key_set"], shown["llm_api_key_set"]) == (True, True)


async def test_tool_servers_keep_their_keys_when_they_are_saved_as_they_were_shown(rest):
    servers = {"shttp_servers": [{"url": "https://tools.example.org", "api_key": "planted"}]}
    await store(rest, mcp_config=servers)
    shown = await read(rest)

    await store(rest, **shown)

    kept = (await rest.settings.for_user(None).load()).mcp_config
    assert shown["mcp_config"]["shttp_servers"][0]["api_key"] == HIDDEN
    assert kept.revealed()["shttp_servers"][0]["api_key"] == "planted"


async def test_a_hidden_key_for_a_new_address_is_refused(rest):
    servers = {"sse_servers": [{"url": "https://evil.example", "api_key": HIDDEN}]}

    answer = await rest.ask("POST", SETTINGS, json={"mcp_config": servers})

    assert_refused(answer, 400, "bad_value", "must be given again")
    assert await rest.settings.for_user(None).load() is None


async def test_unknown_and_computed_fields_are_ignored(rest):
    await store(rest, colour="red", provider_tokens_set={"github": None}, llm_api_key_set=True)

    shown = await read(rest)
    assert "colour" not in shown
    assert (shown["provider_tokens_set"], shown["llm_api_key_set"]) == ({}, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"condenser_max_size": 19}, "condenser_max_size"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"turn_seconds": 0}, "turn_seconds"),
        ({"llm_api_key": "planted" * 2000}, "llm_api_key"),
        ({"language": 5}, "language"),
        ({"mcp_config": {"sse_servers": [{"api_key": "planted"}]}}, "mcp_config.sse_servers.0.url"),
        ([], "object"),
    ],
)
async def test_what_does_not_fit_is_named_and_nothing_is_stored(rest, body, field):
    answer = await rest.ask("POST", SETTINGS, json=body)

    assert_refused(answer, 422, "invalid_body", field)
    assert "planted" not in answer.text
    assert await rest.settings.for_user(None).load() is None


async def test_what_is_not_json_is_refused(rest):
    headers = {"content-type": "application/json"}
    answer = await rest.ask("POST", SETTINGS, content=b"{", headers=headers)

    assert_refused(answer, 400, "bad_request", "not JSON")


async def test_a_storage_that_fails_is_told_in_the_words_a_page_knows():
    async with rest_server(FailingSettings(Unavailable("no disk"))) as rest:
        stored = await rest.ask("POST", SETTINGS, json={"language": "en"})
        read_back = await rest.ask("GET", SETTINGS)

    assert_refused(stored, 500, "settings_not_stored", "Something went wrong storing settings")
    assert_refused(read_back, 503, "storage_unavailable")


async def test_resetting_is_gone(rest):
    answer = await rest.ask("POST", "/api/reset-settings")

    assert_refused(answer, 410, "gone", "Reset settings functionality has been removed.")


async def test_one_user_s_settings_are_not_another_s(rest):
    theirs = Settings(language="xx", llm_api_key=SecretStr("theirs"))
    await rest.settings.for_user("ann").store(theirs)

    await store(rest, email="me@example.org")

    assert (await read(rest))["language"] == "en"
    assert await rest.settings.for_user("ann").load() == theirs


async def test_required_settings_open_the_door_once_they_are_stored():
    async with rest_server(require_settings=True) as rest:
        refused = await rest.ask("POST", "/api/conversations", json={})
        await store(rest, language="en")

        assert_refused(refused, 400, "settings_not_found")
        assert (await read(rest))["language"] == "en"
        assert await rest.create()


async def test_a_model_s_key_opens_the_door_once_it_is_stored():
    async with rest_server(agent_class=MODEL_AGENT) as rest:
        await store(rest, language="en")
        refused = await rest.ask("POST", "/api/conversations", json={})
        await store(rest, llm_api_key="planted llm key")

        assert_refused(refused, 400, "model_key_missing")
        conversation_id = await rest.create()
        started = await rest.ask("POST", f"/api/conversations/{conversation_id}/start", json={})
        assert started.status_code == 200


async def test_a_loop_follows_its_user_s_settings(rest):
    await store(rest, confirmation_mode=True)

    conversation_id = await rest.create(initial_user_msg="/confirm echo hello")

    await rest.wait_for(
        conversation_id,
        lambda event: event.get("extras", {}).get("agent_state") == "awaiting_user_confirmation",
    )
