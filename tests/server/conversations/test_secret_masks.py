"""Secrets in running conversations: given to commands, masked in everything that is stored."""

import asyncio
import weakref

import pytest
from pydantic import SecretStr

from events.redaction import MASK
from server.conversations.users import Users
from storage.errors import OutcomeUnknown
from storage.users.secrets import CustomSecret, Secrets
from storage.users.settings import Settings
from tests.support.faulty_users import GatedSecrets
from tests.support.live import live_server
from tests.support.rest import EVERY, assert_refused
from tests.support.user_backends import memory_user_stores
from tests.support.waiting import WAIT_SECONDS

VALUE = "planted value 7341"


async def add(rest, name="TOKEN", value=VALUE):
    answer = await rest.ask("POST", "/api/secrets", json={"name": name, "value": value})
    assert answer.status_code == 201, answer.text


async def say(rest, conversation_id, text):
    answer = await rest.ask("POST", f"{EVERY}/{conversation_id}/message", json={"message": text})
    assert answer.status_code == 200, answer.text


async def output(rest, conversation_id, command):
    """Return the output of a command of the agent; its comment makes it unique."""
    await say(rest, conversation_id, f"/run {command}")
    told = await rest.wait_for(
        conversation_id,
        lambda event: event.get("observation") == "run" and event["extras"]["command"] == command,
    )
    return told["content"]


async def log_of(rest, conversation_id):
    stored = await rest.events.read(conversation_id, 0, 2**31)
    return b"".join(event.body for event in stored).decode()


async def test_a_command_gets_the_secret_and_the_log_a_mask(rest):
    await add(rest)
    conversation_id = await rest.create()

    shown = await output(rest, conversation_id, 'echo "<$TOKEN>"')
    await output(rest, conversation_id, "echo $TOKEN > kept.txt")

    assert shown == f"<{MASK}>"
    assert VALUE not in await log_of(rest, conversation_id)
    async with rest.application.manager.attach(conversation_id, None) as conversation:
        assert await conversation.loop.runtime.read_file("kept.txt") == f"{VALUE}\n".encode()


async def test_a_secret_that_comes_late_is_given_and_masked_in_every_running_conversation(rest):
    first, second = await rest.create(), await rest.create()
    for conversation_id in (first, second):
        assert await output(rest, conversation_id, "echo [$TOKEN]") == "[]"

    await add(rest)

    for conversation_id in (first, second):
        assert await output(rest, conversation_id, "echo [$TOKEN] now") == f"[{MASK}] now"
        await say(rest, conversation_id, f"my key is {VALUE}, base line")
        assert VALUE not in await log_of(rest, conversation_id)


async def test_keys_in_settings_and_tokens_of_git_hosts_are_masked_too(rest):
    conversation_id = await rest.create()
    tools = {
        "sse_servers": [{"url": "https://t.example", "api_key": "sse-secret-1"}],
        "stdio_servers": [{"name": "t", "command": "c", "env": {"KEY": "env-secret-2"}}],
    }
    settings = {"llm_api_key": "llm-secret-3", "search_api_key": "search-4", "mcp_config": tools}
    tokens = {"provider_tokens": {"github": {"token": "ghp-secret-5"}}}
    await rest.ask("POST", "/api/settings", json=settings)
    await rest.ask("POST", "/api/add-git-providers", json=tokens)

    said = "llm-secret-3 search-4 sse-secret-1 env-secret-2 ghp-secret-5"
    await say(rest, conversation_id, said)

    log = await log_of(rest, conversation_id)
    assert " ".join([MASK] * 5) in log
    assert not any(secret in log for secret in said.split())
    assert await output(rest, conversation_id, "echo [$GITHUB_TOKEN]") == f"[{MASK}]"


