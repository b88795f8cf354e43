"""The LLM agent in a server: what its model is asked, what people see, and what a stop or a kill leaves."""

import asyncio
from functools import partial

import pytest
from pydantic import SecretStr

import runtime_stub.llm  # noqa: F401 - takes seconds, which no test should be charged with
from events.event import AgentState
from runtime_stub.turn import AgentSettings
from server.conversations.users import agent_settings
from storage.users.settings import Settings
from tests.support.asking import KEY, asked, asking_server
from tests.support.clients import joined
from tests.support.live import live_server
from tests.support.model_endpoint import (
    PLANTED,
    calls,
    hang,
    no_model,
    plain,
    refused,
)
from tests.support.model_wires import Told
from tests.support.payloads import answers, outcomes
from tests.support.remote import remote
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

AWAITING = AgentState.AWAITING_USER_INPUT


@pytest.fixture
async def live(model):
    async with asking_server("llm", model) as opened:
        yield opened


async def test_the_model_of_the_users_settings_is_asked_with_their_key_and_nothing_else(
    live, model
):
    model.say(plain("Good morning."), plain("Noon, I think."))
    log = await asked(live, "Hello", "What time is it?")
    request = await model.request(1)

    assert answers(log) == ["Good morning.", "Noon, I think."]
    assert request.said[1:] == [
        ("user", "Hello"),
        ("assistant", "Good morning."),
        ("user", "What time is it?"),
    ]
    assert request.body["model"] == "gpt-x"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"].startswith("parley/")
    assert not [name for name in request.headers if name.startswith("x-")]


async def test_the_model_is_told_the_users_language(live, model):
    await live.users.change_settings(None, lambda old: old.merged(Settings(language="fr")))
    model.say(plain("Bonjour."))
    await asked(live, "Hello")
    request = await model.request(0)

    assert "language is fr" in request.said[0][1]


async def test_without_a_model_the_agent_says_how_to_set_one():
    async with live_server(agent_class="llm") as live:
        (said,) = answers(await asked(live, "Hello"))

    assert said.startswith("No model is set. Open the settings")


async def test_a_model_that_needs_a_key_is_not_asked_without_one(live):
    await live.users.change_settings(None, lambda old: Settings(llm_model="openai/gpt-x"))
    (said,) = answers(await asked(live, "Hello"))

    assert said == "There is no API key for openai/gpt-x. Enter it in the settings (Ctrl ,)."


