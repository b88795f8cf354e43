"""The records of administration: conversations of all users, usage, the storage, settings, the audit."""

import csv
import io
import logging
import sqlite3
from contextlib import closing

import pytest
from httpx import ASGITransport, AsyncClient

from server.app import create_app
from server.config.settings import ServerConfig
from storage.conversations.memory import MemoryConversations, MemoryConversationStore
from tests.support.rest import EVERY, assert_refused, rest_server

ADMIN = "/api/admin"
AUTH = "tests.support.extensions:HeaderAuth"


BOOK = MemoryConversations()


class OwnStore(MemoryConversationStore):
    @classmethod
    async def get_instance(cls, config, user_id):
        return cls(BOOK, user_id)


def client_of(application):
    transport = ASGITransport(application.asgi)
    return AsyncClient(transport=transport, base_url="http://localhost:3000")


async def read(rest, path, **query):
    answer = await rest.ask("GET", f"{ADMIN}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_conversations_of_all_users_are_paged_newest_first_without_gap_or_double(rest):
    for place in range(23):
        day = f"2026-03-{place + 1:02}T00:00:00Z"
        user = (None, "ann", "bob")[place % 3]
        await rest.keep(f"c{place}", user, title=f"Title {place}", created_at=day)

    seen: list[str] = []
    page_id: str | None = ""
    while page_id is not None:
        page = await read(rest, "conversations", limit=5, page_id=page_id)
        seen += [line["record"]["conversation_id"] for line in page["results"]]
        page_id = page["next_page_id"]

    assert seen == [f"c{place}" for place in reversed(range(23))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"c1", "c2", "c3"}),
        ({"owner": "ann"}, {"c2"}),
        ({"unowned": "true"}, {"c1"}),
        ({"title": "ROCK"}, {"c1", "c3"}),
        ({"title": "rock", "owner": "bob"}, {"c3"}),
        ({"selected_repository": "a/b"}, {"c2"}),
        ({"conversation_trigger": "slack"}, {"c3"}),
        ({"updated_since": "2026-03-02T12:00:00Z"}, {"c3"}),
    ],
)
async def test_conversations_are_filtered(rest, query, found):
    first = "2026-03-01T00:00:00Z"
    await rest.keep("c1", None, title="Rocket", created_at=first)
    await rest.keep("c2", "ann", title="Other", created_at=first, selected_repository="a/b")
    await rest.keep("c3", "bob", title="A rock", created_at="2026-03-03T00:00:00Z", trigger="slack")

    page = await read(rest, "conversations", **query)

    assert {line["record"]["conversation_id"] for line in page["results"]} == found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("conversations?limit=0", "bad_request"),
        ("conversations?limit=101", "bad_request"),
        ("conversations?page_id=NQ==", "bad_value"),
        ("conversations?owner=ann&unowned=true", "bad_request"),
        ("usage?since=soon", "bad_request"),
        ("usage?format=xml", "bad_request"),
        ("audit?before=0", "bad_request"),
        ("audit?limit=201", "bad_request"),
        ("storage?check=perhaps", "bad_request"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(rest, path, code):
    assert_refused(await rest.ask("GET", f"{ADMIN}/{path}"), 400, code)


async def test_records_in_a_class_of_its_own_are_listed_by_owner_only():
    config = ServerConfig(
        storage_kind="memory",
        conversation_store_class=f"{__name__}:OwnStore",
    )
    async with create_app(config) as application, client_of(application) as client:
        all_owners = await client.get(f"{ADMIN}/conversations")
        anns = await client.get(f"{ADMIN}/conversations?owner=ann")

    assert_refused(all_owners, 501, "not_supported")
    assert anns.json()["results"] == []


async def test_usage_is_told_by_user_and_as_csv():
    async with rest_server(user_auth_class=AUTH) as rest:
        for user in ("ann", "=cmd()"):
            headers = {"x-forwarded-user": user}
            made = await rest.ask("POST", EVERY, json={"initial_user_msg": "hi"}, headers=headers)
            assert made.status_code == 200
        usage = await read(rest, "usage")
        answer = await rest.ask("GET", f"{ADMIN}/usage?format=csv")

    assert {line["user_id"] for line in usage["results"]} == {"ann", "=cmd()"}
    assert all(line["events"] > 0 for line in usage["results"])
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["user_id"] for row in rows} == {"ann", "'=cmd()"}
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["x-usage-complete"] == "true"


async def test_usage_can_be_counted_anew(rest):
    conversation_id = await rest.create(initial_user_msg="hello")
    await rest.wait_until_idle(conversation_id)
    before = await read(rest, "usage")

    answer = await rest.ask("POST", f"{ADMIN}/usage/recount", json={})

    assert answer.json() == {"conversations": 1}
    assert await read(rest, "usage") == before


