"""What conversations are after their server was killed, and when their turn comes."""

from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from events.event import AgentState
from tests.support.clients import command, joined, message
from tests.support.remote import CONVERSATIONS, Remote, remote
from tests.support.servers import server_process

pytestmark = [pytest.mark.timeout(40), pytest.mark.asyncio(loop_scope="module")]

TWO_LOOPS = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "2"}
AWAITING = AgentState.AWAITING_USER_INPUT
LONG = "/run sleep 30"


class Killed(NamedTuple):
    """A server that was killed and started again, and the conversations it had."""

    url: str
    api: Remote
    busy: str
    action: dict[str, Any]
    paused: str
    waiting: str
    answers: list[dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    async with (
        server_process(folder, environment=TWO_LOOPS) as server,
        remote(server.url) as api,
    ):
        busy, paused = await api.create_many(2, LONG)
        waiting = await api.create()
        async with joined(server.url, busy) as one, joined(server.url, paused) as other:
            action = await one.event(runs)
            await other.event(runs)
            await other.send(command("paused"))
            await other.state(AgentState.PAUSED)
            answers = [await api.post(waiting, message(text)) for text in ("first", "second")]
            await server.kill()
        await server.start()
        yield Killed(server.url, api, busy, action, paused, waiting, answers)


def runs(payload):
    return payload.get("action") == "run"


def says(text):
    return lambda payload: payload.get("source") == "agent" and payload.get("message") == text


async def test_an_action_left_open_is_closed_by_an_error_and_the_next_message_works(killed):
    async with joined(killed.url, killed.busy) as client:
        error = await client.event(lambda payload: payload.get("cause") == killed.action["id"])
        await client.state(AWAITING, after=error["id"])
        await client.say("hello")
        await client.event(says("You said: hello"))

    assert error["observation"] == "error"
    assert error["source"] == "agent"


async def test_a_pause_does_not_outlive_the_process(killed):
    async with joined(killed.url, killed.paused) as client:
        await client.state(AWAITING)
        await client.say("hello")
        await client.event(says("You said: hello"))


async def test_messages_no_loop_had_taken_up_are_answered_in_order_when_it_is_opened(killed):
    async with joined(killed.url, killed.waiting) as client:
        await client.event(says("You said: second"))
        await client.state(AWAITING, after=killed.answers[-1]["id"])
        answers = [one["message"] for one in client.events if one["source"] == "agent"]

    assert [one["queued"] for one in killed.answers] == [True, True]
    assert [one for one in answers if one.startswith("You said")] == [
        "You said: first",
        "You said: second",
    ]


async def test_a_queued_message_is_taken_up_when_a_slot_frees(killed):
    api = killed.api
    busy = await api.create_many(2, LONG)
    async with joined(killed.url, busy[0]) as one, joined(killed.url, busy[1]) as other:
        await one.event(runs)
        await other.event(runs)
        waiting = await api.create()
        queued = await api.post(waiting, message("hello"))

        async with joined(killed.url, waiting) as client:
            history = len(client.events)
            for conversation_id in busy:
                await api.client.post(f"{CONVERSATIONS}/{conversation_id}/stop")
            await client.event(says("You said: hello"))

    assert queued["queued"] is True
    assert history <= 1