async def test_calls_are_carried_out_in_the_workspace_and_told_to_the_model(live, model):
    model.say(
        calls(("write", '{"path": "a.txt", "content": "one\\n"}'), text="I write it."),
        calls(("read", '{"path": "a.txt"}')),
        plain("It says one."),
    )
    log = await asked(live, "Write and read it.")
    last = await model.request(2)

    assert answers(log) == ["I write it.", "It says one."]
    called = [one for one in log if one.get("action") in ("write", "read")]
    assert [("partial" in one, one["tool_call_metadata"]["function_name"]) for one in called] == [
        (True, "write"),
        (False, "read"),
    ]
    roles = [one["role"] for one in last.messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert last.messages[2]["content"] == "I write it."
    assert last.messages[2]["tool_calls"][0]["function"]["name"] == "write"
    assert "one" in last.messages[5]["content"]
    assert {tool["function"]["name"] for tool in last.body["tools"]} >= {"run", "read", "write"}


async def test_pictures_are_sent_to_a_model_that_sees_and_named_to_one_that_does_not(model):
    picture = "data:image/png;base64,iVBORw0KGgo="
    told = []
    for sees in (True, False):
        async with live_server(
            agent_class="llm", llm_vision=sees, llm_model="gpt-x", llm_base_url=model.url
        ) as live:
            one = await live.new()
            async with joined(live.url, one) as client:
                await client.state(AWAITING)
                message = {"content": "What is it?", "image_urls": [picture]}
                said = await client.send({"action": "message", "args": message})
                await client.state(AWAITING, after=said["id"])
        told.append(model.requests[-1].messages[-1]["content"])

    seen, unseen = told
    assert [one["type"] for one in seen] == ["text", "image_url"]
    assert seen[1]["image_url"]["url"] == picture
    assert unseen == "What is it?\n[picture]"


async def test_a_conversation_that_fills_the_context_is_summarised_once_and_goes_on(model):
    def otherwise():
        async def answer(reply):
            is_summary = "Summarise the conversation" in reply.request.said[-1][1]
            text = "In short: greetings." if is_summary else "word-" * 1600
            await plain(text, usage=False)(reply)

        return answer

    model.otherwise = otherwise()
    chosen = {"llm_model": "gpt-x", "llm_base_url": model.url}
    async with live_server(
        agent_class="llm", llm_context_tokens=8000, llm_reserve_tokens=1000, **chosen
    ) as live:
        log = await asked(live, *("Go on. " * 60 for _ in range(6)))

    condensed = [one for one in log if one.get("action") == "condensation"]
    summaries = [one for one in model.requests if "Summarise" in one.said[-1][1]]
    assert condensed
    assert len(summaries) == len(condensed)
    assert "In short: greetings." in model.requests[-1].said[1][1]
    assert all(sum(len(text) for _, text in one.said) < 8000 * 3.5 for one in model.requests)


async def test_a_message_that_comes_while_the_agent_works_is_told_at_its_next_step(live, model):
    release = asyncio.Event()
    model.say(slow_calls(release, ("run", '{"command": "echo one"}')), plain("Both done."))
    one = await live.new()
    async with joined(live.url, one) as client:
        await client.set_to_work("Do one.")
        await model.request(0)
        said = await client.say("And two.")
        release.set()
        await client.state(AWAITING, after=said["id"])
    second = await model.request(1)

    assert [one["role"] for one in second.messages] == [
        *("system", "user", "assistant", "tool", "user"),
    ]
    assert second.said[-1] == ("user", "And two.")
    assert len(model.requests) == 2


async def test_a_message_that_comes_while_the_agent_works_is_told_once_also_where_a_summary_is_made(
    model,
):
    release = asyncio.Event()
    commands = [f"echo {number}{'long ' * 300}" for number in range(5)]
    steps = [commands[:3], *([one] for one in commands[3:])]

    async def otherwise(reply):
        if "Summarise the conversation" in reply.request.said[-1][1]:
            await plain("In short: echoes.", usage=False)(reply)
        elif steps:
            await asyncio.wait_for(release.wait(), WAIT_SECONDS)
            made = [("run", f'{{"command": "{one}"}}') for one in steps.pop(0)]
            await calls(*made, usage=False)(reply)
        else:
            await plain("Done.", usage=False)(reply)

    model.otherwise = otherwise
    chosen = {"llm_context_tokens": 6000, "llm_reserve_tokens": 500}
    async with asking_server("llm", model, **chosen) as live, remote(live.url) as api:
        one = await live.new()
        async with joined(live.url, one) as client:
            await client.set_to_work("Do one.")
            await model.request(0)
            said = await client.say("And two.")
            release.set()
            await client.state(AWAITING, after=said["id"])
            within = model.requests[-1].told
            said = await client.say("Go on.")
            await client.state(AWAITING, after=said["id"])
        log = await api.log(one)

    summed = [one for one in model.requests if "Summarise" in one.said[-1][1]]
    assert [one.get("action") for one in log].count("condensation") == 1
    assert len(summed) == 1
    assert "And two." in str([one for one in within if one.who == "user"])
    assert model.requests[-1].told == [
        *within,
        Told("assistant", "Done."),
        Told("user", "Go on."),
    ]


async def test_very_many_calls_at_once_leave_room_for_what_is_said_with_them(live, model):
    async def answer(reply):
        await reply.head()
        for place in range(20):
            arguments = f'{{"path": "{place}.txt", "content": "one"}}'
            await reply.frames(reply.wire.call(place, "write", arguments))
        await reply.thought("That is all.")
        await reply.text("I write them.")
        await reply.end("tool_calls")

    model.say(answer, plain("Done."))
    log = await asked(live, "Write them.")

    assert answers(log) == ["I write them.", "Done."]
    assert [one.get("action") for one in log].count("write") == 20


def slow_calls(release, *called):
    """Call tools once `release` is set."""

    async def answer(reply):
        await asyncio.wait_for(release.wait(), 20)
        await calls(*called)(reply)

    return answer


def settings_with(user, **server):
    """The settings of a user that an agent is told on a server with these."""
    key = server.pop("key", None)
    chosen = AgentSettings(llm_api_key=None if key is None else SecretStr(key), **server)
    found = agent_settings(Settings(**user), chosen)
    held = found.llm_api_key
    return found.llm_model, found.llm_base_url, None if held is None else held.get_secret_value()


@pytest.mark.parametrize(
    ("user", "server", "expected"),
    [
        ({}, {}, (None, None, None)),
        ({}, {"llm_model": "m", "key": "S"}, ("m", None, "S")),
        ({"llm_model": "n"}, {"llm_model": "m", "key": "S"}, ("n", None, "S")),
        ({"llm_model": "groq/n"}, {"llm_model": "m", "key": "S"}, ("groq/n", None, None)),
        ({"llm_model": "a:n"}, {"llm_model": "a:m", "key": "S"}, ("a:n", None, "S")),
        ({"llm_model": "claude-n"}, {"llm_model": "gpt-m", "key": "S"}, ("claude-n", None, None)),
        ({"llm_model": "gemini-n"}, {"llm_model": "gpt-m", "key": "S"}, ("gemini-n", None, None)),
        ({"llm_model": "gpt-n"}, {"llm_model": "claude-m", "key": "S"}, ("gpt-n", None, None)),
        ({"llm_model": "claude-n"}, {"llm_model": "claude-m", "key": "S"}, ("claude-n", None, "S")),
        (
            {"llm_model": "claude-n"},
            {"llm_model": "anthropic:claude-m", "key": "S"},
            ("claude-n", None, "S"),
        ),
        (
            {"llm_base_url": "http://x"},
            {"llm_model": "m", "llm_base_url": "http://s", "key": "S"},
            ("m", "http://x", None),
        ),
        (
            {"llm_model": "groq/n"},
            {"llm_model": "m", "llm_base_url": "http://s", "key": "S"},
            ("groq/n", "http://s", "S"),
        ),
        (
            {"llm_api_key": "U"},
            {"llm_model": "m", "llm_base_url": "http://s", "key": "S"},
            ("m", "http://s", "U"),
        ),
    ],
)
def test_the_servers_key_goes_to_no_address_or_provider_that_a_user_has_chosen(
    user, server, expected
):
    assert settings_with(user, **server) == expected


async def test_a_key_of_the_server_is_masked_in_what_a_model_says(model):
    key = "sk-of-the-server-1234567890"
    model.say(plain(f"The key is {key}."))
    async with live_server(
        agent_class="llm", llm_model="gpt-x", llm_base_url=model.url, llm_api_key=key
    ) as live:
        log = await asked(live, "Which key do you have?")

    assert answers(log) == ["The key is <secret_hidden>."]
    assert model.requests[0].headers["authorization"] == f"Bearer {key}"


async def test_a_key_that_was_pasted_with_blanks_is_used_and_masked_without_them(live, model):
    pasted = Settings(llm_api_key=SecretStr(f" {KEY}\n"))
    await live.users.change_settings(None, lambda old: old.merged(pasted))
    model.say(plain(f"The key is {KEY}."))
    log = await asked(live, "Which key do you have?")

    assert answers(log) == ["The key is <secret_hidden>."]
    assert model.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def tried(live, **trial):
    async with remote(live.url) as api:
        answer = await api.client.post("/api/settings/try-model", json=trial)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_a_model_is_tried_with_settings_that_are_not_stored(live, model):
    other = "sk-another-key-123123"
    found = await tried(live, llm_model="gpt-y", llm_api_key=other)
    request = await model.request(0)

    assert found["works"] is True
    assert found["message"].startswith("gpt-y answered after ")
    assert request.body["model"] == "gpt-y"
    assert request.headers["authorization"] == f"Bearer {other}"
    stored = await live.users.settings(None)
    assert stored.llm_model == "gpt-x"
    assert stored.llm_api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refused(401), "AGENT_ERROR$MODEL_REFUSED_KEY"),
        (refused(404), "AGENT_ERROR$MODEL_FAILED"),
        (refused(429), "AGENT_ERROR$MODEL_BUSY"),
        (no_model(), "AGENT_ERROR$MODEL_FAILED"),
    ],
)
async def test_a_trial_that_fails_says_why_and_quotes_nothing(live, model, answer, reason):
    model.say(answer)
    found = await tried(live)

    assert (found["works"], found["reason"]) == (False, reason)
    assert PLANTED not in found["message"]
    assert KEY not in found["message"]


