"""Random payloads and packets over real sockets: each is answered, and nobody else is troubled."""

import logging
from random import Random

import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.clients import message
from tests.support.fuzz_mutants import variants
from tests.support.live import live_server
from tests.support.seeds import VARIABLE, choices, chosen_seed

GOOD: tuple[object, ...] = (
    {"action": "message", "args": {"content": "x", "image_urls": ["a"]}, "client_id": "k"},
    {"action": "change_agent_state", "args": {"agent_state": "stopped"}},
    {"action": "run", "args": {"command": "ls"}},
    {"observation": "run", "content": "", "extras": {"command": "ls"}},
    [],
    "text",
    None,
)
PACKETS = (
    '42["oh_user_action",{"action":"message","args":{"content":"x"}}]',
    '4217["oh_action",{"action":"nothing"}]',
    "40{}",
    "41",
    "43[1]",
    "2probe",
    '451-["oh_user_action",{"_placeholder":true,"num":0}]',
    "5",
    "6",
)
PAYLOADS = 300
CONNECTIONS = 12


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


def sendable(value) -> bool:
    try:
        orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        return False
    return True


def payloads(random: Random):
    while True:
        yield from filter(sendable, variants(random.choice(GOOD), random, 20))


async def test_every_payload_is_acknowledged_and_refusals_are_readable(live, caplog):
    seed = chosen_seed()
    random = choices(seed)
    refused = 0
    async with live.raw(await live.new()) as client:
        await client.connect()
        assert (await client.send(message("first")))["status"] == "ok"
        for _, payload in zip(range(PAYLOADS), payloads(random), strict=False):
            event = random.choice(["oh_user_action", "oh_action", "oh_other"])
            answer = await client.send(payload, event)

            if answer["status"] == "error":
                refused += 1
                assert answer["code"], f"{VARIABLE}={seed}"
                assert answer["message"].isprintable(), f"{VARIABLE}={seed} {answer}"

        assert (await client.send(message("last")))["status"] == "ok"
    assert refused > PAYLOADS / 3, f"{VARIABLE}={seed}"
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_bent_packets_end_their_own_connection_at_most(live, caplog):
    seed = chosen_seed()
    random = choices(seed)
    conversation_id = await live.new()
    async with live.raw(conversation_id) as witness:
        await witness.connect()
        for _ in range(CONNECTIONS):
            async with live.raw(conversation_id) as client:
                await client.connect()
                try:
                    for packet in variants(random.choice(PACKETS), random, 10):
                        await client.connection.send(packet.encode(errors="replace").decode())
                    await client.connection.close()
                except ConnectionClosed:
                    continue

        answer = await witness.send(message("still here"))

    assert answer["status"] == "ok", f"{VARIABLE}={seed}"
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
