"""POST /api/conversations: what is created, what is refused, what a retry does."""

import asyncio
import json

import pytest
from httpx import ASGITransport, AsyncClient

from events.redaction import MASK
from events.stores.memory import MemoryEventStore
from server.app import compose
from server.components import load_components
from server.config.settings import ServerConfig
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationTrigger
from tests.support.kept import kept_in_memory
from tests.support.rest import EVERY, assert_refused, rest_server
from tests.support.user_backends import memory_user_stores
from tests.support.waiting import until

MODEL_AGENT = "tests.support.rest:ModelAgent"
KEYLESS_MODEL_AGENT = "tests.support.rest:KeylessModelAgent"
TASK = {
    "git_provider": "github",
    "task_type": "OPEN_ISSUE",
    "repo": "acme/rocket",
    "issue_number": 7,
    "title": "It does not fly",
}


async def list_all(rest):
    return (await rest.ask("GET", EVERY)).json()["results"]


async def user_messages(rest, conversation_id):
    answer = await rest.ask(
        "GET", f"{EVERY}/{conversation_id}/events?source=user&include_kinds=message"
    )
    return [event["args"]["content"] for event in answer.json()["events"]]


async def test_an_empty_request_creates_a_conversation(rest):
    answer = await rest.ask("POST", EVERY, json={})

    created = answer.json()
    assert answer.status_code == 200
    assert created["status"] == "ok"
    assert created["message"] is None
    assert created["conversation_status"] in ("STARTING", "RUNNING")
    assert len(bytes.fromhex(created["conversation_id"])) == 16


async def test_it_is_in_the_list_at_once_with_everything_a_page_needs(rest):
    conversation_id = await rest.create(repository="acme/rocket", selected_branch="main")

    (info,) = await list_all(rest)

    assert info["conversation_id"] == conversation_id
    assert info["title"] == f"Conversation {conversation_id[:5]}"
    assert info["conversation_version"] == "V0"
    assert info["sub_conversation_ids"] == []
    assert info["status"] in ("STARTING", "RUNNING")
    assert info["url"] == f"{EVERY}/{conversation_id}"
    assert (info["selected_repository"], info["selected_branch"]) == ("acme/rocket", "main")
    assert info["trigger"] == "gui"


async def test_the_first_message_is_in_the_log_when_the_answer_comes_and_is_answered(rest):
    conversation_id = await rest.create(initial_user_msg="hello")

    assert await user_messages(rest, conversation_id) == ["hello"]
    await rest.wait_for(
        conversation_id,
        lambda event: event.get("source") == "agent" and event.get("action") == "message",
    )


async def test_pictures_alone_are_a_first_message(rest):
    conversation_id = await rest.create(image_urls=["data:image/png;base64,AA=="])

    assert await user_messages(rest, conversation_id) == [""]


@pytest.mark.parametrize("blank", ["", "  \n", "\u200b", "\u3164", "\ufeff"])
async def test_a_blank_first_message_is_none(rest, blank):
    conversation_id = await rest.create(initial_user_msg=blank)

    assert await user_messages(rest, conversation_id) == []


async def test_a_suggested_task_speaks_for_its_user(rest):
    conversation_id = await rest.create(suggested_task=TASK)

    (info,) = await list_all(rest)
    (message,) = await user_messages(rest, conversation_id)
    assert (info["trigger"], info["selected_repository"]) == ("suggested_task", "acme/rocket")
    assert info["git_provider"] == "github"
    assert "open issue #7 of acme/rocket: It does not fly" in message


async def test_a_microagent_has_its_trigger_and_repository(rest):
    await rest.create(create_microagent={"repo": "acme/rocket"}, conversation_instructions="x")

    (info,) = await list_all(rest)
    assert (info["trigger"], info["selected_repository"]) == (
        "microagent_management",
        "acme/rocket",
    )