async def test_commands_find_who_commits_as_the_settings_say_it(rest):
    conversation_id = await rest.create()
    name = "echo $GIT_AUTHOR_NAME, $GIT_COMMITTER_EMAIL."
    assert await output(rest, conversation_id, name) == ", ."

    chosen = {"git_user_name": "Ada L", "git_user_email": "ada@example.org"}
    await rest.ask("POST", "/api/settings", json=chosen)
    assert await output(rest, conversation_id, name + " now") == "Ada L, ada@example.org. now"
    await rest.ask("POST", "/api/secrets", json={"name": "GIT_AUTHOR_NAME", "value": VALUE})
    assert await output(rest, conversation_id, name + " kept") == f"{MASK}, ada@example.org. kept"
    await rest.ask("DELETE", "/api/secrets/GIT_AUTHOR_NAME")
    await rest.ask("POST", "/api/settings", json={"git_user_email": None})

    assert await output(rest, conversation_id, name + " left") == "Ada L, . left"


async def test_a_name_of_who_commits_that_no_variable_can_have_is_left_out(rest):
    await rest.ask("POST", "/api/settings", json={"git_user_name": "Ada\0L"})

    assert await output(rest, await rest.create(), "echo [$GIT_AUTHOR_NAME]") == "[]"


async def test_a_deleted_secret_is_taken_from_commands_and_stays_masked(rest):
    await add(rest)
    conversation_id = await rest.create()
    assert await output(rest, conversation_id, "echo [$TOKEN]") == f"[{MASK}]"

    await rest.ask("DELETE", "/api/secrets/TOKEN")

    assert await output(rest, conversation_id, "echo [$TOKEN] gone") == "[] gone"
    await say(rest, conversation_id, f"it was {VALUE}")
    assert VALUE not in await log_of(rest, conversation_id)


async def test_d34_a_value_that_is_replaced_leaves_the_old_one_masked(rest):
    await add(rest)
    conversation_id = await rest.create()
    await rest.ask("DELETE", "/api/secrets/TOKEN")
    await add(rest, value="another value 9")

    await say(rest, conversation_id, f"{VALUE} and another value 9")

    assert f"{MASK} and {MASK}" in await log_of(rest, conversation_id)


async def test_a_title_holds_no_secret(rest):
    await add(rest)
    await rest.keep("closed", None)
    opened = await rest.create()

    for conversation_id in ("closed", opened):
        await rest.ask("PATCH", f"{EVERY}/{conversation_id}", json={"title": f"It is {VALUE}"})

    for conversation_id in ("closed", opened):
        info = (await rest.ask("GET", f"{EVERY}/{conversation_id}")).json()
        assert info["title"] == f"It is {MASK}"


async def test_a_secret_is_nothing_to_other_users(rest):
    theirs = Secrets(custom_secrets={"TOKEN": CustomSecret(value=SecretStr("their value 55"))})
    await rest.secrets.for_user("ann").store(theirs)
    await rest.keep("hers", "ann")
    mine = await rest.create()
    await add(rest)

    assert await output(rest, mine, "echo $TOKEN their value 55") == f"{MASK} their value 55"
    async with rest.application.manager.attach("hers", "ann") as hers:
        await hers.say(f"{VALUE}, their value 55", None, None)
    log = await log_of(rest, "hers")
    assert VALUE in log
    assert "their value 55" not in log


async def test_a_secret_whose_storing_has_an_unknown_outcome_is_masked_when_it_is_there():
    secrets = GatedSecrets()
    users = records(secrets)
    listener = Listener()
    await users.enter(listener)
    secrets.unknown = True

    with pytest.raises(OutcomeUnknown):
        await users.change_secrets(None, adding("A", "value"))

    assert listener.environment == {"A": "value"}
    assert list(listener.masks.values()) == ["value"]


class Listener:
    """The masks and variables that a conversation was told."""

    def __init__(self, user_id: str | None = None) -> None:
        self.user_id = user_id
        self.masks: dict[str, str] = {}
        self.environment: dict[str, str] | None = None

    def learn(self, masks, environment) -> None:
        self.masks.update(masks)
        if environment is not None:
            self.environment = dict(environment)


def records(secrets) -> Users:
    return Users(memory_user_stores().settings, secrets, require_settings=False, model=None)


