"""Full-text search over REST: what a user said and was told, and nobody else's."""

from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
from httpx import ASGITransport, AsyncClient

from server.app import create_app
from server.config.settings import ServerConfig
from server.routes.search import CURSOR, cursor_behind
from storage.result_set import encode_cursor
from storage.search.sqlite import INDEX_NAME
from tests.support.rest import EVERY, rest_server

AUTH = "tests.support.extensions:HeaderAuth"
ANN, BOB = {"x-forwarded-user": "ann"}, {"x-forwarded-user": "bob"}
HOSTILE = (
    'AND OR NOT "',
    '"',
    "text:canary",
    "facets : canary",
    "{text} : canary",
    "NEAR(a b, 3)",
    "^canary*",
    "canary* OR *",
    "-canary",
    "a + b",
    "'; DROP TABLE words; --",
    "\0 canary",
    "(" * 150,
    "x" * 200,
)


@pytest.fixture
async def rest():
    async with rest_server(user_auth_class=AUTH) as opened:
        yield opened


async def say(rest, text, headers=ANN):
    answer = await rest.ask("POST", EVERY, json={"initial_user_msg": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["conversation_id"]


async def found(rest, text, headers=ANN, **query):
    more = "".join(f"&{name}={quote(str(value))}" for name, value in query.items())
    answer = await rest.ask("GET", f"/api/search?q={quote(text)}{more}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_was_said_is_found_with_where_it_stands(rest):
    conversation_id = await say(rest, "Where do zebras sleep at night?")
    await rest.wait_until_searchable()

    page = await found(rest, "ZEBRAS sleep", kind="message", source="user")

    (result,) = page["results"]
    assert page["next_cursor"] is None
    assert result.keys() == {
        *("conversation_id", "title", "kind", "event_id"),
        *("source", "timestamp", "snippet"),
    }
    assert (result["conversation_id"], result["event_id"]) == (conversation_id, 0)
    assert [piece["text"] for piece in result["snippet"] if piece["found"]] == ["zebras", "sleep"]
    events = await rest.ask("GET", f"{EVERY}/{conversation_id}/events?limit=1", headers=ANN)
    (event,) = events.json()["events"]
    assert event["timestamp"] == result["timestamp"]


async def test_a_user_finds_nothing_of_another(rest):
    conversation_id = await say(rest, "canary of ann")
    await say(rest, "canary of bob", BOB)
    await rest.wait_until_searchable()

    for query in ({}, {"conversation_id": conversation_id}, {"prefix": "true"}):
        answer = await rest.ask("GET", "/api/search", params={"q": "canary", **query}, headers=BOB)
        assert "ann" not in answer.text
        assert conversation_id not in answer.text
    assert len({one["conversation_id"] for one in (await found(rest, "canary"))["results"]}) == 1


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_text_is_an_error_of_the_index(rest, text):
    await say(rest, "canary")
    await rest.wait_until_searchable()

    answer = await rest.ask("GET", "/api/search", params={"q": text}, headers=ANN)

    assert answer.status_code in (200, 400)
    assert "fts5" not in answer.text
    assert "syntax" not in answer.text


async def test_masked_values_cannot_be_found(rest):
    secret = {"name": "TOKEN", "value": "sesame12345", "description": ""}
    assert (await rest.ask("POST", "/api/secrets", json=secret, headers=ANN)).status_code == 201
    await say(rest, "the token is sesame12345 indeed")
    await rest.wait_until_searchable()

    assert (await found(rest, "sesame12345"))["results"] == []
    assert (await found(rest, "sesame", prefix="true"))["results"] == []
    (result,) = (await found(rest, "token indeed", kind="message", source="user"))["results"]
    assert "sesame" not in str(result)


async def test_a_new_title_is_found_and_the_old_one_is_not(rest):
    conversation_id = await say(rest, "hello")
    address = f"{EVERY}/{conversation_id}"
    await rest.ask("PATCH", address, json={"title": "walrus"}, headers=ANN)
    await rest.wait_until_searchable()
    assert [one["kind"] for one in (await found(rest, "walrus"))["results"]] == ["title"]

    await rest.ask("PATCH", address, json={"title": "narwhal"}, headers=ANN)
    await rest.wait_until_searchable()

    assert (await found(rest, "walrus"))["results"] == []
    (result,) = (await found(rest, "narwhal"))["results"]
    assert (result["event_id"], result["source"], result["title"]) == (None, None, "narwhal")


async def test_a_deleted_conversation_is_not_found(rest):
    conversation_id = await say(rest, "canary")
    await rest.wait_until_searchable()
    await rest.ask("DELETE", f"{EVERY}/{conversation_id}", headers=ANN)

    assert (await found(rest, "canary"))["results"] == []
    await rest.wait_until_searchable()
    index = await rest.indexer.index()
    assert await index.conversations("", 10) == []


async def test_pages_are_walked_by_their_cursor(rest):
    for number in range(5):
        await say(rest, f"zebra {number}")
    await rest.wait_until_searchable()

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await found(rest, "zebra", limit=2, kind="message", source="user", cursor=cursor)
        seen += [one["conversation_id"] for one in page["results"]]
        cursor = page["next_cursor"]

    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize(
    "key", [(-1,), (2**63,), (2**64,), (-(2**63) - 1,), (10**300,), ("1",), (1, 2), (), ("",)]
)
async def test_a_cursor_that_no_page_gave_is_refused(tmp_path, kind, key):
    async with asked(tmp_path, storage_kind=kind, search_dir=tmp_path / "index") as client:
        cursor = encode_cursor(CURSOR, key)
        answer = await client.get("/api/search", params={"q": "x", "cursor": cursor})

        assert (answer.status_code, answer.json()["code"]) == (400, "bad_value")
        assert answer.json()["error"].startswith("Not a")


@pytest.mark.parametrize("place", [0, 1, 2**63 - 1])
async def test_every_place_of_an_index_may_stand_in_a_cursor(tmp_path, place):
    async with asked(tmp_path, storage_kind="sqlite") as client:
        query = {"q": "x", "cursor": cursor_behind(place)}
        answer = await client.get("/api/search", params=query)

    assert (answer.status_code, answer.json()["results"]) == (200, [])


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_every_time_of_the_calendar_may_be_asked_for(tmp_path, since):
    async with asked(tmp_path, storage_kind="sqlite") as client:
        answer = await client.get("/api/search", params={"q": "x", "since": since})

    assert (answer.status_code, answer.json()["results"]) == (200, [])


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "5"])
async def test_a_time_that_has_no_date_in_utc_is_refused(tmp_path, since):
    async with asked(tmp_path, storage_kind="sqlite") as client:
        answer = await client.get("/api/search", params={"q": "x", "since": since})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.json()["error"].startswith("since: ")


@pytest.mark.parametrize("text", ["*", " ", '""', "\N{ZERO WIDTH JOINER}", "\N{PARTY POPPER}"])
async def test_a_query_without_a_word_finds_nothing(rest, text):
    await say(rest, "zebra")
    await rest.wait_until_searchable()

    page = await found(rest, text)

    assert page == {"results": [], "next_cursor": None}


async def test_results_are_since_a_time(rest):
    await say(rest, "zebra")
    await rest.wait_until_searchable()

    assert (await found(rest, "zebra", since="2000-01-01T00:00:00Z"))["results"] != []
    assert (await found(rest, "zebra", since="2100-01-01T00:00:00Z"))["results"] == []


@asynccontextmanager
async def asked(tmp_path, **settings):
    config = ServerConfig(data_dir=tmp_path / "data", **settings)
    async with create_app(config) as application:
        transport = ASGITransport(application.asgi)
        async with AsyncClient(transport=transport, base_url="http://localhost:3000") as client:
            yield client


@pytest.mark.parametrize(
    "settings",
    [
        {"storage_kind": "memory"},
        {"storage_kind": "local"},
        {"storage_kind": "sqlite", "full_text_search": False},
        {"storage_kind": "local", "full_text_search": False, "search_dir": "unused"},
    ],
)
async def test_a_server_without_an_index_says_so(tmp_path, settings):
    async with asked(tmp_path, **settings) as client:
        answer = await client.get("/api/search?q=x")

    assert (answer.status_code, answer.json()["code"]) == (501, "not_supported")
    assert "search_dir" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["memory", "local", "sqlite"])
async def test_every_storage_has_an_index_in_a_directory_of_its_own(tmp_path, kind):
    folder = tmp_path / "elsewhere"
    async with asked(tmp_path, storage_kind=kind, search_dir=folder) as client:
        answer = await client.get("/api/search?q=x")

        assert (answer.status_code, answer.json()["results"]) == (200, [])
        assert (folder / INDEX_NAME).exists()


async def test_the_index_of_sqlite_is_in_the_data_directory(tmp_path):
    async with asked(tmp_path, storage_kind="sqlite") as client:
        answer = await client.get("/api/search?q=x")

    assert answer.status_code == 200
    assert (tmp_path / "data" / INDEX_NAME).exists()
