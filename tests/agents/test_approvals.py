"""Approvals need no loop: they outlive everything but a decision, and are carried out once."""

import asyncio
import signal

import pytest

from events.event import AgentState
from tests.support.checker import Payload
from tests.support.clients import command, joined
from tests.support.live import live_server, until_running
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import server_process
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60)

ASKING = AgentState.AWAITING_USER_CONFIRMATION
AWAITING = AgentState.AWAITING_USER_INPUT
MODULE = "tests.support.turn_agents"
AGENTS = [("runtime_stub.scripted:ScriptedAgent", "/run echo hi"), (f"{MODULE}:Careful", "hi")]
RESUMING = f"{MODULE}:CarefulResuming"
CLOSED = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"


def careful(agent=RESUMING, **settings):
    """A server whose agent asks before it acts."""
    return live_server(agent_class=agent, confirmation_mode=True, **settings)


def is_asking(payload):
    """Whether an event asks a person about an action."""
    waits = payload.get("args", {}).get("confirmation_state")
    return payload.get("action") == "run" and waits == "awaiting_confirmation"


async def asked(client, text="hi"):
    """Have the agent ask; the id of the approval."""
    await client.say(text)
    return (await client.event(is_asking))["id"]


async def pending(api, conversation_id):
    """The ids of a conversation's open approvals."""
    answer = await api.client.get(f"{CONVERSATIONS}/{conversation_id}/approvals")
    assert answer.status_code == 200, answer.text
    found = answer.json()["approvals"]
    assert all(is_asking(one["action"]) and one["action"]["id"] == one["id"] for one in found)
    return [one["id"] for one in found]


async def decide(api, conversation_id, approval, decision="approve", **body):
    """Decide over REST; the answer."""
    return await api.client.post(
        f"{CONVERSATIONS}/{conversation_id}/approvals/{approval}",
        json={"decision": decision, **body},
    )


def done(log, approval):
    """The results of an approval: the observations of its action as it was decided."""
    again = [one["id"] for one in log if one.get("cause") == approval and "action" in one]
    return [one["observation"] for one in log if one.get("cause") in again]


def said(log):
    """The texts of the agent's messages."""
    return [
        one["args"]["content"]
        for one in log
        if one.get("action") == "message" and one["source"] == "agent"
    ]


def outcomes(log):
    """The outcomes of the turns."""
    return [one["extras"]["outcome"] for one in log if one.get("observation") == "turn_ended"]


async def carried_out(api, conversation_id, approval):
    """Wait until the action of an approval is answered and its turn is over; the log."""
    log: list[Payload] = []

    async def is_answered():
        log[:] = await api.log(conversation_id)
        return bool(done(log, approval)) and outcomes(log)[-1:] == ["done"]

    await until(is_answered)
    return log


async def test_an_approval_outlives_the_end_of_its_loop_and_is_carried_out_once():
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            await live.application.manager._loops.stop(await conversation_of(live, one))
            stopped = await client.state(AgentState.STOPPED)
            assert stopped["extras"]["approvals"] == [approval]
        assert await pending(api, one) == [approval]

        assert (await decide(api, one, approval)).status_code == 200
        log = await carried_out(api, one, approval)
        assert await pending(api, one) == []

    assert done(log, approval) == ["run"]
    assert outcomes(log) == ["waiting", "done"]
    assert said(log) == ["After user_confirmed: run"]


async def conversation_of(live, conversation_id):
    """The open conversation."""
    async with live.application.manager.attach(conversation_id, None) as conversation:
        return conversation


@pytest.mark.parametrize(("agent", "text"), AGENTS)
async def test_an_agent_that_does_not_resume_rests_after_its_action_is_carried_out(agent, text):
    async with (
        careful(agent, close_delay_seconds=0.05) as live,
        remote(live.url) as api,
    ):
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client, text)
        await until_running(live.application.manager, set())
        assert await pending(api, one) == [approval]
        async with live.joined(one) as client:
            again = await client.state(ASKING, after=approval)
            assert again["extras"]["approvals"] == [approval]
            await client.send(command("user_confirmed"))
            await client.state(AgentState.USER_CONFIRMED, after=again["id"])
            await client.event(lambda event: event.get("observation") == "run")
            rest = await client.state(AWAITING, after=again["id"])
        log = await api.log(one)

    assert done(log, approval) == ["run"]
    assert "approvals" not in rest["extras"]
    assert said(log) == []


