"""Approvals need no loop: they outlive everything but a decision, and are carried out once."""

import asyncio
import signal

import pytest

from events.event import AgentState
from server.turns.approvals import Approvals
from tests.support.approvals import (
    EDIT,
    asked,
    begin_end,
    careful,
    careful_process,
    carried_out,
    conversation_of,
    decide,
    decided,
    decision_command,
    done,
    end_loop,
    is_asking,
    listed,
    loops_of,
    pending,
    race_deciders,
)
from tests.support.clients import command, joined
from tests.support.live import until_running
from tests.support.payloads import Payload, answers, lost, outcomes
from tests.support.remote import CONVERSATIONS, remote
from tests.support.waiting import until

ASKING = AgentState.AWAITING_USER_CONFIRMATION
AWAITING = AgentState.AWAITING_USER_INPUT
MODULE = "tests.support.turn_agents"
AGENTS = [("runtime_stub.scripted:ScriptedAgent", "/run echo hi"), (f"{MODULE}:Careful", "hi")]
CLOSED = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"


async def test_an_approval_outlives_the_end_of_its_loop_and_is_carried_out_once():
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            await end_loop(live, one)
            stopped = await client.state(AgentState.STOPPED)
            assert stopped["extras"]["approvals"] == [approval]
        assert await pending(api, one) == [approval]

        assert (await decide(api, one, approval)).status_code == 200
        log = await carried_out(api, one, approval)
        assert await pending(api, one) == []

    assert done(log, approval) == ["run"]
    assert outcomes(log) == ["waiting", "done"]
    assert answers(log) == ["After user_confirmed: run"]


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
    assert answers(log) == []
    assert lost(log) == [next(one["id"] for one in log if one.get("action") == "message")]


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
    assert answers(log) == ["After user_rejected: user_rejected"]


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
    async with careful_process(tmp_path, storage=storage) as (server, api):
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
    async with careful_process(tmp_path, max_concurrent_conversations=1) as (server, api):
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
    assert answers(log) == ["After user_confirmed: run"]


@pytest.mark.parametrize("open_loop", [True, False])
async def test_of_two_deciders_at_once_one_wins_and_the_other_is_told(open_loop):
    won = await race_deciders(25, open_loop=open_loop)

    assert won.total() == 25


async def test_a_decision_while_the_loop_comes_up_or_goes_is_carried_out_once():
    async with careful() as live, remote(live.url) as api:
        manager = live.application.manager
        for steps in range(12):
            one = await live.new()
            async with live.joined(one) as client:
                approval = await asked(client)
                conversation = await conversation_of(live, one)
                stopping = await begin_end(live, conversation, steps)
                await manager.accept(conversation, decision_command(approval))
                await stopping
                loops_of(live).ensure(conversation, None, has_work=False)
                log = await carried_out(api, one, approval)
            assert done(log, approval) == ["run"], steps
            assert sum(is_asking(event) for event in log) == 1


async def test_a_decision_while_the_loop_goes_is_known_to_a_later_process():
    waiting = []
    async with careful() as live, remote(live.url) as api:
        for steps in range(12):
            one = await live.new()
            async with live.joined(one) as client:
                approval = await asked(client)
                conversation = await conversation_of(live, one)
                stopping = await begin_end(live, conversation, steps)
                stored = asyncio.get_running_loop().create_future()
                conversation.accept(decision_command(approval), stored.set_result)
                await asyncio.gather(stopping, stored)
                later = Approvals()
                await later.read(conversation.stream)
                if not decided(await api.log(one), approval):
                    waiting.append(later.ended(approval))

    assert waiting
    assert [one and one.outcome for one in waiting] == ["approved"] * len(waiting)


