"""The order of slots: loops of other users are left alone, and no turn is lost."""

import asyncio
from contextlib import asynccontextmanager
from typing import ClassVar

import orjson

from events.stores.memory import MemoryEventStore
from runtime_stub.scripted import ScriptedAgent
from server.agent.states import LoopSettings
from tests.support.clients import message
from tests.support.hooked import HookedEventStore
from tests.support.live import live_server, rests, until_resting, until_running
from tests.support.payloads import is_answer
from tests.support.waiting import WAIT_SECONDS, until

SETTINGS = LoopSettings()
BUSY = "/run sleep 600"


class HeldAgent(ScriptedAgent):
    """Is closed when a test lets it."""

    closing: ClassVar[asyncio.Event]
    gate: ClassVar[asyncio.Event]

    async def close(self):
        self.closing.set()
        await self.gate.wait()


class FailingAgent(HeldAgent):
    """Fails at its first opening, and is closed, when a test lets it."""

    opened: ClassVar[int]
    opening: ClassVar[asyncio.Event]
    fails: ClassVar[asyncio.Event]

    async def open(self, conversation_id):
        type(self).opened += 1
        if self.opened == 1:
            self.opening.set()
            await self.fails.wait()
            raise ZeroDivisionError("planned")


class SlowlyDeleting(MemoryEventStore):
    """Deletes when a test lets it."""

    def __init__(self):
        super().__init__()
        self.deleting = asyncio.Event()
        self.gate = asyncio.Event()

    async def delete(self, conversation_id):
        self.deleting.set()
        await self.gate.wait()
        await super().delete(conversation_id)


@asynccontextmanager
async def slow_to_close():
    """A server, and a conversation of it whose agent rests and is closed when a test lets it."""
    HeldAgent.closing, HeldAgent.gate = asyncio.Event(), asyncio.Event()
    async with live_server(agent_class=f"{__name__}:HeldAgent") as live:
        manager = live.application.manager
        conversation_id = await live.new()
        await manager.maybe_start_agent_loop(conversation_id, SETTINGS, None, "hello")
        async with manager.attach(conversation_id, None) as conversation:
            await until_resting(manager, conversation_id)
            yield live, conversation


async def test_a_loop_of_another_user_is_never_closed_to_make_room():
    async with live_server(max_concurrent_conversations=1) as live:
        manager = live.application.manager
        busy, waiting, idle = await live.new("ann"), await live.new("ann"), await live.new("bob")
        await manager.maybe_start_agent_loop(idle, SETTINGS, "bob", "hello")
        await until_resting(manager, idle, "bob")
        await manager.maybe_start_agent_loop(busy, SETTINGS, "ann", BUSY)

        async with manager.attach(waiting, "ann") as queued:
            taken = await manager.accept(queued, message("hello"))

            assert taken.queued
            assert await manager.get_running_agent_loops("ann") == {busy}
            assert await rests(manager, idle, "bob")
        log = [one.body for one in await live.log(idle)]
        assert not any(b'"agent_state":"stopped"' in body for body in log)


async def test_a_message_during_a_stop_is_answered_although_somebody_joins_meanwhile():
    async with slow_to_close() as (live, conversation):
        manager, conversation_id = live.application.manager, conversation.conversation_id
        stopping = asyncio.create_task(manager.close_session(conversation_id))
        await HeldAgent.closing.wait()
        said = await manager.accept(conversation, message("are you there?"))
        async with live.joined(conversation_id) as client:
            HeldAgent.gate.set()
            await stopping
            await client.event(lambda one: is_answer(one) and one["id"] > said.id)