def adding(name, value):
    secret = CustomSecret(value=SecretStr(value))
    return lambda secrets: secrets.added(name, secret)


async def test_a_secret_added_while_a_conversation_is_being_opened_is_not_missed():
    secrets = GatedSecrets()
    users = records(secrets)
    listener = Listener()
    secrets.gate.clear()
    entering = asyncio.create_task(users.enter(listener))
    async with asyncio.timeout(WAIT_SECONDS):
        await secrets.waiting.wait()

    await users.change_secrets(None, adding("LATE", "late value"))

    assert listener.environment == {"LATE": "late value"}
    secrets.gate.set()
    await entering
    assert listener.environment == {"LATE": "late value"}
    assert list(listener.masks.values()) == ["late value"]


async def test_a_change_whose_caller_goes_away_is_told_all_the_same():
    secrets = GatedSecrets()
    users = records(secrets)
    listener = Listener()
    await users.enter(listener)

    changing = asyncio.create_task(users.change_secrets(None, adding("A", "value")))
    await asyncio.sleep(0)
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    await users.change_secrets(None, adding("B", "value"))

    assert listener.environment == {"A": "value", "B": "value"}


async def test_later_conversations_are_told_without_a_read_and_the_first_after_all_have_left_reads():
    secrets = GatedSecrets()
    users = records(secrets)
    first, second, last = Listener(), Listener(), Listener()
    await users.change_secrets(None, adding("A", "value"))
    await users.enter(first)
    await users.change_secrets(None, adding("B", "later"))
    await users.change_settings(None, lambda _: Settings(llm_api_key=SecretStr("llm key")))
    reads = secrets.reads

    await users.enter(second)

    assert secrets.reads == reads
    assert second.environment == {"A": "value", "B": "later"}
    assert sorted(second.masks.values()) == ["later", "llm key", "value"]
    users.leave(first)
    users.leave(second)
    await users.enter(last)
    assert secrets.reads == reads + 1
    assert (last.masks, last.environment) == (second.masks, second.environment)


async def test_whoever_has_left_is_told_nothing_more():
    users = records(GatedSecrets())
    gone, there, other = Listener(), Listener(), Listener("ann")
    for listener in (gone, there, other):
        await users.enter(listener)

    users.leave(gone)
    users.leave(gone)
    await users.change_secrets(None, adding("A", "value"))
    await users.change_settings(None, lambda _: Settings(llm_api_key=SecretStr("llm key")))

    assert gone.masks == {}
    assert other.masks == {}
    assert sorted(there.masks.values()) == ["llm key", "value"]
    assert there.environment == {"A": "value"}


async def test_all_values_of_a_user_together_have_a_limit_that_is_told(rest):
    for number in range(16):
        await add(rest, f"S{number}", f"{number:02}" + "x" * 65_534)

    body = {"name": "MORE", "value": "one more value"}
    answer = await rest.ask("POST", "/api/secrets", json=body)

    assert_refused(answer, 400, "bad_value", "together would have 1,048,590 characters")
    await rest.ask("DELETE", "/api/secrets/S0")
    await add(rest, "MORE", "one more value")


async def test_many_long_values_are_masked_at_once_in_every_open_conversation(rest):
    first, second = await rest.create(), await rest.create()
    values = [f"{number} " + "line of plain words\n" * 3000 for number in range(12)]
    for number, value in enumerate(values):
        await add(rest, f"S{number}", value)

    for conversation_id in (first, second):
        await say(rest, conversation_id, f"<{values[3]}{values[11]}> line of plain words")
        log = await log_of(rest, conversation_id)
        assert f"<{MASK}> line of plain words" in log
    redactors = []
    for conversation_id in (first, second):
        async with rest.application.manager.attach(conversation_id, None) as conversation:
            redactors.append(conversation.stream._redactor)
    assert redactors[0]._told[0] is redactors[1]._told[0]


