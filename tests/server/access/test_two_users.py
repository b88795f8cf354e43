"""For one user nothing of another's is there."""

import uuid

import pytest

from tests.support.clients import ConnectRefused
from tests.support.live import live_server
from tests.support.rest import EVERY, rest_server

AUTH = "tests.support.extensions:HeaderAuth"
ANN, BOB = {"x-forwarded-user": "ann"}, {"x-forwarded-user": "bob"}
UNKNOWN = uuid.UUID(int=1).hex
BODIES = {
    "PATCH": {"title": "taken over"},
    "POST": {"message": "hello", "action": "message", "args": {"content": "hello"}},
}


@pytest.fixture
async def rest():
    async with rest_server(user_auth_class=AUTH) as opened:
        yield opened


async def mine(rest):
    answer = await rest.ask(
        "POST", EVERY, json={"initial_user_msg": "mine alone", "repository": "a/b"}, headers=ANN
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["conversation_id"]


async def test_no_address_tells_another_user_that_a_conversation_is_there(rest):
    conversation_id = await mine(rest)
    table = rest.application.asgi.routes
    asked = 0
    for route in table:
        path = getattr(route, "path", "")
        if "{conversation_id}" not in path or path.startswith("/api/admin"):
            continue
        for method in ("GET", "POST", "PATCH", "DELETE"):
            filled = path.replace("{path:path}", "x").replace("{approval}", "1")
            answers = []
            for one in (conversation_id, UNKNOWN):
                answer = await rest.ask(
                    method,
                    filled.replace("{conversation_id}", one),
                    headers=BOB,
                    json=BODIES.get(method),
                )
                answers.append((answer.status_code, answer.text.replace(one, "ID")))
            asked += 1
            assert answers[0] == answers[1], (method, path)
    assert asked > 60

    kept = await rest.ask("GET", f"{EVERY}/{conversation_id}", headers=ANN)
    assert kept.json()["title"] != "taken over"
    events = await rest.ask("GET", f"{EVERY}/{conversation_id}/events", headers=ANN)
    assert "mine alone" in events.text
    assert "hello" not in events.text


async def test_lists_show_each_user_what_is_his(rest):
    conversation_id = await mine(rest)

    for query in ("", "?selected_repository=a/b", "?title=conv", "?limit=100"):
        assert conversation_id not in (await rest.ask("GET", EVERY + query, headers=BOB)).text
    assert conversation_id in (await rest.ask("GET", EVERY, headers=ANN)).text


async def test_settings_and_secrets_are_each_users_own(rest):
    secret = {"name": "TOKEN", "value": "planted-by-ann", "description": "anns"}
    assert (await rest.ask("POST", "/api/secrets", json=secret, headers=ANN)).status_code == 201
    stored = {"llm_model": "acme/anns", "llm_api_key": "planted-by-ann"}
    assert (await rest.ask("POST", "/api/settings", json=stored, headers=ANN)).status_code == 200

    his = await rest.ask("GET", "/api/secrets", headers=BOB)
    assert his.json() == {"custom_secrets": []}
    assert "anns" not in (await rest.ask("GET", "/api/settings", headers=BOB)).text
    for method, body in (("PUT", {"name": "TOKEN"}), ("DELETE", None)):
        taken = await rest.ask(method, "/api/secrets/TOKEN", json=body, headers=BOB)
        assert taken.status_code == 404
    assert (await rest.ask("GET", "/api/secrets", headers=ANN)).json()["custom_secrets"]
    assert (await rest.ask("GET", "/api/settings", headers=ANN)).json()["llm_model"] == "acme/anns"


async def test_a_socket_joins_only_its_users_conversations():
    async with live_server(user_auth_class=AUTH) as live:
        conversation_id = await live.new(user_id="ann")

        with pytest.raises(ConnectRefused, match="not found"):
            async with live.joined(conversation_id, headers=BOB):
                raise AssertionError("joined")
