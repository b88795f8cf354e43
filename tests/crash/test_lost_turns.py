"""No turn is lost: what a kill, a stop of the server or a closed loop cuts short is begun again, or told."""

import asyncio
import os
import signal

import pytest

from events.event import AgentState
from tests.support.clients import joined, message
from tests.support.payloads import answers, is_answer, kind_of, outcomes, recalls
from tests.support.remote import CONVERSATIONS, process_over
from tests.support.sse import text_begun
from tests.support.turn_agents import Answering, Blocking, Resuming
from tests.support.waiting import until

PLACES = [("sqlite", "hang"), ("sqlite", "run"), ("local", "slow")]
"""Storages, and what the agent is at when its server is killed."""
LOST = "AGENT_ERROR$TURN_LOST"
AWAITING = AgentState.AWAITING_USER_INPUT


def errors(log):
    """The errors of the environment: their id's word and what they answer."""
    return [
        (one["extras"]["error_id"], one.get("cause"))
        for one in log
        if kind_of(one) == "error" and one["source"] == "environment"
    ]


async def open_again(server, api, created, awaited=None):
    """Join a conversation, wait until its agent rests, and return its log.

    It rests behind the event that is awaited, or else behind the log it was closed with.
    """
    last = (await api.log(created))[-1]
    async with joined(server.url, created) as client:
        if awaited is not None:
            last = await client.event(awaited)
        await client.state(AWAITING, after=last["id"])
    return await api.log(created)


def lost(one):
    """Whether an event tells that a turn was lost."""
    return kind_of(one) == "error" and one["extras"]["error_id"] == LOST


def answers_with(text):
    """Whether an event is an answer that has this text in it."""
    return lambda one: is_answer(one) and text in one["args"]["content"]


@pytest.mark.parametrize(("storage", "text"), PLACES)
async def test_a_killed_turn_is_told_as_lost_and_the_next_message_is_answered(
    tmp_path, storage, text
):
    async with process_over(tmp_path, agent_class=Answering, storage=storage) as (server, api):
        created = await api.create()
        async with joined(server.url, created) as client:
            said = await client.set_to_work(text)
            if text == "run":
                await client.event(lambda payload: payload.get("action") == "run")
            await server.kill()
        await server.start()
        async with joined(server.url, created) as client:
            told = await client.event(
                lambda one: one.get("cause") == said["id"] and kind_of(one) == "error"
            )
            await client.state(AWAITING, after=told["id"])
            again = await client.say("and now")
            await client.state(AWAITING, after=again["id"])
            await client.event(answers_with("and now"))
        log = await api.log(created)

    assert errors(log) == [(LOST, said["id"])]
    assert answers(log)[-1] == f"Heard ['{text}', 'and now'], attempt 1"
    assert outcomes(log) == ["crashed", "done"]
    assert again["id"] > said["id"]


@pytest.mark.parametrize(("storage", "text"), PLACES)
async def test_a_killed_turn_of_an_agent_that_resumes_is_begun_again(tmp_path, storage, text):
    async with process_over(tmp_path, agent_class=Resuming, storage=storage) as (server, api):
        created = await api.create()
        async with joined(server.url, created) as client:
            said = await client.set_to_work(text)
            await server.kill()
        await server.start()
        log = await open_again(server, api, created, answers_with("at attempt 2"))

    assert answers(log)[-1] == f"Answered {text!r} at attempt 2"
    assert [one["cause"] for one in recalls(log)].count(said["id"]) == 2
    assert errors(log) == []


async def test_a_turn_that_kills_its_server_is_begun_so_many_times_and_then_told(tmp_path):
    async with process_over(tmp_path, agent_class=Resuming, turn_tries=3) as (server, api):
        created = await api.create()
        said = await api.post(created, message("hang for ever"))
        for tries in range(1, 4):
            async with joined(server.url, created) as client:
                await client.until(lambda me: len(recalls(me.events)) == tries)  # noqa: B023 - awaited here
                await server.kill()
            await server.start()
        log = await open_again(server, api, created, lost)

    assert [one["cause"] for one in recalls(log)] == [said["id"]] * 3
    assert errors(log) == [(LOST, said["id"])]


async def test_a_stop_of_the_server_lets_a_turn_end_by_itself(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with process_over(tmp_path / "data", agent_class=Blocking) as (server, api):
        created = await api.create()

        async def draining():
            return (await api.client.get("/ready")).status_code == 503

        async with joined(server.url, created) as client:
            await client.set_to_work(f"read {pipe}")
            stopping = asyncio.create_task(server.stop())
            await until(draining)
            await asyncio.to_thread(pipe.write_text, "Read", "utf-8")
            code = await stopping
        await server.start()
        log = await api.log(created)

    assert code == 0
    assert answers(log) == ["Read"]
    assert outcomes(log) == ["done"]


@pytest.mark.parametrize(
    ("agent", "number"), [(Answering, signal.SIGINT), (Resuming, signal.SIGTERM)]
)
async def test_a_turn_that_does_not_end_in_time_is_sealed_and_told_or_begun_again(
    tmp_path, agent, number
):
    async with process_over(tmp_path, agent_class=agent, shutdown_seconds=2) as (server, api):
        created = await api.create()
        async with joined(server.url, created) as client:
            said = await client.set_to_work("slow")
            await text_begun(server.url, created)
            code = await server.stop(number)
        await server.start()
        log = await api.log(created)
        told = lost if agent is Answering else answers_with("at attempt 2")
        after = await open_again(server, api, created, told)

    assert code == 0
    assert outcomes(log) == ["interrupted"]
    assert answers(log) == ["A long answer begins"]
    if agent is Answering:
        assert errors(after) == [(LOST, said["id"])]
        assert len(answers(after)) == 1
    else:
        assert errors(after) == []
        assert answers(after)[-1] == "Answered 'slow' at attempt 2"


async def test_a_stop_that_a_user_asks_for_begins_nothing_again(tmp_path):
    async with process_over(tmp_path, agent_class=Resuming) as (server, api):
        created = await api.create()
        async with joined(server.url, created) as client:
            await client.set_to_work("hang")
            await api.client.post(f"{CONVERSATIONS}/{created}/stop")
            await client.state(AgentState.STOPPED)
        log = await open_again(server, api, created)

    assert outcomes(log) == ["stopped"]
    assert answers(log) == []
    assert errors(log) == []


async def test_a_message_that_comes_while_a_turn_is_cut_short_is_answered_after_it(tmp_path):
    async with process_over(tmp_path, agent_class=Resuming) as (server, api):
        created = await api.create()
        async with joined(server.url, created) as client:
            await client.set_to_work("hang")
            await client.say("second")
            await server.kill()
        await server.start()
        async with joined(server.url, created) as client:
            await client.event(answers_with("Heard"))
        log = await api.log(created)

    assert answers(log) == ["Answered 'hang' at attempt 2", "Heard ['hang', 'second'], attempt 1"]