@pytest.mark.parametrize("kind", ["sqlite", "local"])
async def test_the_storage_report_tells_sizes_and_counts(tmp_path, kind):
    config = ServerConfig(storage_kind=kind, data_dir=tmp_path / "data")
    async with create_app(config) as application, client_of(application) as client:
        made = await client.post(EVERY, json={"initial_user_msg": "hello"})
        assert made.status_code == 200
        before = (await client.get(f"{ADMIN}/storage")).json()
        checked = (await client.get(f"{ADMIN}/storage?check=true")).json()

    assert (before["medium"], before["conversations"], before["integrity"]) == (kind, 1, None)
    assert before["bytes_used"] > 0
    assert checked["integrity"]["sound"] is True
    if kind == "sqlite":
        assert before["wal_bytes"] > 0
        assert before["events"] > 0
        assert before["schema_version"] >= 6
    else:
        assert before["files"] > 0


@pytest.mark.parametrize("kind", ["sqlite", "local"])
async def test_a_check_of_the_storage_finds_a_damaged_event(tmp_path, kind):
    config = ServerConfig(storage_kind=kind, data_dir=tmp_path)
    async with create_app(config) as application, client_of(application) as client:
        made = (await client.post(EVERY, json={"initial_user_msg": "hello"})).json()
        if kind == "sqlite":
            with closing(sqlite3.connect(tmp_path / "parley.sqlite3", timeout=30)) as connection:
                connection.execute("UPDATE events SET crc = 0 WHERE key & 4294967295 = 0")
                connection.execute("UPDATE arrivals SET crc = 0 WHERE key & 4294967295 = 0")
                connection.commit()
        else:
            log = tmp_path / "files" / "logs" / made["conversation_id"] / "tail"
            path = min(log.iterdir())
            path.write_bytes(path.read_bytes().replace(b"hello", b"hellu"))
        checked = (await client.get(f"{ADMIN}/storage?check=true")).json()["integrity"]

    assert checked["sound"] is False
    named = f"damaged records 0-0 in conversation {made['conversation_id']}"
    assert named in checked["text"]


async def test_settings_are_told_with_their_source_and_without_secrets(tmp_path):
    toml = tmp_path / "parley.toml"
    toml.write_text("page_size = 50")
    environ = {"PARLEY_SECRET_KEY": "a very secret text", "SESSION_API_KEY": "sesame"}
    loaded = ServerConfig.load({"port": 4000}, environ, toml)

    assert loaded.place_of("page_size") == f"page_size in {toml}"
    assert loaded.place_of("session_api_key") == "SESSION_API_KEY"
    assert loaded.place_of("port") == "--port"
    assert loaded.place_of("host") == "default"
    async with rest_server(secret_key="a very secret text") as rest:  # noqa: S106 - not one
        lines = {one["name"]: one for one in (await read(rest, "settings"))["results"]}
    assert set(lines) == set(loaded.masked())
    assert lines["secret_key"]["value"] == "**********"


async def test_the_audit_is_paged_newest_first(rest):
    for place in range(7):
        await rest.ask("POST", f"{ADMIN}/connections/x{place}/disconnect", json={})

    seen, before = [], None
    while True:
        query = {"limit": 3, "only_acts": True} | ({} if before is None else {"before": before})
        page = await read(rest, "audit", **query)
        seen += [one["target"] for one in page["results"]]
        before = page["next_before"]
        if before is None:
            break

    assert seen == [f"x{place}" for place in reversed(range(7))]


async def test_what_is_recorded_of_a_target_is_short_and_printable(rest):
    path = f"{ADMIN}/connections/%0a%1b[2J{'x' * 300}/disconnect"
    await rest.ask("POST", path, json={})

    (record,) = (await read(rest, "audit", only_acts=True))["results"]
    assert record["target"] == "??[2J" + "x" * 95


async def test_errors_that_are_logged_are_counted(rest):
    before = (await read(rest, "overview"))["faults"]
    logging.getLogger("server.test").error("on purpose")
    logging.getLogger("server.test").warning("on purpose")
    after = (await read(rest, "overview"))["faults"]

    assert after["errors"] == before["errors"] + 1
    assert after["warnings"] == before["warnings"] + 1


@pytest.mark.parametrize("path", ["/admin", "/admin/assets/admin/app.js", "/admin/assets/icon.svg"])
async def test_the_admin_page_is_served_also_beside_somebody_elses_page(tmp_path, path):
    (tmp_path / "index.html").write_text("theirs")
    for settings in ({}, {"ui_dir": tmp_path}):
        async with rest_server(**settings) as rest:
            answer = await rest.ask("GET", path)
            assert answer.status_code == 200
            assert "theirs" not in answer.text
            assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "app.js",
        "index.html",
        "admin/index.html",
        "admin/../app.js",
        "admin/%2e%2e/app.js",
        "admin/.hidden",
        "../server/app.py",
        "views/composer.js",
    ],
)
async def test_nothing_else_is_served_as_a_file_of_the_admin_page(rest, path):
    answer = await rest.ask("GET", f"/admin/assets/{path}")
    assert answer.status_code == 404


async def test_without_a_page_there_is_no_admin_page():
    async with rest_server(serve_frontend=False) as rest:
        assert (await rest.ask("GET", "/admin")).status_code == 404
