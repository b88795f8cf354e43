"""Every kind of conversation manager; with several nodes each call goes to any of them."""

import asyncio
from functools import partial

import pytest

from events.batch import Appended
from events.errors import StreamClosed
from server.conversations.manager import InUse
from server.errors import AlreadyDecided
from storage.errors import ConversationDeleted, ConversationNotFound
from storage.promise import Promise
from tests.support.clients import message
from tests.support.live import until_running
from tests.support.managers import LIMIT, MANAGERS, USER
from tests.support.waiting import until


@pytest.fixture(params=[*MANAGERS])
async def nodes(request, tmp_path):
    async with MANAGERS[request.param](tmp_path) as opened:
        yield opened


async def test_joining_attaches_a_connection_and_starts_the_loop(nodes):
    sid = await nodes.new()
    client = await nodes.join(sid)
    await nodes.heard(sid, _state("awaiting_user_input"))
    manager = client.node.manager

    assert client.conversation is manager.opened(sid, USER)
    assert manager.opened(sid, "bob") is None
    assert await manager.get_connections(USER) == {client.connection_id: sid}
    assert await nodes.any.is_agent_loop_running(sid)
    with pytest.raises(ValueError, match="joined already"):
        await manager.join_conversation(sid, client.connection_id, None, USER)
    await client.drop()
    assert await manager.get_connections(USER) == {}
    assert await nodes.any.is_agent_loop_running(sid)
    await manager.disconnect_from_session("unknown")


async def test_a_message_accepted_by_any_node_is_answered_and_heard_by_every_client(nodes):
    sid = await nodes.new()
    clients = [await nodes.join(sid, node) for node in nodes.each]
    for count in range(4):
        text = f"message {count}"
        accepted = await nodes.say(sid, text)
        assert (accepted.duplicate, accepted.queued) == (False, False)
        answer = await nodes.answered(sid, text, after=accepted.id)
        for client in clients:
            await until(lambda: client.conversation.stream.next_id > answer)  # noqa: B023

    log = await nodes.log(sid)
    assert [one["id"] for one in log] == list(range(len(log)))
    assert (await nodes.states(sid)).count("loading") == 1
    assert nodes.world.most[sid] == 1
    for client in clients:
        ids = [one["id"] for one in client.payloads]
        assert ids == list(range(ids[0], ids[-1] + 1))


async def test_a_message_sent_twice_under_its_key_is_stored_and_answered_once(nodes):
    sid = await nodes.new()
    first = await nodes.say(sid, "hello", key="k")
    await nodes.answered(sid, "hello")
    again = [await nodes.say(sid, "hello", key="k") for _ in nodes.each]
    await nodes.say(sid, "bye")
    await nodes.answered(sid, "bye")

    assert first.duplicate is False
    assert [(one.id, one.duplicate) for one in again] == [(first.id, True)] * len(again)
    said = [one["message"] for one in await nodes.log(sid) if one.get("action") == "message"]
    assert said == ["hello", "done: hello", "bye", "done: bye"]


async def test_events_are_sent_by_connection_and_by_conversation(nodes):
    sid = await nodes.new()
    client = await nodes.join(sid)
    manager = client.node.manager
    await manager.send_to_event_stream(client.connection_id, message("by connection"))
    await manager.send_event_to_conversation(sid, message("by conversation"))

    await nodes.answered(sid, "by connection")
    await nodes.answered(sid, "by conversation")
    with pytest.raises(ConversationNotFound):
        await manager.send_to_event_stream("unknown", message("hello"))
    with pytest.raises(ConversationNotFound):
        await manager.send_event_to_conversation("unknown", message("hello"))


async def test_an_initial_message_is_durable_when_the_start_returns(nodes):
    sid = await nodes.new()
    info = await nodes.any.maybe_start_agent_loop(sid, None, USER, "hello", client_id="k")
    said = [one.get("message") for one in await nodes.log(sid) if one["source"] == "user"]

    assert (info.conversation_id, info.user_id, info.queued) == (sid, USER, False)
    assert "hello" in said
    await nodes.answered(sid, "hello")


async def test_starts_at_once_give_one_loop(nodes):
    sid = await nodes.new()
    starts = [nodes.any.maybe_start_agent_loop(sid, None, USER) for _ in range(20)]
    infos = await asyncio.gather(*starts)
    await nodes.heard(sid, _state("awaiting_user_input"))

    assert {info.queued for info in infos} == {False}
    assert (await nodes.states(sid)).count("loading") == 1
    assert nodes.world.most[sid] == 1


async def test_a_loop_is_stopped_by_any_node_and_started_again_by_a_message(nodes):
    sid = await nodes.new()
    client = await nodes.join(sid)
    await nodes.heard(sid, _state("awaiting_user_input"))

    assert await nodes.any.close_session(sid) is True
    assert not await nodes.any.is_agent_loop_running(sid)
    assert (await nodes.states(sid))[-1] == "stopped"
    assert await nodes.any.close_session(sid) is False
    assert await nodes.any.close_session("unknown") is False
    assert not client.dropped.is_set()

    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello")


