"""List, show, rename, delete, start and stop."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin

import pytest

from server.agent.states import LoopSettings
from storage.conversations.metadata import ConversationTrigger
from tests.support.payloads import is_answer
from tests.support.rest import EVERY, assert_refused, rest_server

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


class Listener:
    """A connection that keeps what it is told."""

    user_id = None

    def __init__(self, conversation_id):
        self.connection_id = "listener"
        self.conversation_id = conversation_id
        self.told = []

    def notify(self, payload):
        """Keep a payload."""
        self.told.append(payload)

    async def drop(self):
        """Go."""
        self.told.append("dropped")


async def info_of(rest, conversation_id):
    return (await rest.ask("GET", f"{EVERY}/{conversation_id}")).json()


async def listed(rest, query=""):
    answer = await rest.ask("GET", f"{EVERY}?{query}")
    assert answer.status_code == 200, answer.text
    return [info["conversation_id"] for info in answer.json()["results"]]


async def test_a_list_is_paged_newest_first_without_gap_or_double(rest):
    for number in range(5):
        await rest.keep(f"c{number}", None, created_at=START + timedelta(hours=number))
    pages = []
    page_id: str | None = ""

    while page_id is not None:
        query = {"limit": 2, "page_id": page_id}
        body = (await rest.ask("GET", EVERY, params=query)).json()
        pages.append([info["conversation_id"] for info in body["results"]])
        page_id = body["next_page_id"]

    assert pages == [["c4", "c3"], ["c2", "c1"], ["c0"]]


async def test_filters_apply_before_paging(rest):
    for number in range(6):
        trigger = ConversationTrigger.GUI if number % 2 else ConversationTrigger.SLACK
        repository = "acme/rocket" if number < 4 else None
        await rest.keep(
            f"c{number}",
            None,
            created_at=START + timedelta(hours=number),
            trigger=trigger,
            selected_repository=repository,
        )

    assert await listed(rest, "limit=2&conversation_trigger=slack") == ["c4", "c2"]
    assert await listed(rest, "limit=2&selected_repository=acme/rocket") == ["c3", "c2"]
    both = "selected_repository=acme/rocket&conversation_trigger=gui"
    assert await listed(rest, both) == ["c3", "c1"]
    assert await listed(rest, "selected_repository=&conversation_trigger=&unknown=1") != []


async def test_a_list_can_be_narrowed_by_a_part_of_the_title_and_by_age(rest):
    await rest.keep("a", None, title="Review the Rocket", created_at=START)
    await rest.keep("b", None, title="rocket fuel", created_at=START + timedelta(hours=1))
    await rest.keep("c", None, title="Something else", created_at=START + timedelta(hours=2))

    assert await listed(rest, "title=ROCKET") == ["b", "a"]
    since = (START + timedelta(minutes=30)).isoformat().replace("+00:00", "Z")
    assert await listed(rest, f"title=rocket&updated_since={since}") == ["b"]


async def test_opening_starting_stopping_and_renaming_leave_the_last_message_and_the_order(rest):
    first = await rest.create(initial_user_msg="one")
    await rest.wait_for(first, is_answer)
    second = await rest.create(initial_user_msg="two")
    await rest.wait_for(second, is_answer)
    before = await info_of(rest, first)
    assert before["last_message_at"] > before["created_at"]
    assert await listed(rest, "sort=last_message_at") == [second, first]

    await rest.ask("POST", f"{EVERY}/{first}/stop")
    await rest.ask("POST", f"{EVERY}/{first}/start", json={})
    await rest.ask("PATCH", f"{EVERY}/{first}", json={"title": "renamed"})
    async with rest.application.manager.attach(first, None):
        pass

    assert (await info_of(rest, first))["last_message_at"] == before["last_message_at"]
    assert await listed(rest, "sort=last_message_at") == [second, first]
    assert await listed(rest) == [second, first]

    said = await rest.ask("POST", f"{EVERY}/{first}/message", json={"message": "more"})
    assert said.status_code == 200, said.text
    assert await listed(rest, "sort=last_message_at") == [first, second]
    assert await listed(rest) == [second, first]


async def test_an_unknown_order_of_the_list_is_refused_by_name(rest):
    assert_refused(await rest.ask("GET", f"{EVERY}?sort=title"), 400, "bad_request", "sort")


@pytest.mark.parametrize(
    "query",
    [
        "updated_since=yesterday",
        "updated_since=2026-01-01T00:00:00",
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=many",
        "conversation_trigger=magic",
        "page_id=MTA",
    ],
)
async def test_an_unfit_query_is_refused(rest, query):
    answer = await rest.ask("GET", f"{EVERY}?{query}")

    assert_refused(answer, 400, "bad_value" if "page_id" in query else "bad_request")


async def test_old_conversations_are_left_out_only_where_that_is_set():
    async with rest_server(conversation_max_age_seconds=3600) as rest:
        await rest.keep("old", None, created_at=datetime.now(UTC) - timedelta(hours=2))
        await rest.keep("new", None)

        assert await listed(rest) == ["new"]


async def test_a_conversation_at_rest_is_shown_with_its_record(rest):
    await rest.keep("c1", None, created_at=START, title="Rockets", pr_number=[7])

    assert await info_of(rest, "c1") == {
        "conversation_id": "c1",
        "title": "Rockets",
        "created_at": "2026-03-02T09:00:00Z",
        "last_updated_at": None,
        "last_message_at": None,
        "status": "STOPPED",
        "runtime_status": None,
        "selected_repository": None,
        "selected_branch": None,
        "git_provider": None,
        "trigger": None,
        "num_connections": 0,
        "url": None,
        "session_api_key": None,
        "pr_number": [7],
        "conversation_version": "V0",
        "sub_conversation_ids": [],
    }


async def test_a_running_conversation_is_shown_with_its_loop_and_connections(rest):
    conversation_id = await rest.create()
    await rest.wait_until_idle(conversation_id)
    manager = rest.application.manager
    await manager.join_conversation(conversation_id, "one", LoopSettings(), None)
    await manager.join_conversation(conversation_id, "two", LoopSettings(), None)

    info = await info_of(rest, conversation_id)

    assert (info["status"], info["runtime_status"]) == ("RUNNING", "STATUS$READY")
    assert info["url"] == f"{EVERY}/{conversation_id}"
    assert info["num_connections"] == 2
    assert info == (await rest.ask("GET", EVERY)).json()["results"][0]


@pytest.mark.parametrize("title", ["a\nb", "a\x00 b\x1b", "\ufeffa\u2028\u202eb"])
async def test_a_title_becomes_one_line_without_controls(rest, title):
    await rest.keep("c1", None)

    answer = await rest.ask("PATCH", f"{EVERY}/c1", json={"title": title})

    assert (answer.status_code, answer.json()) == (200, True)
    assert (await info_of(rest, "c1"))["title"] == "a b"


@pytest.mark.parametrize("title", ["", "\u200b", " \u3164\n"])
async def test_a_title_of_which_nothing_can_be_seen_is_shown_as_the_default(rest, title):
    await rest.keep("abcdefgh", None, title=title)

    assert (await info_of(rest, "abcdefgh"))["title"] == "Conversation abcde"


async def test_a_title_of_an_older_version_is_shown_as_one_line(rest):
    await rest.keep("c1", None, title="a\nb\x00")

    assert (await info_of(rest, "c1"))["title"] == "a b"


async def test_an_unknown_conversation_is_shown_as_null(rest):
    answer = await rest.ask("GET", f"{EVERY}/unknown")

    assert (answer.status_code, answer.json()) == (200, None)


async def test_a_rename_is_stored_stripped_and_told_to_whoever_is_connected(rest):
    await rest.keep("c1", None)
    listener = Listener("c1")
    rest.application.connections.add(listener)

    answer = await rest.ask("PATCH", f"{EVERY}/c1", json={"title": "  Rockets "})

    assert (answer.status_code, answer.json()) == (200, True)
    assert (await info_of(rest, "c1"))["title"] == "Rockets"
    (told,) = listener.told
    assert told["status_update"] is True
    assert (told["type"], told["message"]) == ("info", "c1")
    assert told["conversation_title"] == "Rockets"


@pytest.mark.parametrize(
    "body",
    [
        {"title": ""},
        {"title": " \t"},
        {"title": "\u200b"},
        {"title": "\u3164\x00"},
        {"title": "x" * 201},
        {"title": 1},
        {},
        {"x": "y"},
    ],
)
async def test_an_unfit_title_is_refused_and_changes_nothing(rest, body):
    await rest.keep("c1", None, title="Before")

    assert_refused(await rest.ask("PATCH", f"{EVERY}/c1", json=body), 422, "invalid_body")
    assert (await info_of(rest, "c1"))["title"] == "Before"


async def test_renaming_an_unknown_conversation_is_refused(rest):
    answer = await rest.ask("PATCH", f"{EVERY}/unknown", json={"title": "x"})

    assert_refused(answer, 404, "conversation_not_found", "Conversation not found")
    assert answer.json()["msg_id"] == "CONVERSATION$NOT_FOUND"


async def test_deleting_removes_it_everywhere_and_a_second_time_is_false(rest):
    conversation_id = await rest.create(initial_user_msg="hello")
    listener = Listener(conversation_id)
    rest.application.connections.add(listener)

    first = await rest.ask("DELETE", f"{EVERY}/{conversation_id}")
    second = await rest.ask("DELETE", f"{EVERY}/{conversation_id}")

    assert (first.json(), second.json()) == (True, False)
    assert listener.told[-1] == "dropped"
    assert await listed(rest) == []
    assert await info_of(rest, conversation_id) is None
    events = await rest.ask("GET", f"{EVERY}/{conversation_id}/events")
    assert_refused(events, 404, "conversation_not_found")


async def test_deleting_an_unknown_conversation_is_false(rest):
    answer = await rest.ask("DELETE", f"{EVERY}/unknown")

    assert (answer.status_code, answer.json()) == (200, False)


@pytest.mark.parametrize("body", [{"providers_set": []}, {"providers_set": None}, {}])
async def test_starting_starts_the_loop_and_is_idempotent(rest, body):
    await rest.keep("c1", None)

    first = await rest.ask("POST", f"{EVERY}/c1/start", json=body)
    await rest.wait_until_idle("c1")
    second = await rest.ask("POST", f"{EVERY}/c1/start", json=body)

    expected = {"status": "ok", "conversation_id": "c1", "message": None}
    assert first.json() == expected | {"conversation_status": "STARTING"}
    assert second.json() == expected | {"conversation_status": "RUNNING"}


async def test_starting_is_refused_for_unknown_conversations_and_hosts(rest):
    await rest.keep("c1", None)

    unknown = await rest.ask("POST", f"{EVERY}/unknown/start", json={})
    host = await rest.ask("POST", f"{EVERY}/c1/start", json={"providers_set": ["sourceforge"]})

    assert_refused(unknown, 404, "conversation_not_found")
    assert_refused(host, 422, "invalid_body", "providers_set")


async def test_starting_is_refused_where_settings_are_required_and_missing():
    async with rest_server(require_settings=True) as rest:
        await rest.keep("c1", None)

        answer = await rest.ask("POST", f"{EVERY}/c1/start", json={})

        assert_refused(answer, 400, "settings_not_found")
        assert answer.json()["msg_id"] == "CONFIGURATION$SETTINGS_NOT_FOUND"
        assert (await info_of(rest, "c1"))["status"] == "STOPPED"


async def test_stopping_tells_the_status_before_and_a_second_time_that_nothing_ran(rest):
    conversation_id = await rest.create()
    await rest.wait_until_idle(conversation_id)

    first = await rest.ask("POST", f"{EVERY}/{conversation_id}/stop")
    second = await rest.ask("POST", f"{EVERY}/{conversation_id}/stop")

    expected = {"status": "ok", "conversation_id": conversation_id}
    assert first.json() == expected | {
        "message": "Conversation stopped successfully",
        "conversation_status": "RUNNING",
    }
    assert second.json() == expected | {
        "message": "Conversation was not running",
        "conversation_status": "STOPPED",
    }
    assert (await info_of(rest, conversation_id))["status"] == "STOPPED"


async def test_stopping_an_unknown_conversation_is_refused(rest):
    answer = await rest.ask("POST", f"{EVERY}/unknown/stop")

    assert_refused(answer, 404, "conversation_not_found")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_last_slash_leads_to_the_address_without_it(rest, method):
    answer = await rest.ask(method, f"{EVERY}/?limit=1&title=%C3%A9")

    assert answer.status_code == 307
    assert answer.headers["location"] == "../conversations?limit=1&title=%C3%A9"


async def test_a_request_with_a_last_slash_is_answered_like_one_without(rest):
    answer = await rest.ask("POST", f"{EVERY}/", json={}, follow_redirects=True)
    conversation_id = answer.json()["conversation_id"]
    shown = await rest.ask("GET", f"{EVERY}/{conversation_id}/", follow_redirects=True)

    assert shown.json()["conversation_id"] == conversation_id


@pytest.mark.parametrize("path", ["/alive", "/metrics", "/api/settings", "/openapi.json", "/docs"])
async def test_every_address_may_have_a_last_slash(rest, path):
    answer = await rest.ask("GET", f"{path}/")

    assert answer.status_code == 307
    assert urljoin(f"{path}/", answer.headers["location"]) == path
    assert urljoin(f"/parley{path}/", answer.headers["location"]) == f"/parley{path}"


async def test_the_address_without_the_slash_is_spelled_as_it_was_asked_for(rest):
    answer = await rest.client.get("http://localhost:3000/api/secrets/a%2Db/")

    assert (answer.status_code, answer.headers["location"]) == (307, "../a%2Db")


@pytest.mark.parametrize("path", ["/api/nothing/", "/api/", "//evil.example/api/", f"{EVERY}//"])
async def test_where_there_is_nothing_without_the_slash_there_is_nothing_with_it(rest, path):
    answer = await rest.client.get(f"http://localhost:3000{path}")

    assert_refused(answer, 404, "not_found")
