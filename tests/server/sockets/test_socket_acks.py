"""The acknowledgements of a client's events, and their order."""

import asyncio

import orjson
import pytest

from tests.support.clients import command, message
from tests.support.live import live_server
from tests.support.waiting import WAIT_SECONDS

EMITS = 1_000
REPLY = "You said: "


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


@pytest.fixture
async def client(live):
    async with live.joined(await live.new()) as joined:
        await joined.state("awaiting_user_input")
        yield joined


def answered(text: str):
    return lambda event: event.get("message") == REPLY + text


@pytest.mark.parametrize("event", ["oh_user_action", "oh_action"])
async def test_an_event_is_acknowledged_with_its_id_once_durable(live, client, event):
    acknowledged = await client.send(message("hello"), event)

    log = await live.log(client.conversation_id)
    assert acknowledged == {"status": "ok", "id": acknowledged["id"], "duplicate": False}
    stored = orjson.loads(log[acknowledged["id"]].body)
    assert (stored["message"], stored["source"]) == ("hello", "user")
    await client.event(answered("hello"))


async def test_a_known_key_is_a_duplicate_also_after_reconnecting_and_in_a_new_stream(live):
    conversation_id = await live.new()
    async with live.joined(conversation_id) as first:
        told = await first.say("once", client_id="k1")
        again = await first.say("once", client_id="k1")
    async with live.joined(conversation_id) as second:
        reconnected = await second.say("once", client_id="k1")
    await live.application.manager.close_session(conversation_id)
    async with live.joined(conversation_id) as third:
        reopened = await third.say("once", client_id="k1")

    assert told["duplicate"] is False
    assert again == reconnected == reopened == {"status": "ok", "id": told["id"], "duplicate": True}
    stored = [orjson.loads(event.body) for event in await live.log(conversation_id)]
    assert sum(event.get("client_id") == "k1" for event in stored) == 1


async def test_a_key_in_flight_shares_the_first_ones_outcome(client):
    both = await asyncio.gather(*(client.say("twice", client_id="k2") for _ in range(2)))

    assert sorted(one["duplicate"] for one in both) == [False, True]
    assert both[0]["id"] == both[1]["id"]


MALFORMED: list[tuple[object, str]] = [
    (None, "not_an_object"),
    ([], "not_an_object"),
    ("hello", "not_an_object"),
    (7, "not_an_object"),
    (b"\x00\x01", "not_an_object"),
    ({}, "unknown_kind"),
    ({"action": "dance", "args": {}}, "unknown_kind"),
    ({"action": 1, "args": {}}, "bad_value"),
    ({"action": "run", "args": {"command": "ls"}}, "forbidden_kind"),
    ({"observation": "run", "content": "", "extras": {}}, "forbidden_kind"),
    ({"action": "message"}, "missing_argument"),
    ({"action": "message", "args": None}, "missing_argument"),
    ({"action": "message", "args": []}, "bad_value"),
    ({"action": "message", "args": {}}, "missing_argument"),
    ({"action": "message", "args": {"content": 5}}, "bad_value"),
    ({"action": "message", "args": {"content": "\ud800"}}, "bad_value"),
    ({"action": "message", "args": {"content": b"bytes"}}, "bad_value"),
    ({"action": "message", "args": {"content": "a", "loud": True}}, "unknown_argument"),
    ({"action": "message", "args": {"content": "a", "image_urls": "x"}}, "bad_value"),
    (message("a") | {"id": 4}, "forbidden_field"),
    (message("a") | {"source": "agent"}, "forbidden_field"),
    (message("a") | {"timestamp": "2026-03-02T09:15:07Z"}, "forbidden_field"),
    (message("a") | {"cause": 1}, "forbidden_field"),
    (message("a") | {"llm_metrics": {"accumulated_cost": 9}}, "forbidden_field"),
    (message("a") | {"colour": "red"}, "unknown_field"),
    (message("a") | {"client_id": ""}, "bad_client_id"),
    (message("a") | {"client_id": "x" * 129}, "bad_client_id"),
    (message("a") | {"client_id": 7}, "bad_client_id"),
    (command("error"), "bad_state"),
    (command("dancing"), "bad_state"),
    ({"action": "message", "args": {"content": 2**70}}, "bad_value"),
]


async def test_every_kind_of_malformed_event_is_answered_and_none_is_stored(live, client):
    before = await live.log(client.conversation_id)

    for payload, code in MALFORMED:
        told = await client.send(payload)
        assert told["status"] == "error", payload
        assert told["code"] == code, payload
        assert told["message"], payload

    assert await live.log(client.conversation_id) == before
    assert (await client.say("still here"))["status"] == "ok"


async def test_an_event_without_any_payload_is_answered(live):
    async with live.raw(await live.new()) as client:
        await client.connect()
        await client.connection.send('420["oh_user_action"]')
        while not (text := await client.packet()).startswith("430["):
            continue

    assert orjson.loads(text[3:])[0]["code"] == "not_an_object"


async def test_an_unknown_socket_event_is_answered(client):
    told = await client.send(message("hello"), "oh_unheard_of")

    assert told == {
        "status": "error",
        "code": "bad_request",
        "message": "Unknown event: oh_unheard_of",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ('"\\ud800"', "Unknown event: \ufffd"),
        ("null", "The name of an event must be text"),
        ("7", "The name of an event must be text"),
        ("[" * 900 + "]" * 900, "The name of an event must be text"),
    ],
    ids=["surrogate", "null", "number", "nested"],
)
async def test_an_event_with_an_impossible_name_is_answered(live, name, text):
    async with live.raw(await live.new()) as client:
        await client.connect()
        await client.connection.send(f"427[{name}]")
        while not (answer := await client.packet()).startswith("437["):
            continue

    assert orjson.loads(answer[3:])[0] == {
        "status": "error",
        "code": "bad_request",
        "message": text,
    }


@pytest.mark.parametrize(
    ("payload", "event"),
    [({"action": "dance"}, "oh_user_action"), (message("hello"), "oh_unheard_of")],
)
async def test_a_failure_without_an_ack_is_shown_and_not_stored(live, client, payload, event):
    before = await live.log(client.conversation_id)

    await client.emit(payload, event)
    shown = await client.event(lambda one: bool(one.get("status_update")))

    assert shown["type"] == "error"
    assert shown["message"]
    assert shown["source"] == "environment"
    assert shown["timestamp"].endswith("Z")
    assert not shown["id"].isdigit()
    assert await live.log(client.conversation_id) == before


async def test_a_failure_is_shown_to_its_own_connection_alone(live, client):
    async with live.joined(client.conversation_id) as other:
        await client.emit({"action": "dance"})
        await client.event(lambda one: bool(one.get("status_update")))
        told = await client.say("hello")
        await other.until(lambda one: told["id"] in one.ids)

        assert not any(payload.get("status_update") for payload in other.payloads)


async def test_events_of_one_client_that_waits_for_nothing_arrive_in_order(
    live, client, record_property
):
    await client.say("/quiet")

    for number in range(EMITS):
        await client.emit(message(f"number {number}"))
    await client.until(lambda one: one.payloads[-1].get("message") == "number 999", WAIT_SECONDS)

    stored = [orjson.loads(event.body) for event in await live.log(client.conversation_id)]
    texts = [event["message"] for event in stored if event.get("action") == "message"]
    numbers = [text for text in texts if text.startswith("number ")]
    assert numbers == [f"number {number}" for number in range(EMITS)]
    record_property("figures", f"{len(numbers)} un-awaited emits in order")