async def test_a_stop_cuts_work_short(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "work")
    await nodes.heard(sid, _state("running"))

    assert await nodes.any.close_session(sid) is True
    assert nodes.world.runtimes[sid] == 0
    assert await nodes.any.get_running_agent_loops(USER) == set()


async def test_a_message_beyond_the_limit_waits_until_a_loop_rests(nodes):
    busy = await _as_many_as_may_work(nodes)
    late = await nodes.new()
    accepted = await nodes.say(late, "hello")

    assert accepted.queued is True
    assert await nodes.any.get_running_agent_loops(USER) == {*busy}
    assert not await nodes.any.is_agent_loop_running(late)
    infos = await nodes.any.get_agent_loop_info(USER)
    assert {one.conversation_id: one.queued for one in infos} == dict.fromkeys(busy, False) | {
        late: True
    }
    other = await nodes.new("bob")
    assert (await nodes.say(other, "hello", user_id="bob")).queued is False

    nodes.world.finish(f"work {busy[0]}")
    await nodes.answered(late, "hello")
    assert nodes.world.most_together[USER] == LIMIT


async def test_no_more_loops_than_the_limit_run_however_many_messages_come_at_once(nodes):
    sids = [await nodes.new() for _ in range(4 * LIMIT)]
    await asyncio.gather(*(nodes.say(sid, f"hello {sid}") for sid in sids))
    for sid in sids:
        await nodes.answered(sid, f"hello {sid}")

    assert nodes.world.most_together[USER] == LIMIT
    assert {nodes.world.most[sid] for sid in sids} == {1}


async def test_stopping_what_waits_gives_up_its_turn(nodes):
    await _as_many_as_may_work(nodes)
    late = await nodes.new()
    assert (await nodes.say(late, "hello")).queued

    assert await nodes.any.close_session(late) is False
    assert [one.conversation_id for one in await nodes.any.get_agent_loop_info(USER, {late})] == []


async def test_any_node_takes_the_decision_about_an_action_and_only_the_first(nodes):
    sid = await nodes.new()
    clients = [await nodes.join(sid, node) for node in nodes.each]
    await nodes.say(sid, "run true")
    asked = await nodes.heard(sid, lambda one: one.get("action") == "run")
    for client in clients:
        await until(lambda: asked in client.conversation.approvals)  # noqa: B023
    decision = {"agent_state": "user_confirmed", "of": asked}
    for client in clients:
        decided = {"action": "change_agent_state", "args": decision}
        if client is clients[0]:
            await client.node.manager.accept(client.conversation, decided)
        else:
            await until(lambda: client.conversation.approvals.ended(asked))  # noqa: B023
            with pytest.raises(AlreadyDecided):
                await client.node.manager.accept(client.conversation, decided)
    ran = await nodes.heard(sid, lambda one: one.get("observation") == "run")
    assert ran > asked


async def test_lists_show_the_loops_of_an_owner(nodes):
    mine, theirs, ownerless = await nodes.new(), await nodes.new("bob"), await nodes.new(None)
    quiet = await nodes.new()
    for sid, user_id in ((mine, USER), (theirs, "bob"), (ownerless, None)):
        await nodes.say(sid, "work", user_id=user_id)
        await nodes.heard(sid, _state("running"), user_id=user_id)
    manager = nodes.any

    assert await manager.get_running_agent_loops(USER) == {mine}
    assert await manager.get_running_agent_loops("bob") == {theirs}
    assert await manager.get_running_agent_loops() == {ownerless}
    assert await manager.get_running_agent_loops(USER, {quiet, theirs}) == set()
    assert await manager.get_running_agent_loops(USER, set()) == set()
    infos = await manager.get_agent_loop_info(USER)
    assert [(one.conversation_id, one.status, one.url) for one in infos] == [
        (mine, "RUNNING", f"/api/conversations/{mine}")
    ]
    assert await manager.get_agent_loop_info(USER, {theirs}) == []
    everybodys = await manager.every_agent_loop()
    assert {(one.conversation_id, one.user_id) for one in everybodys} == {
        (mine, USER),
        (theirs, "bob"),
        (ownerless, None),
    }


async def test_connections_are_listed_by_owner_and_filter(nodes):
    node = nodes.each[0]
    mine, theirs = await nodes.new(), await nodes.new("bob")
    client = await nodes.join(mine, node)
    await nodes.join(theirs, node, "bob")

    assert await node.manager.get_connections(USER) == {client.connection_id: mine}
    assert await node.manager.get_connections(USER, {theirs}) == {}
    assert await node.manager.get_connections(USER, {mine}) == {client.connection_id: mine}
    assert await node.manager.get_connections() == {}