async def test_one_that_waits_with_work_keeps_its_turn_when_somebody_joins_it():
    async with live_server(max_concurrent_conversations=1) as live:
        manager = live.application.manager
        busy, first, second = [await live.new() for _ in range(3)]
        await manager.maybe_start_agent_loop(busy, SETTINGS, None, BUSY)
        async with manager.attach(first, None) as one, manager.attach(second, None) as two:
            assert (await manager.accept(one, message("hello"))).queued
            async with live.joined(first) as client:
                assert (await manager.accept(two, message("hello"))).queued
                await manager.close_session(busy)
                await client.event(is_answer)

                assert await manager.get_running_agent_loops(None) == {first}
        assert not any(b'"agent_state":"loading"' in one.body for one in await live.log(second))


async def test_a_message_between_two_stops_and_their_end_is_answered_by_a_loop_with_a_slot():
    async with slow_to_close() as (live, conversation):
        manager, conversation_id = live.application.manager, conversation.conversation_id
        stops = [asyncio.create_task(manager.close_session(conversation_id)) for _ in range(2)]
        await HeldAgent.closing.wait()
        said = await manager.accept(conversation, message("are you there?"))
        HeldAgent.gate.set()

        assert await asyncio.gather(*stops) == [True, True]
        async with asyncio.timeout(WAIT_SECONDS):
            async for stored in conversation.stream.follow(said.id):
                if is_answer(orjson.loads(stored.body)):
                    break
        assert await manager.is_agent_loop_running(conversation_id)


async def test_a_stop_after_a_message_leaves_no_loop_although_another_stop_was_under_way():
    async with slow_to_close() as (live, conversation):
        manager, conversation_id = live.application.manager, conversation.conversation_id
        first = asyncio.create_task(manager.close_session(conversation_id))
        await HeldAgent.closing.wait()
        await manager.accept(conversation, message("are you there?"))
        HeldAgent.gate.set()

        assert await manager.close_session(conversation_id)
        assert not await manager.is_agent_loop_running(conversation_id)
        assert await first
        assert conversation.loop is None


async def test_a_message_during_a_deletion_costs_its_user_no_slot():
    events = SlowlyDeleting()
    async with live_server(events=events, max_concurrent_conversations=1) as live:
        manager = live.application.manager
        deleted, other = await live.new(), await live.new()
        async with manager.attach(deleted, None) as conversation:
            deletion = asyncio.create_task(manager.delete_conversation(deleted, None))
            await events.deleting.wait()
            await manager.accept(conversation, message("are you there?"))
            assert not await manager.is_agent_loop_running(deleted)
            events.gate.set()
            assert await deletion

        await manager.maybe_start_agent_loop(other, SETTINGS, None, "hello")
        await until_running(manager, {other})


async def test_a_connection_during_a_deletion_costs_its_user_no_slot():
    events = SlowlyDeleting()
    async with live_server(events=events, max_concurrent_conversations=1) as live:
        manager = live.application.manager
        deleted, other = await live.new(), await live.new()
        deletion = asyncio.create_task(manager.delete_conversation(deleted, None))
        await events.deleting.wait()
        async with live.joined(deleted):
            assert not await manager.is_agent_loop_running(deleted)
            events.gate.set()
            assert await deletion

        await manager.maybe_start_agent_loop(other, SETTINGS, None, "hello")
        await until_running(manager, {other})


async def test_one_that_waits_closes_one_idle_loop_however_often_it_is_written_to():
    HeldAgent.closing, HeldAgent.gate = asyncio.Event(), asyncio.Event()
    async with live_server(
        agent_class=f"{__name__}:HeldAgent", max_concurrent_conversations=2
    ) as live:
        manager = live.application.manager
        first, second, waiting = [await live.new() for _ in range(3)]
        for idle in (first, second):
            await manager.maybe_start_agent_loop(idle, SETTINGS, None, "hello")
            await until_resting(manager, idle)
        async with manager.attach(waiting, None) as conversation:
            for _ in range(3):
                assert not (await manager.accept(conversation, message("hello"))).queued
            HeldAgent.gate.set()
            await until_running(manager, {second, waiting})
        log = [one.body for one in await live.log(second)]
        assert not any(b'"agent_state":"stopped"' in body for body in log)


