"""The acts of an administrator really happen, and are recorded before they do."""

import asyncio

import pytest
from httpx import AsyncClient
from websockets.exceptions import InvalidStatus

from tests.support.faulty_audit import FaultyAudit
from tests.support.live import live_server, until_running
from tests.support.rest import EVERY, assert_refused, rest_server
from tests.support.servers import class_path
from tests.support.turn_agents import Gated
from tests.support.waiting import WAIT_SECONDS, until

ADMIN = "/api/admin"


async def acts(rest):
    answer = await rest.ask("GET", f"{ADMIN}/audit?only_acts=true")
    return [(one["action"], one["target"], one["outcome"]) for one in answer.json()["results"]]


async def test_a_loop_is_listed_with_what_it_is_at_and_can_be_closed(rest):
    conversation_id = await rest.create(initial_user_msg="/slow 100 1000")
    await rest.wait_for(conversation_id, lambda event: "slow" in str(event))

    (line,) = (await rest.ask("GET", f"{ADMIN}/loops")).json()["results"]
    assert (line["conversation_id"], line["user_id"]) == (conversation_id, None)
    closed = await rest.ask("POST", f"{ADMIN}/loops/{conversation_id}/close", json={})

    assert closed.json() == {"conversation_id": conversation_id, "closed": True}
    assert not await rest.application.manager.is_agent_loop_running(conversation_id)
    assert (await rest.ask("GET", f"{ADMIN}/loops")).json()["results"] == []
    assert await acts(rest) == [("close loop", conversation_id, "done")]


@pytest.mark.parametrize(("given", "status"), [("unknown", 404), ("task-1", 400), ("a b", 400)])
async def test_closing_what_is_no_loop_is_refused_and_recorded(rest, given, status):
    answer = await rest.ask("POST", f"{ADMIN}/loops/{given}/close", json={})

    assert answer.status_code == status
    ((action, target, outcome),) = await acts(rest)
    assert (action, target) == ("close loop", given)
    assert outcome == answer.json()["code"]


async def test_a_connection_is_listed_and_disconnected():
    async with (
        live_server() as live,
        AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client,
    ):
        conversation_id = await live.new()
        async with live.joined(conversation_id) as person:
            await person.state("awaiting_user_input")
            (connection,) = live.application.connections.all()
            stream = await live.stream(conversation_id)
            await until(lambda: connection.position == stream.next_id - 1)
            (line,) = (await client.get(f"{ADMIN}/connections")).json()["results"]
            assert line["conversation_id"] == conversation_id
            assert (line["client"], line["lag"]) == ("127.0.0.1", 0)
            assert line["position"] == line["head"] >= 0
            assert line["queued_bytes"] == 0
            path = f"{ADMIN}/connections/{line['connection_id']}/disconnect"

            answer = await client.post(path, json={})

            assert answer.json()["disconnected"] is True
            await until(lambda: not person.io.connected)
        assert_refused(await client.post(path, json={}), 404, "not_found")
        only = {"conversation_id": "another"}
        assert (await client.get(f"{ADMIN}/connections", params=only)).json()["results"] == []


async def test_a_drain_takes_nothing_in_until_it_is_undone():
    async with (
        live_server() as live,
        AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client,
    ):
        conversation_id = await live.new()

        begun = await client.post(f"{ADMIN}/drain", json={"deadline_seconds": 60})

        assert begun.json()["draining"] is True
        ready = await client.get("/ready")
        assert_refused(ready, 503, "not_ready", "draining")
        assert_refused(await client.post(EVERY, json={}), 503, "not_available")
        with pytest.raises(InvalidStatus) as refused:
            async with live.raw(conversation_id) as one:
                await one.connect()
        assert refused.value.response.status_code == 503
        undone = await client.delete(f"{ADMIN}/drain")
        assert undone.json()["draining"] is False
        assert (await client.get("/ready")).status_code == 200
        async with live.joined(conversation_id):
            assert len(live.application.connections) == 1