async def test_a_masked_failure_is_shown_to_those_who_watch():
    async with live_server() as live:
        secret = SecretStr(VALUE)
        await live.users.change_secrets(
            None, lambda old: old.added("A", CustomSecret(value=secret))
        )
        one = await live.new()
        async with live.joined(one) as client:
            await client.say(f"/error {VALUE} and half of it: {VALUE[:-1]}")
            await client.state("error")
            await client.say(f"{VALUE} {'x' * 12_000}")
            await client.event(lambda told: "characters" in str(told.get("message")))
        assert VALUE not in str(client.payloads)
        assert f"{MASK} and half" in str(client.payloads)


async def test_a_value_in_the_description_of_a_secret_is_masked_where_it_is_listed(rest):
    body = {"name": "A", "value": VALUE, "description": f"it is {VALUE}"}
    await rest.ask("POST", "/api/secrets", json=body)

    listed = (await rest.ask("GET", "/api/secrets")).json()["custom_secrets"]

    assert listed == [{"name": "A", "description": f"it is {MASK}"}]


async def test_names_of_files_are_masked_where_they_are_listed(rest):
    await add(rest)
    conversation_id = await rest.create()
    name = VALUE.replace(" ", "-")
    await add(rest, "NAME", name)
    await output(rest, conversation_id, "git init .")
    async with rest.application.manager.attach(conversation_id, None) as conversation:
        await conversation.loop.runtime.write_file(f"{name}.txt", b"a\n")
        await conversation.loop.runtime.write_file(".gitignore", f"{name}.tmp".encode())

    for path in ("list-files", "git/changes"):
        answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/{path}")
        assert answer.status_code == 200, answer.text
        assert name not in answer.text
        assert f"{MASK}.txt" in answer.text
    answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/select-file?file={name}.txt")
    assert answer.json() == {"code": "a\n"}


KUBECONFIG = "apiVersion: v1\nkind: Config\nusers:\n- user:\n    token: k8s-aws-v1.0123\n"


async def test_a_file_written_by_a_users_words_is_as_he_wrote_it_beside_secrets_of_many_lines(rest):
    await add(rest, "KUBECONFIG", KUBECONFIG)
    await add(rest, "DOTENV", "NODE_ENV=production\nTOKEN=tr0ub4dor-and-3\n")
    conversation_id = await rest.create()

    await say(
        rest,
        conversation_id,
        "/write cm.yaml kind: ConfigMap, NODE_ENV=production, k8s-aws-v1.0123",
    )
    written = await rest.wait_for(conversation_id, lambda event: event.get("action") == "write")

    shown = f"kind: ConfigMap, NODE_ENV=production, {MASK}"
    assert written["args"]["content"] == shown
    answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/select-file?file=cm.yaml")
    assert answer.json() == {"code": shown.replace(MASK, "k8s-aws-v1.0123")}


async def test_pictures_and_keys_of_clients_are_left_alone(rest):
    await add(rest, "YEAR", "2024")
    conversation_id = await rest.create()
    picture = "data:image/png;base64,AAAA2024AAAA"
    event = {
        "action": "message",
        "args": {"content": "In 2024, not in 20240", "image_urls": [picture]},
        "client_id": "msg-2024-1",
    }

    first = await rest.ask("POST", f"{EVERY}/{conversation_id}/events", json=event)
    again = await rest.ask("POST", f"{EVERY}/{conversation_id}/events", json=event)

    assert first.status_code == again.status_code == 200
    stored = await rest.wait_for(conversation_id, lambda event: event.get("client_id") is not None)
    assert stored["client_id"] == "msg-2024-1"
    assert stored["args"]["image_urls"] == [picture]
    assert stored["message"] == f"In {MASK}, not in 20240"


async def test_the_search_for_many_values_is_compiled_once_though_no_conversation_is_open():
    value = "a long value " * 2000
    users = records(GatedSecrets())
    await users.change_secrets(None, adding("A", value))

    assert (await users.redactor(None)).redact_text(f"<{value}>") == f"<{MASK}>"
    held = weakref.ref((await users.redactor(None))._told[0])

    assert held() is not None
    assert (await users.redactor(None))._told[0] is held()
