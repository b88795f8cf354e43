"""Three servers over one database, behind a balancer without stickiness, are one to their clients."""

import time
from itertools import cycle

import pytest

from events.event import AgentState
from tests.support.checker import DeliveryChecker
from tests.support.clients import joined
from tests.support.cluster import TAKE_OVER_SECONDS, cluster
from tests.support.remote import as_stored, remote


@pytest.mark.parametrize("redis", [False, True], ids=["notify", "redis"])
async def test_clients_of_all_nodes_see_every_event_once_and_in_order(tmp_path, redis):
    async with cluster(tmp_path, redis=redis) as running, remote(running.url) as api:
        conversation_id = await api.create()
        urls = [node.url for node in running.nodes]
        async with (
            joined(running.url, conversation_id) as one,
            joined(running.url, conversation_id) as two,
            joined(urls[2], conversation_id) as three,
        ):
            clients = (one, two, three)
            for count, url in zip(range(12), cycle(urls), strict=False):
                async with remote(url) as node:
                    answer = await node.say(conversation_id, f"message {count}", f"key {count}")
                assert answer.status_code == 200, answer.text
            said = f"You said: message {11}"
            for client in clients:
                last = await client.event(lambda event: event.get("message") == said)
                await client.state(AgentState.AWAITING_USER_INPUT, after=last["id"])
        log = await api.log(conversation_id)

    checker = DeliveryChecker(as_stored(log))
    for client in clients:
        checker.check(client.connections)
    asked = [
        event["message"]
        for event in log
        if event.get("source") == "user" and event.get("action") == "message"
    ]
    assert asked == [f"message {count}" for count in range(12)]


async def test_another_node_takes_over_what_a_killed_one_was_at(tmp_path):
    async with cluster(tmp_path) as running, remote(running.url) as api:
        holder, other, _ = running.nodes
        async with remote(holder.url) as first:
            conversation_id = await first.create("before")
        async with joined(other.url, conversation_id) as client:
            await client.event(lambda event: event.get("message") == "You said: before")
            await holder.kill()
            killed = time.monotonic()
            await client.say("after")
            await client.event(lambda event: event.get("message") == "You said: after")
            took = time.monotonic() - killed
            log = await api.log(conversation_id)

    assert took <= TAKE_OVER_SECONDS
    assert [one["id"] for one in log] == list(range(len(log)))