async def test_a_decision_that_its_turn_has_heard_is_not_lost_with_the_loop():
    async with careful(f"{MODULE}:Careful") as live, remote(live.url) as api:
        for steps in range(24):
            one = await live.new()
            async with live.joined(one) as client:
                said = await client.say("hi")
                approval = (await client.event(is_asking))["id"]
                conversation = await conversation_of(live, one)
                stored = asyncio.get_running_loop().create_future()
                conversation.accept(decision_command(approval), stored.set_result)
                for _ in range(steps):
                    await asyncio.sleep(0)
                stopping = await begin_end(live, conversation, 0)
                await asyncio.gather(stopping, stored)
                loops_of(live).ensure(conversation, None, has_work=False)
                log: list[Payload] = []

                async def is_over():
                    log[:] = await api.log(one)  # noqa: B023 - awaited here
                    return bool(answers(log)) or bool(lost(log))  # noqa: B023

                await until(is_over)
            about = [each for each in log if each.get("cause") == approval]
            assert [each.get("action") for each in about] == ["run"], steps
            assert len(done(log, approval)) == 1, steps
            # An answer right before the end of the loop is told as lost, too.
            assert lost(log) in ([], [said["id"]]), steps


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
    assert len(answers(log)) == 1


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


@pytest.mark.parametrize("open_loop", [True, False])
async def test_an_edited_action_is_carried_out_as_edited_and_the_log_says_by_whom(open_loop):
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            if not open_loop:
                await end_loop(live, one)
            answer = await decide(api, one, approval, "edit", args=EDIT)
            log = await carried_out(api, one, approval)
            late = await decide(api, one, approval)

    assert answer.status_code == 200, answer.text
    question = log[approval]
    (command_event,) = [event for event in log if event.get("args", {}).get("of") == approval]
    assert command_event["source"] == "user"
    assert command_event["args"]["edit"] == EDIT
    (action,) = decided(log, approval)
    assert question["args"]["command"] == "echo hi"
    assert action["args"] == question["args"] | EDIT | {"confirmation_state": "confirmed"}
    assert (question.get("edited_by"), action["edited_by"]) == (None, "the user")
    (result,) = [event for event in log if event.get("cause") == action["id"]]
    assert (result["observation"], result["content"].strip()) == ("run", "otherwise")
    assert "was approved with changes by the user at" in late.json()["message"]


async def test_an_edit_outlives_a_crash_before_it_is_carried_out(tmp_path):
    async with careful_process(tmp_path, max_concurrent_conversations=1) as (server, api):
        one, other = await api.create(), await api.create()
        async with joined(server.url, one) as client:
            approval = await asked(client)
        async with joined(server.url, other) as client:
            await asked(client)
            answer = await decide(api, one, approval, "edit", args=EDIT)
            assert answer.json()["queued"] is True
            await server.kill()
        await server.start()
        late = await decide(api, one, approval)
        async with joined(server.url, one):
            log = await carried_out(api, one, approval)

    (action,) = decided(log, approval)
    assert (action["args"]["command"], action["edited_by"]) == (EDIT["command"], "the user")
    assert done(log, approval) == ["run"]
    assert "approved with changes" in late.json()["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "at least one argument"),
        ({"colour": "red"}, "no argument `colour` that can be changed"),
        ({"confirmation_state": "confirmed"}, "`confirmation_state`"),
        ({"security_risk": 0}, "`security_risk`"),
        ({"thought": "fine"}, "`thought`"),
        ({"command": 7}, "`command` is unfit"),
        ({"command": None}, "`command` is unfit"),
        ({"command": "echo <secret_hidden>"}, "`command` has a mask"),
    ],
)
async def test_an_edit_that_does_not_fit_is_refused_and_the_approval_stays_open(changes, words):
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            over_rest = await decide(api, one, approval, "edit", args=changes)
            over_socket = await client.send(decision_command(approval, "edit", edit=changes))
            still = await pending(api, one)
            assert (await decide(api, one, approval)).status_code == 200
            log = await carried_out(api, one, approval)

    assert (over_rest.status_code, over_rest.json()["code"]) == (422, "bad_edit")
    assert words in over_rest.json()["message"]
    assert (over_socket["code"], over_socket["message"]) == (
        "bad_edit",
        over_rest.json()["message"],
    )
    assert still == [approval]
    assert done(log, approval) == ["run"]


