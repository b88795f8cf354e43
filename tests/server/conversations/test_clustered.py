"""Managers of several nodes where one of them dies, or loses its lease."""

import asyncio

import pytest

from server.conversations.notices import title_notice
from tests.support.clients import message
from tests.support.live import until_running
from tests.support.managers import LIMIT, MANAGERS, USER
from tests.support.waiting import another_append, until


@pytest.fixture
async def nodes(tmp_path):
    async with MANAGERS["clustered-3"](tmp_path) as opened:
        yield opened


async def _holder(nodes, sid):
    row = await nodes.each[0].claims.loop_of(sid)
    return next(node for node in nodes.each if node.claims.name == row.node)


def _state(state):
    return lambda one: one.get("extras", {}).get("agent_state") == state


async def _working(nodes):
    """A conversation whose agent is at work, and the node that runs it."""
    sid = await nodes.new()
    await nodes.say(sid, "work")
    await nodes.heard(sid, _state("running"))
    return sid, await _holder(nodes, sid)


async def test_a_loop_at_work_is_taken_over_from_a_dead_node_without_a_word_of_that_one(nodes):
    sid, dead = await _working(nodes)
    before = len(await nodes.log(sid))
    dead.claims.dead = dead.claims.lease.lost = True
    await dead.manager.declared_dead()

    for node in nodes.each:
        node.manager.node_died()
    await nodes.heard(sid, _state("loading"), after=before - 1)
    assert (await _holder(nodes, sid)) is not dead
    nodes.world.finish("work")
    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello", after=before)
    states = await nodes.states(sid)
    assert states.count("loading") == 2
    assert "stopped" not in states


async def test_a_loop_at_rest_is_not_brought_up_when_its_node_dies(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello")
    await nodes.heard(sid, _state("awaiting_user_input"))
    dead = await _holder(nodes, sid)
    dead.claims.dead = dead.claims.lease.lost = True
    await dead.manager.declared_dead()
    await until_running(nodes.each[0].manager, set(), USER)

    await nodes.say(sid, "are you there?")
    await nodes.answered(sid, "are you there?")
    assert (await nodes.states(sid)).count("loading") == 2


async def test_a_message_that_comes_while_its_loop_stops_elsewhere_is_answered(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello")
    holder = await _holder(nodes, sid)
    other = next(node for node in nodes.each if node is not holder)
    closing = nodes.world.held_closes[sid] = asyncio.Event()
    stopping = asyncio.create_task(holder.manager.close_session(sid))
    await until(lambda: holder.manager.opened(sid, USER).loop is None)
    async with other.manager.attach(sid, USER) as conversation:
        await other.manager.accept(conversation, message("are you there?"))
    closing.set()

    assert await stopping
    await nodes.answered(sid, "are you there?")


async def test_a_message_in_line_is_answered_although_its_node_goes(nodes):
    sids = [await nodes.new() for _ in range(LIMIT)]
    going, *nodes.each = nodes.each
    for sid in sids:
        await nodes.say(sid, f"work {sid}")
        await nodes.heard(sid, _state("running"))
    late = await nodes.new()
    async with going.manager.attach(late, USER) as conversation:
        assert (await going.manager.accept(conversation, message("hello"))).queued
    await going.manager.shutdown()
    going.claims.dead = True
    for node in nodes.each:
        node.manager.node_died()
    nodes.world.finish(f"work {sids[0]}")

    await nodes.answered(late, "hello")


async def test_a_node_without_its_lease_waits_before_a_step_and_goes_on_once_it_holds(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello")
    holder = await _holder(nodes, sid)
    holder.claims.lease.open.clear()
    accepted = await nodes.say(sid, "are you there?")
    await nodes.heard(sid, lambda one: one.get("action") == "recall", after=accepted.id)
    await another_append(nodes.events)
    assert not [one for one in await nodes.log(sid) if one.get("message") == "done: are you there?"]

    holder.claims.lease.open.set()
    await nodes.answered(sid, "are you there?")


async def test_notices_reach_the_clients_of_every_node_and_each_once(nodes):
    sid = await nodes.new()
    clients = [await nodes.join(sid, node) for node in nodes.each]
    notice = title_notice(sid, "a title")
    holder = await _holder(nodes, sid)
    async with holder.manager.attach(sid, USER) as conversation:
        conversation._audience.notify(sid, notice)
    for client in clients:
        await until(lambda: notice in client.notices)  # noqa: B023
        assert client.notices.count(notice) == 1


async def test_a_client_that_joins_elsewhere_is_told_that_the_loop_runs_and_where(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello")
    holder = await _holder(nodes, sid)
    other = next(node for node in nodes.each if node is not holder)
    joined = await other.manager.join_conversation(sid, "connection", None, USER)

    assert (joined.info.status, joined.info.node) == ("RUNNING", holder.claims.name)
    assert joined.info.event_store is joined.conversation.stream
    assert joined.conversation.loop is None
    infos = {node: (await node.manager.get_agent_loop_info(USER))[0] for node in (holder, other)}
    assert infos[holder].node is None
    assert infos[other].node == holder.claims.name
    assert infos[other].next_id == joined.conversation.stream.next_id


async def _with_partial(nodes, *, opened_by):
    """A text that is being written, in its checkpoint; so many other nodes have opened it before."""
    sid, holder = await _working(nodes)
    others = [node for node in nodes.each if node is not holder]
    for number, node in enumerate(others[:opened_by]):
        await node.manager.join_conversation(sid, f"connection {number}", None, USER)
    partial = holder.manager.opened(sid, USER).stream.partials.begin("message", "content", 0)
    partial.write("half an ans")
    await until(lambda: nodes.events.asides(sid))
    return sid, holder, others, partial


async def _completed(nodes, sid, partial):
    return [one for one in await nodes.log(sid) if one.get("partial") == partial.id]


async def test_a_text_that_is_being_written_is_not_cut_short_by_those_who_open_it_elsewhere(nodes):
    sid, _, others, partial = await _with_partial(nodes, opened_by=0)
    for node in others:
        async with node.manager.attach(sid, USER):
            assert await _completed(nodes, sid, partial) == []
    assert await nodes.events.asides(sid)


@pytest.mark.parametrize("opened_by", [0, 2])
async def test_a_text_of_a_dead_node_is_in_the_log_once_when_its_loop_is_taken_over(
    opened_by, nodes
):
    sid, dead, others, partial = await _with_partial(nodes, opened_by=opened_by)
    before = len(await nodes.log(sid))
    dead.claims.dead = dead.claims.lease.lost = True
    for node in others:
        node.manager.node_died()
    loading = await nodes.heard(sid, _state("loading"), after=before - 1)

    (text,) = await _completed(nodes, sid, partial)
    assert (text["message"], text["interrupted"]) == ("half an ans", "crashed")
    assert text["id"] < loading
    assert await nodes.events.asides(sid) == {}