async def test_a_bearer_token_marks_a_program(rest):
    headers = {"authorization": "Bearer abc"}
    await rest.ask("POST", EVERY, json={"suggested_task": TASK}, headers=headers)

    (info,) = await list_all(rest)
    assert info["trigger"] == ConversationTrigger.OPENHANDS_API


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"colour": "red"}, "colour: unknown field"),
        ({"initial_user_msg": 5}, "initial_user_msg"),
        ({"git_provider": "sourceforge"}, "git_provider"),
        ({"suggested_task": TASK | {"issue_number": "7"}}, "suggested_task.issue_number"),
        ({"suggested_task": {}}, "suggested_task.git_provider"),
        ({"image_urls": "one"}, "image_urls"),
        ({"conversation_id": "mine"}, "conversation_id: unknown field"),
        ([], "object"),
    ],
)
async def test_what_does_not_fit_is_named_and_nothing_is_created(rest, body, field):
    answer = await rest.ask("POST", EVERY, json=body)

    assert_refused(answer, 422, "invalid_body", field)
    assert await list_all(rest) == []


@pytest.mark.parametrize("body", [b"{", b"\xff", b"{} {}", b'"\\ud800"'])
async def test_what_is_not_json_is_refused(rest, body):
    headers = {"content-type": "application/json"}
    answer = await rest.ask("POST", EVERY, content=body, headers=headers)

    assert_refused(answer, 400, "bad_request", "not JSON")


async def test_a_body_without_a_type_is_refused(rest):
    assert_refused(await rest.ask("POST", EVERY), 415, "unsupported_media_type")


async def test_a_recording_is_acted_out_again_and_then_the_agent_goes_on(rest):
    first = await rest.create(initial_user_msg="/run echo 1 > a")
    await rest.wait_for(first, lambda event: event.get("observation") == "run")
    await rest.wait_until_idle(first)
    recording = (await rest.ask("GET", f"{EVERY}/{first}/trajectory")).text

    second = await rest.create(replay_json=recording)
    await rest.wait_for(second, lambda event: event.get("observation") == "run")

    assert await user_messages(rest, second) == ["/run echo 1 > a"]
    answer = await rest.ask("GET", f"{EVERY}/{second}/select-file?file=a")
    assert answer.json() == {"code": "1\n"}
    await rest.ask("POST", f"{EVERY}/{second}/message", json={"message": "still there?"})
    await rest.wait_for(second, lambda event: "still there?" in agent_text(event))
    runs = await rest.ask("GET", f"{EVERY}/{second}/events?include_kinds=run&source=agent")
    assert len(runs.json()["events"]) == 2


def agent_text(event):
    return event["message"] if event["source"] == "agent" else ""


@pytest.mark.parametrize("text", ["[]", "{", '[{"action": "run", "source": "agent"}]'])
async def test_what_is_no_recording_is_refused_and_nothing_is_written(rest, text):
    answer = await rest.ask("POST", EVERY, json={"replay_json": text})

    assert_refused(answer, 400, "bad_replay", "replay_json")
    assert await list_all(rest) == []


async def test_files_of_a_recordings_first_message_are_kept(rest):
    said = {"content": "look", "file_urls": ["/workspace/a.txt"], "image_urls": ["data:,"]}
    recording = [{"source": "user", "action": "message", "args": said}]

    conversation_id = await rest.create(replay_json=json.dumps(recording))

    answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/events?source=user")
    first = answer.json()["events"][0]["args"]
    assert {name: first[name] for name in said} == said


async def test_a_recording_has_a_limit_of_its_own_and_its_refusal_names_the_setting():
    async with rest_server(max_message_bytes=1024, max_recording_bytes=300_000) as rest:
        fits = recording_of(200_000)
        conversation_id = await rest.create(replay_json=fits)
        assert await user_messages(rest, conversation_id) == ["do it"]

        too_long = await rest.ask("POST", EVERY, json={"replay_json": recording_of(400_000)})
        assert_refused(too_long, 413, "too_large", "max_recording_bytes")
        message = await rest.ask("POST", EVERY, json={"initial_user_msg": "x" * 80_000})
        assert_refused(message, 413, "too_large", "max_message_bytes")
        both = {"initial_user_msg": "x" * 80_000, "replay_json": fits}
        assert_refused(
            await rest.ask("POST", EVERY, json=both), 413, "too_large", "max_message_bytes"
        )
        elsewhere = f"{EVERY}/{conversation_id}/message"
        answer = await rest.ask("POST", elsewhere, json={"message": "x" * 80_000})
        assert_refused(answer, 413, "too_large", "max_message_bytes")


