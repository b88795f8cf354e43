"""Defects of the ancestor's server, by their numbers in the protocol's notes, that are none here.

D81 and what else concerns settings and secrets have tests of their own.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from server.routes.uploads import MAX_FILE_BYTES
from storage.conversations.memory import MemoryConversations
from storage.errors import ConversationNotFound
from tests.support.clients import ConnectRefused, RecordingClient
from tests.support.hooked import HookedConversationStores
from tests.support.live import live_server
from tests.support.rest import EVERY, assert_refused, rest_server
from tests.support.waiting import WAIT_SECONDS

ONE = f"{EVERY}/c1"
DAY = timedelta(days=1)


async def say(rest, text, conversation_id="c1"):
    answer = await rest.ask("POST", f"{EVERY}/{conversation_id}/message", json={"message": text})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def listed(rest, query=""):
    page = (await rest.ask("GET", f"{EVERY}?{query}")).json()
    return [info["conversation_id"] for info in page["results"]], page["next_page_id"]


async def log_of(rest, query="", conversation_id="c1"):
    answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/events?limit=100&{query}")
    return answer.json()["events"]


async def refusal(live, conversation_id):
    client = RecordingClient(live.url, conversation_id)
    try:
        with pytest.raises(ConnectRefused) as refused:
            await client.connect()
    finally:
        await client.close()
    return refused.value.payload["message"]


async def test_d29_connecting_to_an_unknown_conversation_makes_no_record():
    async with live_server() as live:
        assert await refusal(live, "unknown") == "Conversation not found"
        with pytest.raises(ConversationNotFound):
            await live.conversations.for_user(None).get_metadata("unknown")


async def test_d36_the_context_of_an_event_is_the_events_before_it(rest):
    await rest.keep("c1", None, title="One")
    for number in range(12):
        await say(rest, f"/quiet {number}")

    answer = await rest.ask("GET", f"{ONE}/events?end_id=8&reverse=true&limit=4")

    assert [event["id"] for event in answer.json()["events"]] == [8, 7, 6, 5]


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "start_id=-1", "end_id=-5"])
async def test_d37_limits_and_ids_that_mean_nothing_are_refused(rest, query):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("GET", f"{ONE}/events?{query}"), 400, "bad_request")


async def test_d71_pages_stay_whole_when_conversations_come_and_go(rest):
    for number in range(8):
        repository = "acme/rocket" if number % 2 else None
        created_at = datetime(2026, 1, 1, number, tzinfo=UTC)
        await rest.keep(f"c{number}", None, created_at=created_at, selected_repository=repository)

    first, page_id = await listed(rest, "limit=2&selected_repository=acme/rocket")
    await rest.keep("newer", None, selected_repository="acme/rocket")
    await rest.ask("DELETE", f"{EVERY}/c5")
    second, last = await listed(rest, f"limit=2&selected_repository=acme/rocket&page_id={page_id}")

    assert (first, second, last) == (["c7", "c5"], ["c3", "c1"], None)


@pytest.mark.parametrize("page_id", ["NQ==", "x", "eyJ2MCI6IG51bGx9", "%00", "1"])
async def test_d72_a_page_id_that_no_page_gave_is_a_bad_request(rest, page_id):
    assert_refused(await rest.ask("GET", f"{EVERY}?page_id={page_id}"), 400, "bad_value")


async def test_d73_a_list_counts_the_connections_of_each_conversation():
    async with live_server() as live, live.joined(await live.new()) as client:
        other = await live.new()
        async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as http:
            results = (await http.get(EVERY)).json()["results"]

    counted = {info["conversation_id"]: info["num_connections"] for info in results}
    assert counted == {client.conversation_id: 1, other: 0}


async def test_d74_a_rename_survives_the_events_that_flow_meanwhile(rest):
    await rest.keep("c1", None)

    await asyncio.gather(
        *(say(rest, f"/quiet {number}") for number in range(20)),
        rest.ask("PATCH", ONE, json={"title": "Renamed"}),
        *(say(rest, f"/quiet {number}") for number in range(20)),
    )
    await rest.wait_until_idle("c1")

    info = (await rest.ask("GET", ONE)).json()
    assert info["title"] == "Renamed"
    assert info["last_updated_at"] is not None


async def test_d75_the_record_is_not_written_for_every_event():
    points: list[str] = []

    async def hook(point, _conversation_id):
        points.append(point)
        await asyncio.sleep(0)

    records = HookedConversationStores(MemoryConversations(), hook)
    async with live_server(conversations=records) as live:
        conversation_id = await live.new()
        async with live.application.manager.attach(conversation_id, None) as conversation:
            writes = [conversation.say(f"{number}", None, None) for number in range(500)]
            await asyncio.gather(*writes)

    assert points.count("update_metadata.before") < 50


async def test_d76_a_title_is_made_once_and_never_of_a_users(rest):
    chosen = "Conversation c1"
    await rest.keep("c1", None)
    await rest.ask("PATCH", ONE, json={"title": chosen})

    await say(rest, "A first message")
    await rest.wait_until_idle("c1")
    await say(rest, "A second message")
    await rest.wait_for("c1", lambda event: event["message"].endswith("A second message"))

    assert (await rest.ask("GET", ONE)).json()["title"] == chosen


async def test_d77_a_repeated_creation_is_one_and_a_refused_one_is_none():
    async with rest_server() as rest:
        headers = {"idempotency-key": "once"}
        body = {"initial_user_msg": "hello"}
        posts = [rest.ask("POST", EVERY, json=body, headers=headers) for _ in range(3)]
        ids = {answer.json()["conversation_id"] for answer in await asyncio.gather(*posts)}
        assert len(ids) == 1
        said = await log_of(rest, "source=user&include_kinds=message", ids.pop())
        assert len(said) == 1

    async with rest_server(require_settings=True) as rest:
        assert_refused(await rest.ask("POST", EVERY, json={}), 400, "settings_not_found")
        assert (await listed(rest))[0] == []


async def test_d78_a_start_without_settings_says_which_way_it_is_refused():
    async with rest_server(require_settings=True) as rest:
        await rest.keep("c1", None)
        answer = await rest.ask("POST", f"{ONE}/start", json={})

    assert_refused(answer, 400, "settings_not_found", "Settings not found")
    assert answer.json()["msg_id"] == "CONFIGURATION$SETTINGS_NOT_FOUND"


@pytest.mark.parametrize("conversation_id", ["../../../evil", "/etc/passwd", "a\\b", "..", "a\x00"])
async def test_d79_an_id_that_leads_elsewhere_is_refused_by_the_socket_too(conversation_id):
    async with live_server() as live:
        assert await refusal(live, conversation_id) == "Conversation not found"
        assert (await live.conversations.for_user(None).search()).results == []


async def test_d80_old_conversations_are_listed_unless_that_is_set(rest):
    await rest.keep("c1", None, created_at=datetime.now(UTC) - 400 * DAY)

    assert await listed(rest) == (["c1"], None)


@pytest.mark.parametrize("title", ["", " ", "\t\n ", "\u00a0"])
async def test_d82_a_blank_title_is_refused(rest, title):
    await rest.keep("c1", None, title="Before")

    assert_refused(await rest.ask("PATCH", ONE, json={"title": title}), 422, "invalid_body")
    assert (await rest.ask("GET", ONE)).json()["title"] == "Before"


async def test_d83_remembering_says_that_it_is_not_offered(rest):
    await rest.keep("c1", None)

    answer = await rest.ask("GET", f"{ONE}/remember-prompt?event_id=3")

    assert_refused(answer, 501, "not_supported", "no model")


async def test_d84_an_experiment_never_answers_the_opposite_of_what_happened(rest):
    await rest.keep("c1", None)

    answer = await rest.ask("POST", f"{ONE}/exp-config", json={"config": {"a": "b"}})

    assert_refused(answer, 501, "not_supported", "no experiments")
    assert (await rest.conversations.for_user(None).get_metadata("c1")).custom == {}


async def test_d85_the_security_routes_are_where_they_are_documented_and_nowhere_else(rest):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("GET", f"{ONE}/security/export"), 501, "not_supported")
    assert_refused(await rest.ask("POST", "/security/export", json={}), 405, "method_not_allowed")
    assert_refused(await rest.ask("GET", "/security/export"), 404, "not_found")


async def test_d86_events_are_filtered_by_the_query(rest):
    await rest.keep("c1", None, title="One")
    await say(rest, "/run echo hello")
    await rest.wait_for("c1", lambda event: event.get("observation") == "run")

    assert {event["source"] for event in await log_of(rest, "source=user")} == {"user"}
    kinds = {event.get("observation") for event in await log_of(rest, "include_kinds=run")}
    assert kinds == {None, "run"}
    found = await log_of(rest, "query=HELLO&exclude_kinds=recall,message")
    assert {event.get("action") or event.get("observation") for event in found} == {"run"}


async def test_d87_every_error_has_the_one_body(rest):
    await rest.keep("c1", None)
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/nothing", {}),
        ("PUT", EVERY, {}),
        ("GET", f"{EVERY}/a..b", {}),
        ("POST", EVERY, {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("POST", EVERY, {"json": {"x": 1}}),
        ("POST", EVERY, {"content": b"x", "headers": {"content-type": "text/plain"}}),
        ("GET", f"{ONE}/git/changes", {}),
        ("GET", "/api/user/info", {}),
    ]
    for method, path, arguments in requests:
        answer = await rest.ask(method, path, **arguments)

        assert_refused(answer, answer.status_code, answer.json()["code"])
        assert answer.status_code >= 400
        assert "detail" not in answer.json()


async def test_d88_uploads_are_bytes_with_plain_names_and_a_limit(rest):
    await rest.keep("c1", None)
    content = bytes(range(256))
    files = [("../../evil.bin", content), ("large", b"x" * (MAX_FILE_BYTES + 1))]

    answer = await rest.ask("POST", f"{ONE}/upload-files", files=[("files", one) for one in files])

    assert answer.json()["uploaded_files"] == ["/workspace/evil.bin"]
    assert [file["name"] for file in answer.json()["skipped_files"]] == ["large"]
    async with rest.application.manager.attach("c1", None) as conversation:
        assert await conversation.loop.runtime.read_file("evil.bin") == content


async def test_d89_feedback_stays_here_and_holds_no_log(rest):
    await rest.keep("c1", None)
    body = {"polarity": "positive", "trajectory": [{"message": "private words"}]}

    answer = await rest.ask("POST", f"{ONE}/submit-feedback", json=body)

    assert answer.json()["message"] == "Kept on this server"
    record = await rest.conversations.for_user(None).get_metadata("c1")
    assert "private words" not in record.model_dump_json()


async def test_d90_asking_for_figures_does_not_wait_for_them(rest):
    async with asyncio.timeout(19):  # a tenth of a second each would be more
        for _ in range(200):
            assert (await rest.ask("GET", "/server_info")).status_code == 200
