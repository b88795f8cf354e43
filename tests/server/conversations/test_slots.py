"""The slots of loops: limits per user, loops closed to make room, and those that wait."""

import asyncio

from server.agent.states import LoopSettings
from tests.support.clients import message
from tests.support.live import live_server, until_resting, until_running
from tests.support.servers import class_path
from tests.support.turn_agents import Gated
from tests.support.waiting import until

SETTINGS = LoopSettings()


async def test_an_idle_unwatched_loop_makes_room_for_a_new_message():
    async with live_server(max_concurrent_conversations=1) as live:
        manager = live.application.manager
        first, second = await live.new(), await live.new()
        await manager.maybe_start_agent_loop(first, SETTINGS, None, "hello")
        await until_resting(manager, first)

        info = await manager.maybe_start_agent_loop(second, SETTINGS, None, "hello")
        assert (info.status, info.queued) == ("RUNNING", True)
        await until_running(manager, {second})

        assert not await manager.is_agent_loop_running(first)


async def test_a_watched_loop_is_never_closed_and_a_message_without_a_slot_waits_for_it():
    async with live_server(max_concurrent_conversations=1) as live:
        manager = live.application.manager
        watched, other = await live.new(), await live.new()
        async with live.joined(watched) as viewer:
            await viewer.state("awaiting_user_input")
            async with live.joined(other) as writer:
                notice = await writer.event(lambda one: one.get("type") == "error")
                assert notice["id"] == "AGENT_ERROR$TOO_MANY_CONVERSATIONS"
                answer = await writer.say("are you there?")
                assert answer["status"] == "ok"
                assert answer["queued"] is True
                assert await manager.get_running_agent_loops(None) == {watched}

                await viewer.close()
                await writer.event(
                    lambda one: (one.get("action"), one.get("source")) == ("message", "agent")
                )
                await until_running(manager, {other})


async def test_a_working_loop_is_never_closed_for_another():
    async with live_server(max_concurrent_conversations=1) as live:
        manager = live.application.manager
        busy, other = await live.new(), await live.new()
        await manager.maybe_start_agent_loop(busy, SETTINGS, None, "/run sleep 600")
        async with manager.attach(busy, None) as conversation:
            await until(lambda: conversation.loop is not None and conversation.loop.state)
            async with manager.attach(other, None) as waiting:
                taken = await manager.accept(waiting, message("hello"))

                assert taken.queued
                assert await manager.get_running_agent_loops(None) == {busy}
                await manager.close_session(busy)
                await until_running(manager, {other})


async def test_a_loop_that_comes_to_rest_unwatched_makes_room_at_once():
    Gated.go = asyncio.Event()
    async with live_server(
        max_concurrent_conversations=1, close_delay_seconds=0, agent_class=class_path(Gated)
    ) as live:
        manager = live.application.manager
        busy, other = await live.new(), await live.new()
        await manager.maybe_start_agent_loop(busy, SETTINGS, None, "hello")
        async with manager.attach(other, None) as waiting:
            taken = await manager.accept(waiting, message("hello"))
            assert taken.queued

            Gated.go.set()
            await until_running(manager, {other})
        assert b"Let go" in b"".join([one.body for one in await live.log(busy)])


async def test_an_idle_loop_nobody_watches_is_closed_after_its_delay():
    async with live_server(close_delay_seconds=0.2) as live:
        manager = live.application.manager
        conversation_id = await live.new()
        async with live.joined(conversation_id) as client:
            await client.state("awaiting_user_input")
            assert await manager.is_agent_loop_running(conversation_id)

        await until_running(manager, set())
        log = [one.body for one in await live.log(conversation_id)]
        assert b'"agent_state":"stopped"' in log[-1]


async def test_limits_and_loops_are_the_owners_alone():
    async with live_server(max_concurrent_conversations=1) as live:
        manager = live.application.manager
        mine, theirs = await live.new("alice"), await live.new("bob")
        await manager.maybe_start_agent_loop(mine, SETTINGS, "alice", "hello")
        await manager.maybe_start_agent_loop(theirs, SETTINGS, "bob", "hello")

        await until_running(manager, {theirs}, "bob")
        assert await manager.get_running_agent_loops("alice") == {mine}
        assert await manager.get_running_agent_loops("bob") == {theirs}
        assert await manager.get_running_agent_loops(None) == set()
        assert await manager.get_running_agent_loops("alice", set()) == set()


async def test_two_starts_at_once_give_one_loop():
    async with live_server() as live:
        manager = live.application.manager
        conversation_id = await live.new()
        starts = [
            manager.maybe_start_agent_loop(conversation_id, SETTINGS, None) for _ in range(20)
        ]
        infos = await asyncio.gather(*starts)

        assert len({id(info.event_store) for info in infos}) == 1
        async with manager.attach(conversation_id, None) as conversation:
            await until_resting(manager, conversation_id)
            await until(lambda: conversation.stream.last_state_id == 3)
        log = [one.body for one in await live.log(conversation_id)]
        assert sum(b'"agent_state":"loading"' in body for body in log) == 1
