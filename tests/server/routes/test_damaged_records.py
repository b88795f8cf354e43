"""One damaged record: it is refused by itself, and no list, count or start depends on it."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from events.event import AgentState
from tests.support.clients import ConnectRefused, joined, message
from tests.support.remote import CONVERSATIONS, server_over
from tests.support.rest import assert_refused
from tests.support.waiting import until

KEY = "planted-admin-key"
ADMIN = {"x-admin-api-key": KEY}
KINDS = ("sqlite", "local")
BAD_VALUES = {
    "text": "'abc'",
    "empty": "''",
    "bytes": "X'ff00'",
    "no UTF-8": "CAST(X'41ff' AS TEXT)",
    "nested": f"'{'[' * 100_000}'",
    "infinite": "9e999",
    "negative": "-7",
}
COLUMNS = (
    "created_at",
    "title",
    "folded_title",
    "selected_repository",
    "selected_branch",
    "git_provider",
    "trigger_kind",
    "pr_number",
    "llm_model",
    "sandbox_id",
    "conversation_version",
    "custom",
    "last_updated_at",
    "last_message_at",
    "accumulated_cost",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "epoch",
    "fence",
    "user_id",
)


def set_column(folder, conversation_id, column, value):
    with closing(sqlite3.connect(folder / "parley.sqlite3", isolation_level=None)) as one:
        statement = f"UPDATE conversations SET {column} = {value} WHERE conversation_id = ?"  # noqa: S608
        assert one.execute(statement, (conversation_id,)).rowcount == 1


def damage(folder, kind, conversation_id):
    """Change the stored record of a conversation behind the server's back."""
    if kind == "sqlite":
        set_column(folder, conversation_id, "trigger_kind", "'nonsense'")
        return
    path = folder / "files" / "records" / conversation_id
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
async def made(tmp_path, kind):
    """Three conversations; the record of the second is damaged since."""
    async with server_over(tmp_path, kind, admin_key=KEY) as (_, api):
        created = [await api.create() for _ in range(3)]
        for one in created:
            await api.post(one, message("/say done"))

        async def all_have_a_title():
            asked = [await api.client.get(f"{CONVERSATIONS}/{one}") for one in created]
            return all(answer.json()["title"] for answer in asked)

        await until(all_have_a_title)
    damage(tmp_path, kind, created[1])
    return created


async def test_a_damaged_record_is_refused_as_such_and_logged_with_its_conversation(
    tmp_path, kind, made, caplog
):
    damaged = made[1]
    path = f"{CONVERSATIONS}/{damaged}"
    async with server_over(tmp_path, kind, admin_key=KEY) as (server, api):
        requests: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("GET", path, {}),
            ("PATCH", path, {"json": {"title": "x"}}),
            ("POST", f"{path}/start", {"json": {}}),
            ("POST", f"{path}/message", {"json": {"message": "x"}}),
            ("POST", f"{path}/events", {"json": message("x")}),
        )
        for method, address, arguments in requests:
            caplog.clear()
            answer = await api.client.request(method, address, **arguments)
            assert_refused(answer, 500, "damaged", "record")
            lines = [one for one in caplog.records if one.name == "server.http.middleware"]
            assert [(one.levelname, damaged in one.getMessage()) for one in lines] == [
                ("ERROR", True)
            ]
        caplog.clear()
        with pytest.raises(ConnectRefused, match="record is damaged"):
            async with joined(server.url, damaged):
                raise AssertionError
        (line,) = [one for one in caplog.records if one.name == "server.sockets.handlers"]
        assert line.exc_info is not None
        assert damaged in str(line.exc_info[1])


async def test_a_damaged_record_is_left_out_of_lists_and_all_else_of_them_is_there(
    tmp_path, kind, made, caplog
):
    first, damaged, last = made
    async with server_over(tmp_path, kind, admin_key=KEY) as (server, api):
        assert {*await api.listed()} == {first, last}
        lines = [one.getMessage() for one in caplog.records if "left out of a list" in one.msg]
        assert lines
        assert all(damaged in line for line in lines)
        async with joined(server.url, first) as client:
            answered = await client.say("hello")
            await client.state(AgentState.AWAITING_USER_INPUT, after=answered["id"])


async def test_a_conversation_whose_record_is_damaged_can_be_deleted(tmp_path, kind, made):
    first, damaged, last = made
    path = f"{CONVERSATIONS}/{damaged}"
    async with server_over(tmp_path, kind, admin_key=KEY) as (_, api):
        assert (await api.client.delete(path)).json() is True
        assert (await api.client.get(path)).json() is None
        assert_refused(await api.client.get(f"{path}/events"), 404, "conversation_not_found")
    async with server_over(tmp_path, kind, admin_key=KEY) as (_, api):
        assert (await api.client.get(path)).json() is None
        assert {*await api.listed()} == {first, last}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("column", COLUMNS)
async def test_no_value_of_a_column_takes_another_conversation_from_a_list(
    tmp_path, kind, made, column
):
    first, damaged, last = made
    since = "updated_since=2020-01-01T00:00:00Z"
    queries = (
        "limit=1",
        "limit=1&sort=last_message_at",
        f"limit=2&title=say&{since}&conversation_trigger=gui",
    )
    async with server_over(tmp_path, kind, admin_key=KEY) as (_, api):
        for value in BAD_VALUES.values():
            set_column(tmp_path, damaged, column, value)
            for query in queries:
                assert {*await paged(api, f"{CONVERSATIONS}?{query}")} - {damaged} == {first, last}
            everything = await paged(api, "/api/admin/conversations?limit=1")
            assert {*everything} - {damaged} == {first, last}
            usage = await api.client.get("/api/admin/usage", headers=ADMIN)
            assert usage.status_code == 200
            assert sum(one["events"] for one in usage.json()["results"]) > 0


async def test_no_record_of_the_audit_takes_another_from_its_list(tmp_path):
    async with server_over(tmp_path, "sqlite", admin_key=KEY) as (_, api):
        address = "/api/admin/audit"
        for _ in range(3):
            for method, body in (("POST", {}), ("DELETE", None)):
                answer = await api.client.request(
                    method, "/api/admin/drain", headers=ADMIN, json=body
                )
                assert answer.is_success, answer.text
        acts = (await api.client.get(address, headers=ADMIN)).json()["results"]
        spoiled = acts[1]["id"]
        for value in BAD_VALUES.values():
            with closing(sqlite3.connect(tmp_path / "parley.sqlite3", isolation_level=None)) as one:
                one.execute(f"UPDATE audit SET body = {value} WHERE id = ?", (spoiled,))  # noqa: S608
            found = []
            query = {"limit": "1"}
            while True:
                answer = await api.client.get(address, params=query, headers=ADMIN)
                assert answer.status_code == 200
                found += [one["id"] for one in answer.json()["results"]]
                if answer.json()["next_before"] is None:
                    break
                query["before"] = str(answer.json()["next_before"])
            assert {one["id"] for one in acts} - {*found} == {spoiled}


async def paged(api, address):
    """All ids of a list, page by page."""
    found = []
    page_id = None
    while True:
        query: dict[str, str] = {} if page_id is None else {"page_id": page_id}
        answer = await api.client.get(address, params=query_of(address) | query, headers=ADMIN)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        found += [(one.get("record") or one)["conversation_id"] for one in results]
        page_id = answer.json()["next_page_id"]
        if page_id is None:
            return found


def query_of(address):
    return dict(pair.split("=", 1) for pair in address.partition("?")[2].split("&"))