async def test_changes_belong_to_an_approval():
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            refused = await client.send(decision_command(approval, "reject", edit=EDIT))
            running = command("running")
            running["args"]["edit"] = EDIT
            ignored = await client.send(running)
            plain = await decide(api, one, approval, args=EDIT)
            assert await pending(api, one) == [approval]

    assert [refused["code"], ignored["code"], plain.json()["code"]] == ["bad_edit"] * 3


async def test_an_action_that_the_agent_carries_out_itself_cannot_be_edited():
    async with careful(f"{MODULE}:CarefulByItself") as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            refused = await decide(api, one, approval, "edit", args=EDIT)
            assert (await decide(api, one, approval)).status_code == 200
            log = await carried_out(api, one, approval)

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_edit")
    assert "only as it was asked" in refused.json()["message"]
    assert answers(log) == ["Did echo hi"]


async def test_a_secret_in_an_edit_is_used_but_not_stored_and_not_known_after_a_restart(tmp_path):
    hushed = {"command": "echo swordfish > note.txt"}
    async with careful_process(tmp_path, max_concurrent_conversations=1) as (server, api):
        await api.client.post("/api/secrets", json={"name": "WORD", "value": "swordfish"})
        one, other = await api.create(), await api.create()
        async with joined(server.url, one) as client:
            approval = await asked(client)
            assert (await decide(api, one, approval, "edit", args=hushed)).status_code == 200
            await carried_out(api, one, approval)
            address = f"{CONVERSATIONS}/{one}/select-file"
            note = await api.client.get(address, params={"file": "note.txt"})
            await client.say("again")
            second = (await client.event(lambda each: is_asking(each) and each["id"] > approval))[
                "id"
            ]
        async with joined(server.url, other) as client:
            await asked(client)
            answer = await decide(api, one, second, "edit", args=hushed)
            assert answer.json()["queued"] is True
            await server.kill()
        await server.start()
        async with joined(server.url, one):
            log = await carried_out(api, one, second)

    assert note.json()["code"].strip() == "swordfish"
    assert "swordfish" not in str(log)
    assert done(log, second) == ["error"]


async def test_an_edit_replaces_a_text_that_is_not_known_any_more(tmp_path):
    async with careful_process(tmp_path) as (server, api):
        await api.client.post("/api/secrets", json={"name": "WORD", "value": "swordfish"})
        one, other = await api.create(), await api.create()
        approvals = {}
        for conversation_id in (one, other):
            async with joined(server.url, conversation_id) as client:
                approvals[conversation_id] = await asked(client, "swordfish")
        await server.kill()
        await server.start()
        await decide(api, one, approvals[one], "edit", args=EDIT)
        await decide(api, other, approvals[other])
        log = await carried_out(api, one, approvals[one])
        other_log = await carried_out(api, other, approvals[other])

    assert done(log, approvals[one]) == ["run"]
    assert done(other_log, approvals[other]) == ["error"]


async def until_expired(api, conversation_id, approval):
    """Wait until an approval is listed as expired; the moment."""

    async def is_expired():
        (found,) = (await listed(api, conversation_id))["approvals"]
        return found["id"] == approval and found["expired"]

    await until(is_expired)
    (found,) = (await listed(api, conversation_id))["approvals"]
    return found["expires_at"]


async def renew(api, conversation_id, approval, **options):
    """Ask again; the answer."""
    address = f"{CONVERSATIONS}/{conversation_id}/approvals/{approval}/renew"
    return await api.client.post(address, json={}, **options)


async def decide_in_time(api, conversation_id, approval, decision="approve"):
    """Ask again and decide, until the decision was not too late; how often it was asked."""
    asked_again = 0

    async def is_taken():
        nonlocal asked_again
        asked_again += 1
        assert (await renew(api, conversation_id, approval)).status_code == 200
        answer = await decide(api, conversation_id, approval, decision)
        return answer.status_code == 200

    await until(is_taken)
    return asked_again