async def test_a_drain_ends_loops_that_rest_at_once_and_those_at_work_when_they_rest():
    Gated.go = asyncio.Event()
    async with rest_server(agent_class=class_path(Gated)) as rest:
        resting = await rest.create()
        await rest.ask("POST", f"{EVERY}/{resting}/start", json={})
        await rest.wait_until_idle(resting)
        working = await rest.create(initial_user_msg="hello")
        await until_working(rest.application.manager)

        await rest.ask("POST", f"{ADMIN}/drain", json={"deadline_seconds": 600})

        manager = rest.application.manager
        await until_running(manager, {working})
        Gated.go.set()
        await until_running(manager, set())
        await settled(rest)
        events = await rest.events.read(working, 0, 1_000)
    assert b"Let go" in b"".join(event.body for event in events)


async def until_working(manager):
    async def works():
        return any(one.working for one in await manager.every_agent_loop())

    await until(works)


async def settled(rest):
    async def drained():
        return (await rest.ask("GET", f"{ADMIN}/drain")).json()["drained"]

    await until(drained)


async def test_a_drain_closes_what_still_works_at_its_deadline(rest):
    working = await rest.create(initial_user_msg="/slow 1000 1000")
    await until_working(rest.application.manager)

    await rest.ask("POST", f"{ADMIN}/drain", json={"deadline_seconds": 0.05})

    await settled(rest)
    assert not await rest.application.manager.is_agent_loop_running(working)


async def test_a_message_during_a_drain_is_kept_and_answered_after_it(rest):
    conversation_id = await rest.create(initial_user_msg="hello")
    await rest.wait_until_idle(conversation_id)
    async with rest.application.manager.attach(conversation_id, None):
        await rest.ask("POST", f"{ADMIN}/drain", json={})
        await settled(rest)
        said = await rest.ask(
            "POST", f"{EVERY}/{conversation_id}/message", json={"message": "while draining"}
        )
        started = await rest.application.manager.is_agent_loop_running(conversation_id)

        await rest.ask("DELETE", f"{ADMIN}/drain")

        assert said.status_code in (200, 503)
        assert not started
        if said.status_code == 200:
            await rest.wait_for(
                conversation_id,
                lambda event: "while draining" in str(event) and event["source"] == "agent",
            )


@pytest.mark.parametrize("seconds", [-1, 86_401, "soon", None])
async def test_a_deadline_that_makes_no_sense_is_refused(rest, seconds):
    answer = await rest.ask("POST", f"{ADMIN}/drain", json={"deadline_seconds": seconds})

    assert_refused(answer, 422, "invalid_body", "deadline_seconds")
    assert (await rest.ask("GET", "/ready")).status_code == 200


async def test_nothing_is_done_that_cannot_be_recorded():
    audit = FaultyAudit()
    async with rest_server(None, audit) as rest:
        audit.fails = True
        answer = await rest.ask("POST", f"{ADMIN}/drain", json={})
        assert_refused(answer, 503, "storage_unavailable")
        assert (await rest.ask("GET", "/ready")).status_code == 200

        # Whoever looks why the storage fails is not kept from it.
        assert (await rest.ask("GET", f"{ADMIN}/overview")).status_code == 200


async def test_usage_counts_a_conversation_that_was_deleted(rest):
    conversation_id = await rest.create(initial_user_msg="hello")
    await rest.wait_until_idle(conversation_id)
    before = (await rest.ask("GET", f"{ADMIN}/usage")).json()["results"][0]["events"]
    await rest.ask("POST", f"{EVERY}/{conversation_id}/message", json={"message": "more"})

    await rest.ask("DELETE", f"{EVERY}/{conversation_id}")

    usage = (await rest.ask("GET", f"{ADMIN}/usage")).json()
    assert usage["complete"] is True
    assert usage["results"][0]["events"] > before
