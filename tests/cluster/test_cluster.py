"""Three servers over one database, behind a balancer without stickiness, are one to their clients."""

from functools import partial
from itertools import cycle
from uuid import uuid4

import pytest

from events.event import AgentState
from tests.support.checker import DeliveryChecker
from tests.support.clients import joined
from tests.support.cluster import cluster
from tests.support.remote import as_stored, remote
from tests.support.waiting import until

MESSAGES = 12
SECRET = "value-of-a-secret"  # noqa: S105 - of nobody


@pytest.mark.parametrize("redis", [False, True], ids=["notify", "redis"])
async def test_clients_of_all_servers_see_every_event_once_and_all_mask_a_new_secret(
    tmp_path, redis
):
    async with cluster(tmp_path, redis=redis) as running, remote(running.url) as api:
        conversation_id = await api.create()
        urls = [node.url for node in running.nodes]
        async with (
            joined(running.url, conversation_id) as one,
            joined(running.url, conversation_id) as two,
            joined(urls[2], conversation_id) as three,
        ):
            clients = (one, two, three)
            for count, url in zip(range(MESSAGES), cycle(urls), strict=False):
                await say(url, conversation_id, f"message {count}")
            await keep_secret(urls[0], "NAME", SECRET)
            for url in urls:
                await until(partial(is_masked, url, conversation_id))
            await say(urls[0], conversation_id, "the end")
            for client in clients:
                said = await client.event(lambda event: event.get("message") == "You said: the end")
                await client.state(AgentState.AWAITING_USER_INPUT, after=said["id"])
        log = await api.log(conversation_id)

    checker = DeliveryChecker(as_stored(log))
    for client in clients:
        checker.check(client.connections)
    asked = [
        one["message"] for one in log if one.get("action") == "message" and one["source"] == "user"
    ]
    assert asked[:MESSAGES] == [f"message {count}" for count in range(MESSAGES)]
    assert asked[-1] == "the end"


async def say(url, conversation_id, text):
    async with remote(url) as node:
        answer = await node.say(conversation_id, text, f"key {hash(text)}")
    assert answer.status_code == 200, answer.text


async def is_masked(url, conversation_id):
    async with remote(url) as node:
        answer = await node.say(conversation_id, f"it is {SECRET}", str(uuid4()))
        log = await node.log(conversation_id)
    return SECRET not in log[answer.json()["id"]]["message"]


async def keep_secret(url, name, value):
    async with remote(url) as node:
        answer = await node.client.post("/api/secrets", json={"name": name, "value": value})
    assert answer.status_code == 201, answer.text
