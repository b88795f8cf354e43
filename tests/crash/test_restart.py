"""The state of conversations after their server was killed, and when their turn comes."""

from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from events.event import AgentState
from tests.support.clients import ConnectRefused, command, joined, message
from tests.support.remote import CONVERSATIONS, Remote, remote
from tests.support.servers import server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

TWO_LOOPS = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "2"}
AWAITING = AgentState.AWAITING_USER_INPUT
LONG = "/run sleep 600"
ONCE = {"Idempotency-Key": "begun once"}


class Killed(NamedTuple):
    """A server that was killed and started again, and the conversations it had."""

    url: str
    api: Remote
    busy: str
    action: dict[str, Any]
    paused: str
    waiting: str
    answers: list[dict[str, Any]]
    deleted: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    async with (
        server_process(folder, environment=TWO_LOOPS) as server,
        remote(server.url) as api,
    ):
        begun = await api.client.post(CONVERSATIONS, json={}, headers=ONCE)
        deleted = begun.json()["conversation_id"]
        await api.post(deleted, message("hello"))
        busy, paused = await api.create_many(2, LONG)
        waiting = await api.create()
        async with joined(server.url, busy) as one, joined(server.url, paused) as other:
            action = await one.event(runs)
            await other.event(runs)
            await other.send(command("paused"))
            await other.state(AgentState.PAUSED)
            answers = [await api.post(waiting, message(text)) for text in ("first", "second")]
            gone = await api.client.delete(f"{CONVERSATIONS}/{deleted}")
            await server.kill()
        assert gone.json() is True
        await server.start()
        yield Killed(server.url, api, busy, action, paused, waiting, answers, deleted)


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


async def test_a_deleted_conversation_stays_deleted_and_its_id_is_not_used_again(killed):
    shown = await killed.api.client.get(f"{CONVERSATIONS}/{killed.deleted}")
    said = await killed.api.client.post(
        f"{CONVERSATIONS}/{killed.deleted}/events", json=message("hello")
    )
    again = await killed.api.client.post(CONVERSATIONS, json={}, headers=ONCE)
    with pytest.raises(ConnectRefused, match="Conversation not found"):
        async with joined(killed.url, killed.deleted):
            pass

    assert shown.json() is None
    assert said.status_code == 404
    assert again.status_code == 409


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