async def test_another_conversation_gets_the_slot_and_the_approval_stays():
    async with (
        careful(max_concurrent_conversations=1) as live,
        remote(live.url) as api,
    ):
        one, other = await live.new(), await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
        async with live.joined(other) as client:
            second = await asked(client)
            await until_running(live.application.manager, {other})
            assert await pending(api, one) == [approval]
            assert (await decide(api, other, second)).status_code == 200
            await carried_out(api, other, second)
        assert (await decide(api, one, approval, "reject", reason="too loud")).status_code == 200
        log = await carried_out(api, one, approval)

    assert done(log, approval) == ["user_rejected"]
    assert any("too loud" in str(event.get("content")) for event in log)
    assert said(log) == ["After user_rejected: user_rejected"]


@pytest.mark.parametrize(
    ("storage", "number", "decision"),
    [
        ("sqlite", signal.SIGTERM, "approve"),
        ("sqlite", signal.SIGKILL, "reject"),
        ("local", signal.SIGKILL, "approve"),
        ("local", signal.SIGTERM, "reject"),
    ],
)
async def test_an_approval_outlives_the_process(tmp_path, storage, number, decision):
    environment = {"PARLEY_AGENT_CLASS": RESUMING, "PARLEY_CONFIRMATION_MODE": "true"}
    async with (
        server_process(tmp_path, "--storage", storage, environment=environment) as server,
        remote(server.url) as api,
    ):
        one = await api.create()
        async with joined(server.url, one) as client:
            approval = await asked(client)
        await server.stop(number)
        await server.start()
        assert await pending(api, one) == [approval]
        assert (await decide(api, one, approval, decision)).status_code == 200
        again = await decide(api, one, approval)
        log = await carried_out(api, one, approval)
        await server.kill()
        await server.start()
        assert await pending(api, one) == []
        late = await decide(api, one, approval)

    assert done(log, approval) == ["run" if decision == "approve" else "user_rejected"]
    assert outcomes(log) == ["waiting", "done"]
    assert [answer.json()["code"] for answer in (again, late)] == ["already_decided"] * 2
    assert not [event for event in log if event.get("observation") == "error"]


async def test_a_decision_that_no_loop_has_seen_is_carried_out_after_a_crash(tmp_path):
    environment = {"PARLEY_AGENT_CLASS": RESUMING, "PARLEY_CONFIRMATION_MODE": "true"}
    limits = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1"}
    async with (
        server_process(tmp_path, environment=environment | limits) as server,
        remote(server.url) as api,
    ):
        one, other = await api.create(), await api.create()
        async with joined(server.url, one) as client:
            approval = await asked(client)
        async with joined(server.url, other) as client:
            await asked(client)
            answer = await decide(api, one, approval)
            assert answer.json()["queued"] is True
            await server.kill()
        await server.start()
        assert await pending(api, one) == []
        assert (await decide(api, one, approval)).json()["code"] == "already_decided"
        async with joined(server.url, one) as client:
            await client.event(
                lambda event: event.get("action") == "message" and event["source"] == "agent"
            )
        log = await api.log(one)

    assert done(log, approval) == ["run"]
    assert said(log) == ["After user_confirmed: run"]