@pytest.mark.parametrize("decision", ["approve", "reject"])
@pytest.mark.parametrize("open_loop", [True, False])
async def test_an_approval_that_expires_is_told_and_stays_open_until_it_is_asked_again(
    open_loop, decision
):
    async with careful(approval_seconds=0.2) as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            if not open_loop:
                await end_loop(live, one)
            told = await client.event(lambda each: each.get("id") == "STATUS$APPROVAL_EXPIRED")
            await until_expired(api, one, approval)
            before = await api.log(one)
            late = await decide(api, one, approval, decision)
            over_socket = await client.send(decision_command(approval, decision))
            unnamed = await client.send(command("user_confirmed"))
            assert await api.log(one) == before
            assert await pending(api, one) == [approval]
            await decide_in_time(api, one, approval, decision)
            log = await carried_out(api, one, approval)

    assert told["message"] == f"Approval {approval} has expired; ask for it again to decide it."
    assert (late.status_code, late.json()["code"]) == (409, "approval_expired")
    assert "asked again" in late.json()["message"]
    assert [over_socket["code"], unnamed["code"]] == ["approval_expired"] * 2
    assert done(log, approval) == ["run" if decision == "approve" else "user_rejected"]


async def test_each_time_that_an_approval_expires_is_told_once():
    async with careful(approval_seconds=0.1) as live, remote(live.url) as api:
        one = await live.new()

        def told(client):
            return [each for each in client.payloads if "EXPIRED" in str(each.get("id"))]

        async with live.joined(one) as client:
            approval = await asked(client)
            await client.until(lambda client: len(told(client)) == 1)
            await renew(api, one, approval)
            await client.until(lambda client: len(told(client)) == 2)
            asked_again = 1 + await decide_in_time(api, one, approval)
            await carried_out(api, one, approval)
            await client.say("again")
            second = (await client.event(lambda each: is_asking(each) and each["id"] > approval))[
                "id"
            ]
            await client.until(lambda client: str(second) in told(client)[-1]["message"])
            first = [each for each in told(client) if f" {approval} " in each["message"]]

    assert 2 <= len(first) <= 1 + asked_again
    assert told(client)[-1]["message"].startswith(f"Approval {second} ")


@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_an_approval_expires_over_a_restart_and_is_no_refusal(tmp_path, storage):
    async with careful_process(tmp_path, storage=storage, approval_seconds=0.3) as (server, api):
        one = await api.create()
        async with joined(server.url, one) as client:
            approval = await asked(client)
        await server.kill()
        await server.start()
        await until_expired(api, one, approval)
        late = await decide(api, one, approval)
        await decide_in_time(api, one, approval)
        log = await carried_out(api, one, approval)

    assert late.json()["code"] == "approval_expired"
    assert done(log, approval) == ["run"]
    assert outcomes(log) == ["waiting", "done"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_approval_that_was_asked_again_is_so_after_a_restart(tmp_path, number):
    async with careful_process(tmp_path, approval_seconds=3600) as (server, api):
        one = await api.create()

        async def moment():
            (found,) = (await listed(api, one))["approvals"]
            assert found["expired"] is False
            return found["expires_at"]

        async with joined(server.url, one) as client:
            approval = await asked(client)
            first = await moment()
            key = {"Idempotency-Key": "k"}
            answers = [await renew(api, one, approval, headers=key) for _ in range(2)]
            second = await moment()
        await server.stop(number)
        await server.start()
        third = await moment()
        assert (await decide(api, one, approval)).status_code == 200
        log = await carried_out(api, one, approval)
        late = await renew(api, one, approval)

    assert [answer.json()["duplicate"] for answer in answers] == [False, True]
    assert first < second
    assert first < third
    assert done(log, approval) == ["run"]
    assert late.json()["code"] == "already_decided"


async def test_an_approval_expires_only_where_that_is_set():
    async with careful() as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client)
            (found,) = (await listed(api, one))["approvals"]
            unknown = await renew(api, one, 10_000)

    assert (found["id"], found["expires_at"], found["expired"]) == (approval, None, False)
    assert unknown.json()["code"] == "approval_not_found"