async def test_unknown_foreign_and_deleted_conversations_are_alike(nodes):
    foreign, deleted = await nodes.new("bob"), await nodes.new()
    await nodes.say(deleted, "hello")
    assert await nodes.any.delete_conversation(deleted, USER) is True
    for sid in ("unknown", foreign, deleted):
        for node in nodes.each:
            with pytest.raises(ConversationNotFound):
                async with node.manager.attach(sid, USER):
                    raise AssertionError(f"{sid} was opened")
            with pytest.raises(ConversationNotFound):
                await node.manager.join_conversation(sid, "connection", None, USER)
            with pytest.raises(ConversationNotFound):
                await node.manager.maybe_start_agent_loop(sid, None, USER, "hello")
            assert await node.manager.delete_conversation(sid, USER) is False
            assert node.manager.opened(sid, USER) is None
    assert not (await nodes.events.head(foreign)).deleted


async def test_a_foreigner_changes_nothing_in_an_open_conversation(nodes):
    sid = await nodes.new("bob")
    await nodes.join(sid, user_id="bob")
    for node in nodes.each:
        with pytest.raises(ConversationNotFound):
            await node.manager.join_conversation(sid, "connection", None, USER)
        assert await node.manager.delete_conversation(sid, USER) is False
    await nodes.say(sid, "hello", user_id="bob")
    assert await nodes.any.is_agent_loop_running(sid)


async def test_deleting_tells_every_client_the_end_and_drops_it(nodes):
    sid = await nodes.new()
    clients = [await nodes.join(sid, node) for node in nodes.each for _ in range(2)]
    await nodes.say(sid, "work")
    await nodes.heard(sid, _state("running"))

    assert await nodes.any.delete_conversation(sid, USER) is True
    for client in clients:
        await asyncio.wait_for(client.dropped.wait(), 30)
        assert client.states[-1] == "stopped"
    assert nodes.world.runtimes[sid] == 0
    assert (await nodes.events.head(sid)).deleted
    assert not await nodes.records.for_user(USER).exists(sid)
    await until_running(nodes.any, set(), USER)


async def test_the_id_of_a_deleted_conversation_is_spent(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "hello")
    await nodes.answered(sid, "hello")
    assert await nodes.any.delete_conversation(sid, USER) is True
    with pytest.raises(ConversationDeleted):
        await nodes.new(USER, sid)


async def test_only_unused_conversations_are_deleted_as_such(nodes):
    asked = []

    async def confirm(answer):
        asked.append(answer)
        return answer

    yes, no = partial(confirm, True), partial(confirm, False)  # noqa: FBT003
    used, unused = await nodes.new(), await nodes.new()
    client = await nodes.join(used)
    manager = client.node.manager

    assert await manager.use_of(used, USER) is InUse.OPEN
    assert await manager.delete_unused(used, USER, yes) is False
    assert asked == []
    assert await manager.use_of(unused, USER) is None
    assert await manager.delete_unused(unused, USER, no) is False
    assert not (await nodes.events.head(unused)).deleted
    assert await manager.delete_unused(unused, USER, yes) is True
    assert asked == [False, True]
    assert (await nodes.events.head(unused)).deleted


async def test_a_drained_manager_stores_messages_and_answers_them_once_it_resumes(nodes):
    resting, late = await nodes.new(), await nodes.new()
    await nodes.say(resting, "hello")
    await nodes.answered(resting, "hello")
    for node in nodes.each:
        await node.manager.drain(30)

    assert await nodes.any.get_running_agent_loops(USER) == set()
    accepted = await nodes.say(late, "hello")
    assert accepted.queued is True
    assert [one["message"] for one in await nodes.log(late)] == ["hello"]
    for node in nodes.each:
        node.manager.resume()
    await nodes.answered(late, "hello")


async def test_a_drain_ends_work_at_its_deadline(nodes):
    sid = await nodes.new()
    await nodes.say(sid, "work")
    await nodes.heard(sid, _state("running"))
    for node in nodes.each:
        await node.manager.drain(0.05)

    assert await nodes.any.get_running_agent_loops(USER) == set()
    assert nodes.world.runtimes[sid] == 0


async def test_a_shutdown_makes_durable_what_was_accepted(nodes):
    sid = await nodes.new()
    node = nodes.each[0]
    client = await nodes.join(sid, node)
    promises: list[Promise[Appended]] = [Promise() for _ in range(20)]
    for count, promise in enumerate(promises):
        data = message(f"message {count}")
        node.manager.take(client.conversation, data, promise.settle, lambda: None)
    await node.manager.shutdown()
    ids = [(await promise).id for promise in promises]

    log = await nodes.log(sid)
    assert [log[one]["message"] for one in ids] == [f"message {count}" for count in range(20)]
    with pytest.raises(StreamClosed):
        async with node.manager.attach(sid, USER):
            raise AssertionError("it was opened")


async def _as_many_as_may_work(nodes):
    sids = [await nodes.new() for _ in range(LIMIT)]
    for sid in sids:
        await nodes.say(sid, f"work {sid}")
        await nodes.heard(sid, _state("running"))
    return sids


def _state(state):
    return lambda one: one.get("extras", {}).get("agent_state") == state