@pytest.mark.parametrize("open_loop", [True, False])
async def test_of_two_deciders_at_once_one_wins_and_the_other_is_told(open_loop):
    async with careful() as live, remote(live.url) as api:
        for _ in range(25):
            one = await live.new()
            async with live.joined(one) as client, live.joined(one) as tab:
                approval = await asked(client)
                if not open_loop:
                    await live.application.manager._loops.stop(await conversation_of(live, one))
                payload = command("user_rejected")
                payload["args"]["of"] = approval
                rest, socket = await asyncio.gather(decide(api, one, approval), tab.send(payload))
            log = await carried_out(api, one, approval)
            won = rest.status_code == 200
            assert won is (socket["status"] == "error")
            refused = socket if won else rest.json()
            assert refused["code"] == "already_decided"
            assert ("approved" if won else "rejected") in refused["message"]
            assert done(log, approval) == ["run" if won else "user_rejected"]


async def test_a_decision_while_the_loop_comes_up_or_goes_is_carried_out_once():
    async with careful() as live, remote(live.url) as api:
        manager = live.application.manager
        for steps in range(12):
            one = await live.new()
            async with live.joined(one) as client:
                approval = await asked(client)
                conversation = await conversation_of(live, one)
                stopping = asyncio.ensure_future(manager._loops.stop(conversation))
                for _ in range(steps):
                    await asyncio.sleep(0)
                payload = command("user_confirmed")
                payload["args"]["of"] = approval
                await manager.accept(conversation, payload)
                await stopping
                manager._loops.ensure(conversation, None, has_work=False)
                log = await carried_out(api, one, approval)
            assert done(log, approval) == ["run"], steps
            assert sum(is_asking(event) for event in log) == 1


async def test_a_turn_that_only_waits_is_ended_and_a_v0_user_may_still_decide():
    async with careful(AGENTS[0][0], approval_patience=0.05) as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client, "/run echo hi\nand this")
            parked = await client.state(ASKING, after=approval)
            assert parked["extras"]["approvals"] == [approval]
            await client.send(command("user_confirmed"))
            await client.event(lambda event: event.get("observation") == "run")
            await client.state(AWAITING, after=parked["id"])
        log = await api.log(one)

    assert done(log, approval) == ["run"]
    assert outcomes(log) == ["waiting", "done"]
    assert len(said(log)) == 1


async def test_a_message_in_place_of_a_decision_ends_an_approval_of_a_turn_that_has_ended():
    async with careful(approval_patience=0.05) as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            parked = await client.state(ASKING, after=approval)
            message = await client.say("rather not")
            closed = await client.event(lambda event: event.get("cause") == approval)
            other = await client.event(
                lambda event: is_asking(event) and event["id"] > message["id"]
            )
            late = await decide(api, one, approval)
            assert await pending(api, one) == [other["id"]]

    assert parked["id"] < message["id"]
    assert closed["extras"]["error_id"] == CLOSED
    assert late.status_code == 409
    assert "withdrawn" in late.json()["message"]


@pytest.mark.parametrize("patience", [0.05, 60])
async def test_a_stop_ends_what_was_asked(patience):
    async with careful(approval_patience=patience) as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            if patience < 1:
                await client.state(ASKING, after=approval)
            await client.send(command("stopped"))
            stopped = await client.state(AgentState.STOPPED)
            assert await pending(api, one) == []
            log = await api.log(one)

    assert "approvals" not in stopped["extras"]
    assert [event["extras"]["error_id"] for event in log if event.get("cause") == approval] == [
        CLOSED
    ]


async def test_an_approval_that_is_repeated_under_its_key_is_the_first_one():
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            address = f"{CONVERSATIONS}/{one}/approvals/{approval}"
            answers = [
                await api.client.post(
                    address, json={"decision": "approve"}, headers={"Idempotency-Key": "k"}
                )
                for _ in range(3)
            ]
            log = await carried_out(api, one, approval)

    assert [answer.status_code for answer in answers] == [200] * 3, answers[-1].text
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.json()["duplicate"] for answer in answers] == [False, True, True]
    assert done(log, approval) == ["run"]


async def test_what_was_never_asked_cannot_be_decided():
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            message = await client.say("hi")
            await client.event(is_asking)
            answers = [await decide(api, one, number) for number in (message["id"], 10_000)]

    assert [answer.json()["code"] for answer in answers] == ["approval_not_found"] * 2