def recording_of(size):
    """A recording of that many characters; its agent thinks it over."""
    said = {"source": "user", "action": "message", "args": {"content": "do it"}}
    thought = {"source": "agent", "action": "think", "args": {"thought": "x" * 500}}
    count = size // len(json.dumps(thought))
    return json.dumps([said, *[thought] * count])


async def test_required_settings_are_checked_before_anything_is_written():
    async with rest_server(require_settings=True) as rest:
        answer = await rest.ask("POST", EVERY, json={})

        assert_refused(answer, 400, "settings_not_found", "Settings not found")
        assert answer.json()["msg_id"] == "CONFIGURATION$SETTINGS_NOT_FOUND"
        assert await list_all(rest) == []


async def test_a_model_s_key_is_checked_before_anything_is_written():
    async with rest_server(agent_class=MODEL_AGENT) as rest:
        answer = await rest.ask("POST", EVERY, json={})

        assert_refused(answer, 400, "model_key_missing", "Please check your API key")
        assert answer.json()["msg_id"] == "STATUS$ERROR_LLM_AUTHENTICATION"
        assert await list_all(rest) == []


async def test_a_model_that_is_reached_without_a_key_is_no_obstacle():
    async with rest_server(agent_class=KEYLESS_MODEL_AGENT) as rest:
        await rest.create()


