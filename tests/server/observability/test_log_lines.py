"""Lines of a running server: the ids they carry, and that nothing users or agents write is in them."""

import contextlib
import json

import httpx
import pytest

from events.stores.memory import MemoryEventStore
from runtime_stub.scripted import ScriptedAgent
from tests.support.clients import ConnectRefused, RecordingClient, joined
from tests.support.faulty_store import FaultyEventStore, fails
from tests.support.live import live_server
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

KEY = "sesame-0123456789"
METRICS_KEY = "another-sesame"
WRONG_KEY = "tahini-0123456789"
HUSHED = "hush-hush-0123456789"
CONTENT = "zanzibar"


class QuotingAgent(ScriptedAgent):
    """Fails at what it has read, and quotes it."""

    def observe(self, event):
        super().observe(event)
        if "quote" in getattr(event, "content", ""):
            self._quoted = event.content

    async def step(self):
        if hasattr(self, "_quoted"):
            quoted = self._quoted
            del self._quoted
            try:
                int(quoted)
            except ValueError as error:
                raise LookupError(f"what is {quoted}?") from error
        return await super().step()

    async def close(self):
        raise RuntimeError(f"cannot close {CONTENT}")


async def drive(url):
    """Everything that goes well or wrong, with content in it; the conversation and its requests."""
    headers = {"X-Session-API-Key": KEY}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=WAIT_SECONDS) as http:
        await http.get(f"/{CONTENT}", params={"q": CONTENT})
        await http.get(f"/api/conversations/{CONTENT}%20{CONTENT}")
        await http.get("/api/conversations", headers={"X-Session-API-Key": WRONG_KEY})
        await http.get("/metrics", headers={"Authorization": f"Bearer {WRONG_KEY}"})
        await http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_KEY}"})
        await http.get("/api/conversations", headers={"Origin": f"http://{CONTENT}.example"})
        await http.post("/api/secrets", json={"name": "NAME", "value": HUSHED})
        await http.post("/api/settings", json={"llm_api_key": HUSHED, "language": CONTENT})
        await http.post("/api/settings", content=f'{{"language": "{CONTENT}')
        created = await http.post(
            "/api/conversations",
            json={"initial_user_msg": CONTENT},
            headers={"X-Request-ID": "creation"},
        )
        one = created.json()["conversation_id"]
        path = f"/api/conversations/{one}"
        await http.post(f"{path}/message", json={"message": CONTENT, CONTENT: CONTENT})
        await http.post(f"{path}/events", json={"action": CONTENT, "args": {CONTENT: CONTENT}})
        await http.patch(path, json={"title": CONTENT})
        await http.get(f"{path}/select-file", params={"file": CONTENT})
        await http.get(f"{path}/security/{CONTENT}")
        await http.post(f"{path}/upload-files", files={"files": (CONTENT, CONTENT)})
        query: dict[str, str | None] = {"session_api_key": KEY}
        async with joined(url, one, query=query) as client:
            await client.say(CONTENT)
            await client.send({"action": CONTENT, "args": {CONTENT: CONTENT}})
            await client.send(CONTENT, event=CONTENT)
            await client.say(f"quote {CONTENT}")
            await client.state("error")
            await client.say(f"and on with {CONTENT}")
        for change in ({"session_api_key": WRONG_KEY}, {"providers_set": CONTENT}):
            with contextlib.suppress(ConnectRefused):
                await RecordingClient(url, one, query={**query, **change}).connect()
        await http.post(f"{path}/stop", json={})
        await http.delete(path)
    return one


@pytest.mark.parametrize("delivery", ["direct", "engine"])
async def test_no_line_holds_content_or_keys_and_each_its_ids(tmp_path, delivery):
    environment = {
        "PARLEY_LOG_LEVEL": "debug",
        "PARLEY_DELIVERY": delivery,
        "PARLEY_AGENT_CLASS": f"{__name__}:QuotingAgent",
        "SESSION_API_KEY": KEY,
        "PARLEY_METRICS_KEY": METRICS_KEY,
    }
    async with server_process(tmp_path, environment=environment) as server:
        one = await drive(server.url)
        await server.stop()

    text = server.stderr.decode()
    for word in (CONTENT, KEY, METRICS_KEY, WRONG_KEY, HUSHED):
        assert word not in text, next(line for line in text.splitlines() if word in line)
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    (created,) = [line for line in requests if line["request_id"] == "creation"]
    assert (created["method"], created["route"]) == ("POST", "/api/conversations")
    assert created["status"] == 200
    assert created["ms"] > 0
    assert all(
        {"request_id", "method", "route", "status", "ms"} <= line.keys() for line in requests
    )
    assert {line["status"] for line in requests} >= {200, 400, 401, 403, 404}
    inside = [line for line in requests if line["route"].startswith("/api/conversations/{")]
    assert {line.get("conversation_id") for line in inside} == {one, None}

    failure, *_ = [line for line in lines if line["event"] == f"the agent of {one} failed"]
    assert failure["conversation_id"] == one
    assert not {"request_id", "connection_id"} & failure.keys()
    assert "ValueError: (text left out)" in failure["exception"]
    assert "LookupError: (text left out)" in failure["exception"]
    assert "in step" in failure["exception"]


async def test_a_look_at_a_page_is_no_heap_of_lines_and_a_page_that_is_missing_is_one(tmp_path):
    environment = {"PARLEY_LOG_LEVEL": "info"}
    async with (
        server_process(tmp_path, environment=environment) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):
        served = ("/", "/conversations/x", "/assets/app.js", "/admin", "/docs", "/docs/docs.js")
        for path in served:
            assert (await http.get(path)).status_code == 200
        missing = ("/no-such.js", "/docs/no-such.js")
        for path in missing:
            assert (await http.get(path)).status_code == 404
        await http.get("/api/conversations")
        await server.stop()

    lines = [json.loads(line) for line in server.stderr.decode().splitlines()]
    noted = [(one["route"], one["status"]) for one in lines if one["event"] == "request"]
    assert noted == [
        ("/{path:path}", 404),
        ("/docs/{path:path}", 404),
        ("/api/conversations", 200),
    ]


@pytest.mark.parametrize("delivery", ["direct", "engine"], indirect=True)
async def test_a_clients_event_that_fails_is_logged_with_its_connection(delivery, caplog):
    store = FaultyEventStore(MemoryEventStore(), [fails] * 4)
    async with live_server(events=store) as live:
        one = await live.new()
        async with live.joined(one) as client:
            told = await client.say(CONTENT)
            (connection_id,) = await live.application.manager.get_connections(None, {one})

    assert told["code"] == "not_stored"
    of_the_log = [one for one in caplog.records if one.name == "events.pump"]
    assert of_the_log
    assert all(vars(record)["conversation_id"] == one for record in of_the_log)
    (record,) = [one for one in caplog.records if one.getMessage() == "a client event failed"]
    assert vars(record)["conversation_id"] == one
    assert vars(record)["connection_id"] == connection_id
    assert CONTENT not in caplog.text