async def acted(client, text, after):
    """Have the agent act; its action as it is recorded first."""
    await client.say(text)
    return await client.event(lambda each: each.get("action") == "run" and each["id"] > after)


async def revoke(api, conversation_id, kind="run"):
    """Have people asked about a kind of action again; whether they were not."""
    answer = await api.client.delete(f"{CONVERSATIONS}/{conversation_id}/approvals/allowed/{kind}")
    assert answer.status_code == 200, answer.text
    return answer.json()["revoked"]


@pytest.mark.parametrize("decision", ["approve", "edit"])
@pytest.mark.parametrize("open_loop", [True, False])
async def test_what_was_allowed_for_always_is_not_asked_until_that_is_revoked(open_loop, decision):
    body = {"args": EDIT} if decision == "edit" else {}
    async with careful() as live, remote(live.url) as api:
        one, other = await live.new(), await live.new()
        async with live.joined(one) as client, live.joined(other) as elsewhere:
            approval = await asked(client)
            if not open_loop:
                await end_loop(live, one)
            answer = await decide(api, one, approval, decision, always=True, **body)
            log = await carried_out(api, one, approval)
            rest = await client.state(AWAITING, after=log[-2]["id"])
            allowed = await acted(client, "again", after=log[-1]["id"])
            before = (await listed(api, one))["allowed"]
            assert await revoke(api, one)
            assert not await revoke(api, one)
            after = (await listed(api, one))["allowed"]
            await client.event(lambda each: each.get("cause") == allowed["id"])
            second = await acted(client, "and again", after=allowed["id"])
            foreign = await asked(elsewhere)
            assert await pending(api, other) == [foreign]
        commands = [one for one in await api.log(one) if one.get("action") == "change_agent_state"]

    assert answer.status_code == 200, answer.text
    assert not is_asking(allowed)
    assert is_asking(second)
    assert (before, after) == (["run"], [])
    assert rest["extras"]["allowed"] == ["run"]
    told = [
        (each["args"]["agent_state"], each["args"]["always"])
        for each in commands
        if "always" in each["args"]
    ]
    assert told == [("user_confirmed", "run"), ("awaiting_user_confirmation", "run")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_what_is_allowed_and_what_is_revoked_outlive_the_process(tmp_path, storage, number):
    async with careful_process(tmp_path, storage=storage) as (server, api):
        one = await api.create()
        async with joined(server.url, one) as client:
            approval = await asked(client)
            await decide(api, one, approval, always=True)
            log = await carried_out(api, one, approval)
        await server.stop(number)
        await server.start()
        assert (await listed(api, one))["allowed"] == ["run"]
        async with joined(server.url, one) as client:
            allowed = await acted(client, "again", after=log[-1]["id"])
            await client.event(lambda each: each.get("cause") == allowed["id"])
        assert await revoke(api, one)
        await server.stop(number)
        await server.start()
        assert (await listed(api, one))["allowed"] == []
        async with joined(server.url, one) as client:
            second = await acted(client, "and again", after=allowed["id"])

    assert not is_asking(allowed)
    assert is_asking(second)


async def test_only_the_kind_that_was_approved_is_allowed():
    async with careful(AGENTS[0][0]) as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            approval = await asked(client, "/run echo hi")
            rejected = await decide(api, one, approval, "reject", always=True)
            foreign = await client.send(decision_command(approval, always="read"))
            running = command("running")
            running["args"]["always"] = "run"
            plain = await client.send(running)
            assert await pending(api, one) == [approval]
            assert (await listed(api, one))["allowed"] == []
            await decide(api, one, approval, always=True)
            log = await carried_out(api, one, approval)
            await client.say("/read note.txt")
            await client.state(ASKING, after=log[-1]["id"])

    assert (rejected.status_code, rejected.json()["code"]) == (400, "bad_value")
    assert [foreign["code"], plain["code"]] == ["bad_value", "bad_edit"]
