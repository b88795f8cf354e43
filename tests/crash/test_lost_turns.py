"""No turn is lost: what a kill, a stop of the server or a closed loop cuts short is begun again, or told."""

import asyncio
import os
import signal

import pytest

from events.event import AgentState
from tests.support.clients import joined, message
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import server_process
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60)

PLACES = [("sqlite", "hang"), ("sqlite", "run"), ("local", "slow")]
"""Storages, and what the agent is at when its server is killed."""
MODULE = "tests.support.turn_agents"
LOST = "AGENT_ERROR$TURN_LOST"
AWAITING = AgentState.AWAITING_USER_INPUT


def with_agent(name, **settings):
    """The environment of a server with an agent of these tests."""
    changed = {f"PARLEY_{key.upper()}": str(value) for key, value in settings.items()}
    return {"PARLEY_AGENT_CLASS": f"{MODULE}:{name}", **changed}


def kind(payload):
    """The kind of an event's payload."""
    return payload.get("action") or payload.get("observation")


def recalls_of(log):
    """The marks of messages that were taken up."""
    return [one for one in log if one.get("action") == "recall"]


def of_agent(log):
    """The texts of the agent's messages."""
    found = [one for one in log if kind(one) == "message" and one["source"] == "agent"]
    return [one["args"]["content"] for one in found]


def errors(log):
    """The errors of the environment: their id's word and what they answer."""
    return [
        (one["extras"]["error_id"], one.get("cause"))
        for one in log
        if kind(one) == "error" and one["source"] == "environment"
    ]


async def runs(client, after=-1):
    """Wait until the agent is at work."""
    return await client.state(AgentState.RUNNING, after=after)


async def open_again(server, api, created):
    """Join a conversation, wait until its agent rests, and return its log."""
    async with joined(server.url, created) as client:
        last = client.cursor
        await client.until(
            lambda me: any(
                one.get("observation") == "agent_state_changed"
                and one["extras"]["agent_state"] == AWAITING
                and one["id"] > last
                for one in me.events
            ),
            seconds=10,
        )
    return await api.log(created)


@pytest.mark.parametrize(("storage", "text"), PLACES)
async def test_a_killed_turn_is_told_as_lost_and_the_next_message_is_answered(
    tmp_path, storage, text
):
    environment = with_agent("Answering")
    async with (
        server_process(tmp_path, "--storage", storage, environment=environment) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            said = await client.say(text)
            await runs(client, first["id"])
            if text == "run":
                await client.event(lambda payload: payload.get("action") == "run")
            await server.kill()
        await server.start()
        async with joined(server.url, created) as client:
            told = await client.event(
                lambda one: one.get("cause") == said["id"] and kind(one) == "error"
            )
            await client.state(AWAITING, after=told["id"])
            again = await client.say("and now")
            await client.state(AWAITING, after=again["id"])
            await client.event(
                lambda one: (
                    "and now" in str(one.get("args", {}).get("content"))
                    and one["source"] == "agent"
                )
            )
        log = await api.log(created)

    assert errors(log) == [(LOST, said["id"])]
    assert of_agent(log)[-1] == f"Heard ['{text}', 'and now'], attempt 1"
    ended = [one["extras"]["outcome"] for one in log if kind(one) == "turn_ended"]
    assert ended == ["crashed", "done"]
    assert again["id"] > said["id"]


@pytest.mark.parametrize(("storage", "text"), PLACES)
async def test_a_killed_turn_of_an_agent_that_resumes_is_begun_again(tmp_path, storage, text):
    environment = with_agent("Resuming")
    async with (
        server_process(tmp_path, "--storage", storage, environment=environment) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            said = await client.say(text)
            await runs(client, first["id"])
            await server.kill()
        await server.start()
        log = await open_again(server, api, created)

    recalls = [one for one in log if one.get("action") == "recall" and one["cause"] == said["id"]]
    assert of_agent(log)[-1] == f"Answered {text!r} at attempt 2"
    assert len(recalls) == 2
    assert errors(log) == []


async def test_a_turn_that_kills_its_server_is_begun_so_many_times_and_then_told(tmp_path):
    environment = with_agent("Resuming", turn_tries=3)
    async with (
        server_process(tmp_path, environment=environment) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        said = await api.post(created, message("hang for ever"))
        for tries in range(1, 4):
            async with joined(server.url, created) as client:
                await client.until(lambda me: len(recalls_of(me.events)) == tries, seconds=10)  # noqa: B023 - awaited here
                await server.kill()
            await server.start()
        log = await open_again(server, api, created)

    assert [one["cause"] for one in recalls_of(log)] == [said["id"]] * 3
    assert errors(log) == [(LOST, said["id"])]


async def test_a_stop_of_the_server_lets_a_turn_end_by_itself(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with (
        server_process(tmp_path / "data", environment=with_agent("Blocking")) as server,
        remote(server.url) as api,
    ):
        created = await api.create()

        async def draining():
            return (await api.client.get("/ready")).status_code == 503

        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            await client.say(f"read {pipe}")
            await runs(client, first["id"])
            stopping = asyncio.create_task(server.stop())
            await until(draining)
            await asyncio.to_thread(pipe.write_text, "Read", "utf-8")
            code = await stopping
        await server.start()
        log = await api.log(created)

    assert code == 0
    assert of_agent(log) == ["Read"]
    assert [one["extras"]["outcome"] for one in log if kind(one) == "turn_ended"] == ["done"]


@pytest.mark.parametrize(
    ("name", "number"), [("Answering", signal.SIGINT), ("Resuming", signal.SIGTERM)]
)
async def test_a_turn_that_does_not_end_in_time_is_sealed_and_told_or_begun_again(
    tmp_path, name, number
):
    environment = with_agent(name, shutdown_seconds=2)
    async with (
        server_process(tmp_path, environment=environment) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            said = await client.say("slow")
            await runs(client, first["id"])
            code = await server.stop(number)
        await server.start()
        log = await api.log(created)
        after = await open_again(server, api, created)

    ended = [one["extras"] for one in log if kind(one) == "turn_ended"]
    assert code == 0
    assert [one["outcome"] for one in ended] == ["interrupted"]
    assert of_agent(log) == ["A long answer begins"]
    if name == "Answering":
        assert errors(after) == [(LOST, said["id"])]
        assert len(of_agent(after)) == 1
    else:
        assert errors(after) == []
        assert of_agent(after)[-1] == "Answered 'slow' at attempt 2"


async def test_a_stop_that_a_user_asks_for_begins_nothing_again(tmp_path):
    environment = with_agent("Resuming")
    async with (
        server_process(tmp_path, environment=environment) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            await client.say("hang")
            await runs(client, first["id"])
            await api.client.post(f"{CONVERSATIONS}/{created}/stop")
            await client.state(AgentState.STOPPED)
        log = await open_again(server, api, created)

    assert [one["extras"]["outcome"] for one in log if kind(one) == "turn_ended"] == ["stopped"]
    assert of_agent(log) == []
    assert errors(log) == []


async def test_a_message_that_comes_while_a_turn_is_cut_short_is_answered_after_it(tmp_path):
    environment = with_agent("Resuming")
    async with (
        server_process(tmp_path, environment=environment) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            await client.say("hang")
            await runs(client, first["id"])
            await client.say("second")
            await server.kill()
        await server.start()
        async with joined(server.url, created) as client:
            await client.event(
                lambda one: (
                    one["source"] == "agent" and "Heard" in str(one.get("args", {}).get("content"))
                )
            )
        log = await api.log(created)

    assert of_agent(log) == ["Answered 'hang' at attempt 2", "Heard ['hang', 'second'], attempt 1"]