async def test_a_trial_of_an_address_where_nobody_listens_says_so(live, model):
    await model.kill()
    found = await tried(live)
    await model.start()

    assert found["works"] is False
    assert found["reason"] == "AGENT_ERROR$MODEL_UNREACHABLE"


async def test_a_server_whose_agent_asks_no_model_has_nothing_to_try():
    async with live_server() as live:
        found = await tried(live, llm_model="gpt-x")

    assert found["works"] is False
    assert "--agent llm" in found["message"]


def says(text, payload):
    """Whether an event is a message of that text."""
    return payload.get("action") == "message" and payload["args"]["content"] == text


async def test_a_turn_that_a_kill_cut_short_is_begun_again_and_answered(tmp_path, model):
    model.say(hang(3), plain("At last."))
    async with (
        server_process(tmp_path, "--agent", "llm") as server,
        remote(server.url) as api,
    ):
        chosen = {"llm_base_url": model.url, "llm_model": "gpt-x"}
        await api.client.post("/api/settings", json=chosen)
        created = await api.create("Hello")
        await model.request(0)
        await server.kill()
        await server.start()
        async with joined(server.url, created) as client:
            await client.event(partial(says, "At last."))
        log = await api.log(created)
    again = await model.request(1)

    assert [one for one in again.said if one == ("user", "Hello")] == [("user", "Hello")]
    assert again.said[-1][0] == "user"
    assert outcomes(log)[0] == "crashed"