async def create_with(rest, key, **body):
    answer = await rest.ask("POST", EVERY, json=body, headers={"idempotency-key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()["conversation_id"]


async def test_a_retry_with_its_key_gives_the_same_conversation_and_one_message(rest):
    first = await create_with(rest, "a key", initial_user_msg="hello")
    again = await create_with(rest, "a key", initial_user_msg="hello")
    other = await create_with(rest, "another key", initial_user_msg="hello")

    assert first == again != other
    assert await user_messages(rest, first) == ["hello"]
    assert len(await list_all(rest)) == 2


async def test_a_double_click_gives_one_conversation_and_one_message(rest):
    clicks = [create_with(rest, "k" * 128, initial_user_msg="hello") for _ in range(8)]

    (conversation_id,) = set(await asyncio.gather(*clicks))

    assert await user_messages(rest, conversation_id) == ["hello"]


async def test_a_retry_does_not_undo_a_title(rest):
    conversation_id = await create_with(rest, "a key")
    await rest.ask("PATCH", f"{EVERY}/{conversation_id}", json={"title": "Mine"})

    await create_with(rest, "a key")

    assert [info["title"] for info in await list_all(rest)] == ["Mine"]


async def test_without_a_key_every_request_creates_another(rest):
    assert await rest.create() != await rest.create()


@pytest.mark.parametrize("key", ["", "k" * 129, "tab\there"])
async def test_an_unfit_key_is_refused(rest, key):
    answer = await rest.ask("POST", EVERY, json={}, headers={"idempotency-key": key})

    assert_refused(answer, 400, "bad_request", "Idempotency-Key")


async def test_a_deleted_conversation_does_not_come_back_by_its_key(rest):
    conversation_id = await create_with(rest, "a key")
    await rest.ask("DELETE", f"{EVERY}/{conversation_id}")

    answer = await rest.ask("POST", EVERY, json={}, headers={"idempotency-key": "a key"})

    assert_refused(answer, 409, "exists")


async def test_a_creator_may_choose_the_id_where_that_is_allowed():
    async with rest_server(allow_set_conversation_id=True) as rest:
        assert await rest.create(conversation_id="mine", initial_user_msg="one") == "mine"
        assert await user_messages(rest, "mine") == ["one"]


async def test_an_id_that_its_owner_has_used_is_taken():
    async with rest_server(allow_set_conversation_id=True) as rest:
        await rest.create(conversation_id="mine", initial_user_msg="one")

        for headers in ({}, {"idempotency-key": "k"}):
            body = {"conversation_id": "mine", "initial_user_msg": "two"}
            answer = await rest.ask("POST", EVERY, json=body, headers=headers)
            assert_refused(answer, 409, "exists")

        assert await user_messages(rest, "mine") == ["one"]


@pytest.mark.parametrize("message", [{}, {"initial_user_msg": "one"}])
async def test_a_retry_with_a_chosen_id_and_the_same_key_is_answered_like_the_first(message):
    async with rest_server(allow_set_conversation_id=True) as rest:
        body = {"conversation_id": "mine", **message}
        answers = [
            await rest.ask("POST", EVERY, json=body, headers={"idempotency-key": key})
            for key in ("k", "k", "other")
        ]

        assert [answer.status_code for answer in answers] == [200, 200, 409]
        assert await user_messages(rest, "mine") == [*message.values()]


async def test_a_chosen_id_must_be_acceptable_and_free():
    async with rest_server(allow_set_conversation_id=True) as rest:
        await rest.keep("theirs", "somebody")

        for unfit in ("../../evil", "task-1", "x" * 101, ""):
            answer = await rest.ask("POST", EVERY, json={"conversation_id": unfit})
            assert_refused(answer, 400, "bad_value", "Conversation ID")
        taken = await rest.ask("POST", EVERY, json={"conversation_id": "theirs"})

        assert_refused(taken, 409, "exists")


async def test_recordings_that_wait_are_bounded_together_and_room_is_there_again_when_one_is_gone():
    async with rest_server(max_concurrent_conversations=1) as rest:
        busy = await rest.create(initial_user_msg="/run sleep 60")
        recording = recording_of(30_000_000)
        waiting = [await rest.create(replay_json=recording) for _ in range(2)]
        before = len(await list_all(rest))

        refused = await rest.ask("POST", EVERY, json={"replay_json": recording})
        assert_refused(refused, 503, "overloaded", "recordings")
        assert len(await list_all(rest)) == before

        for gone in (waiting[0], busy):
            assert (await rest.ask("DELETE", f"{EVERY}/{gone}")).status_code == 200
        await rest.create(replay_json=recording)


CREDENTIAL = "ghp-0123456789"


@pytest.mark.parametrize(
    "body",
    [
        {"repository": f"https://{CREDENTIAL}@github.com/acme/rocket"},
        {"repository": f"HTTPS://x:{CREDENTIAL}@github.com/acme/rocket.git"},
        {"repository": f"ssh://git:{CREDENTIAL}@github.com/acme/rocket"},
        {"repository": f"{CREDENTIAL}@github.com/acme/rocket"},
        {"repository": f"x:{CREDENTIAL}@github.com:acme/rocket"},
        {"repository": f"https://github.com/acme/rocket?private_token={CREDENTIAL}"},
        {"repository": f"https://github.com/acme/rocket#access_token={CREDENTIAL}"},
        {"repository": f"//x:{CREDENTIAL}@github.com/acme/rocket"},
        {"repository": f"https:\\\\{CREDENTIAL}@github.com/acme/rocket"},
        {"repository": f"https:/x:{CREDENTIAL}@github.com/acme/rocket"},
        {"repository": f"https%3A%2F%2F{CREDENTIAL}%40github.com%2Facme%2Frocket"},
        {"selected_branch": f"https://{CREDENTIAL}@github.com/acme"},
        {"suggested_task": TASK | {"repo": f"https://{CREDENTIAL}@github.com/acme/rocket"}},
        {"suggested_task": TASK | {"title": f"clone https://{CREDENTIAL}@github.com/acme/rocket"}},
        {"create_microagent": {"repo": f"https://{CREDENTIAL}@github.com/acme/rocket"}},
    ],
)
async def test_an_address_with_a_token_is_refused_and_not_quoted(rest, body):
    answer = await rest.ask("POST", EVERY, json=body)

    assert_refused(answer, 422, "invalid_body", "must not contain a token")
    assert CREDENTIAL not in answer.text
    assert await list_all(rest) == []


@pytest.mark.parametrize(
    "repository",
    [
        *("acme/rocket", "https://github.com/acme/rocket.git", "git@github.com:acme/rocket.git"),
        *("ssh://git@github.com/acme/rocket", "@scope/name", "https://github.com/a?tab=readme"),
    ],
)
async def test_an_address_without_a_token_is_kept(rest, repository):
    conversation_id = await rest.create(repository=repository)

    info = (await rest.ask("GET", f"{EVERY}/{conversation_id}")).json()
    assert info["selected_repository"] == repository


async def test_a_secret_in_what_is_listed_of_a_conversation_is_masked(rest):
    await rest.ask("POST", "/api/secrets", json={"name": "A", "value": CREDENTIAL})
    task = TASK | {"repo": f"acme/{CREDENTIAL}"}

    await rest.create(repository=f"acme/{CREDENTIAL}", selected_branch=f"b-{CREDENTIAL}")
    await rest.create(suggested_task=task)

    listed = await list_all(rest)
    assert {info["selected_repository"] for info in listed} == {f"acme/{MASK}"}
    assert {info["selected_branch"] for info in listed} == {f"b-{MASK}", None}
    assert CREDENTIAL not in json.dumps(listed)


async def test_an_own_export_above_the_limit_of_messages_is_a_recording_again(rest):
    first = await rest.create(initial_user_msg="/big 1500000\n/big 1500000\n/finish a\n/run pwd")
    await rest.wait_for(first, lambda event: event.get("action") == "finish")
    await rest.ask("POST", f"{EVERY}/{first}/message", json={"message": "/run echo b"})
    await rest.wait_for(first, lambda event: event.get("observation") == "run")
    recording = (await rest.ask("GET", f"{EVERY}/{first}/trajectory")).text
    assert len(recording) > 4 * 1024 * 1024

    second = await rest.create(replay_json=recording)
    await rest.wait_for(second, lambda event: event.get("observation") == "run")

    events = await rest.ask("GET", f"{EVERY}/{second}/events?source=agent&include_kinds=message")
    assert [len(event["message"]) for event in events.json()["events"]][:2] == [1_500_000] * 2


class Counted:
    """A store, or the stores of all users, that notes each read of one record, log or user."""

    READS = frozenset({"load", "exists", "get_metadata", "head"})

    def __init__(self, inner, reads, loads=None):
        self._inner = inner
        self._reads = reads
        self._loads = loads

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if name == "for_user":
            return lambda user_id: Counted(found(user_id), self._reads, self._loads)
        if name not in self.READS:
            return found

        def read(*arguments):
            self._reads.append(self._loads or name)
            return found(*arguments)

        return read


def counted(inner, reads, loads=None):
    """Return such a store in the place of any contract."""
    return Counted(inner, reads, loads)


async def test_creating_a_conversation_reads_the_stores_four_times_and_starting_its_loop_twice():
    config = ServerConfig(storage_kind="memory")
    records, kept = MemoryConversations(), memory_user_stores()
    reads: list[str] = []
    users = load_components(config).users(
        config, counted(kept.settings, reads, "settings"), counted(kept.secrets, reads, "secrets")
    )
    log = counted(MemoryEventStore(records.fold), reads)
    rest_of_all = kept_in_memory(records)
    async with (
        compose(config, counted(records, reads), log, users, rest_of_all) as application,
        AsyncClient(
            transport=ASGITransport(application.asgi), base_url="http://localhost:3000"
        ) as client,
    ):
        answer = await client.post(EVERY, json={"initial_user_msg": "hello"})
        assert answer.json()["status"] == "ok"
        await until(lambda: at_rest(application))

    by_request = ["settings", "secrets", "exists", "head"]
    by_loop = ["settings", "get_metadata"]
    assert sorted(reads) == sorted(by_request + by_loop)


async def at_rest(application):
    infos = await application.manager.every_agent_loop()
    return [one for one in infos if one.status == "RUNNING" and not one.working]