async def test_a_loop_to_which_a_message_is_on_its_way_does_not_give_way():
    held, gate = asyncio.Event(), asyncio.Event()
    gate.set()
    idle = ""

    async def hook(point, conversation_id):
        if (point, conversation_id) == ("append.before", idle):
            held.set()
            await gate.wait()

    store = HookedEventStore(MemoryEventStore(), hook)
    async with live_server(events=store, max_concurrent_conversations=1) as live:
        manager = live.application.manager
        idle, other = await live.new(), await live.new()
        await manager.maybe_start_agent_loop(idle, SETTINGS, None, "hello")
        await until_resting(manager, idle)
        async with manager.attach(idle, None) as first, manager.attach(other, None) as second:
            await first.stream.flush()
            gate.clear()
            held.clear()
            on_its_way = asyncio.create_task(manager.accept(first, message("are you there?")))
            await held.wait()
            assert (await manager.accept(second, message("hello"))).queued
            gate.set()
            said = (await on_its_way).id
            await until_running(manager, {other})

            answers = [orjson.loads(one.body) for one in await live.log(idle)]
            assert any(is_answer(event) for event in answers[said:])


async def test_a_message_in_the_step_in_which_a_stop_begins_is_left_to_the_next_loop():
    async with live_server() as live:
        manager = live.application.manager
        conversation_id = await live.new()
        await manager.maybe_start_agent_loop(conversation_id, SETTINGS, None, "hello")
        await until_resting(manager, conversation_id)
        async with manager.attach(conversation_id, None) as conversation:
            await manager.accept(conversation, message(BUSY))
            await until(lambda: conversation.loop is not None and conversation.loop.working)

            closed, said = await asyncio.gather(
                manager.close_session(conversation_id),
                manager.accept(conversation, message("are you there?")),
            )

            assert closed
            async with asyncio.timeout(WAIT_SECONDS):
                async for stored in conversation.stream.follow(said.id):
                    if is_answer(orjson.loads(stored.body)):
                        break
            assert await manager.is_agent_loop_running(conversation_id)


@asynccontextmanager
async def about_to_fail():
    """A server, and a conversation of it whose loop will fail to start."""
    HeldAgent.closing, HeldAgent.gate = asyncio.Event(), asyncio.Event()
    FailingAgent.opening, FailingAgent.fails = asyncio.Event(), asyncio.Event()
    FailingAgent.opened = 0
    async with live_server(agent_class=f"{__name__}:FailingAgent") as live:
        conversation_id = await live.new()
        await live.application.manager.maybe_start_agent_loop(
            conversation_id, SETTINGS, None, "one"
        )
        async with live.application.manager.attach(conversation_id, None) as conversation:
            async with asyncio.timeout(WAIT_SECONDS):
                await FailingAgent.opening.wait()
            yield live, conversation


async def test_a_message_that_comes_after_a_start_has_failed_is_answered_by_the_next_loop():
    async with about_to_fail() as (live, conversation):
        manager, conversation_id = live.application.manager, conversation.conversation_id
        FailingAgent.fails.set()
        await HeldAgent.closing.wait()
        told = [one.body for one in await live.log(conversation_id)]
        assert any(b'"agent_state":"error"' in body for body in told)

        await manager.accept(conversation, message("two"))
        HeldAgent.gate.set()
        await until_resting(manager, conversation_id)

        log = [orjson.loads(one.body) for one in await live.log(conversation_id)]
        assert len([one for one in log if is_answer(one)]) == 2


async def test_a_start_that_failed_is_not_tried_again_for_what_was_said_before():
    async with about_to_fail() as (live, conversation):
        await live.application.manager.accept(conversation, message("two"))
        FailingAgent.fails.set()
        HeldAgent.gate.set()
        await until_running(live.application.manager, set())

        assert FailingAgent.opened == 1
        assert conversation.loop is None
