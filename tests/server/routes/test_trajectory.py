"""The export of a conversation."""

import asyncio
from typing import Any

import orjson

from events.conformance.records import append, records
from events.damage import DAMAGED_ID
from events.event import EventFlag, StoredEvent
from tests.support.rest import EVERY, assert_refused

TRAJECTORY = f"{EVERY}/c1/trajectory"


def stored(event_id, **fields):
    payload = {"id": event_id, "source": "agent", "message": ""} | fields
    return StoredEvent(event_id, EventFlag.PLAIN, orjson.dumps(payload))


async def export(rest):
    answer = await rest.ask("GET", TRAJECTORY)
    assert answer.status_code == 200, answer.text
    return answer.json()["trajectory"]


async def test_hidden_events_and_heavy_extras_are_left_out(rest):
    await rest.keep("c1", None)
    browsed = {"url": "http://x", "dom_object": {"a": 1}, "screenshot": "data:..."}
    events = [
        stored(0, action="message", args={"content": "seen"}),
        stored(1, action="run", args={"command": "ls", "hidden": True}),
        stored(2, observation="browse", content="", extras=browsed),
    ]
    await append(rest.events, "c1", events)

    first, second = await export(rest)

    assert first["args"] == {"content": "seen"}
    assert second["extras"] == {"url": "http://x"}


async def test_a_log_without_events_exports_as_empty(rest):
    await rest.keep("c1", None)

    assert await export(rest) == []


async def test_a_long_log_is_whole_and_leaves_others_their_turn(rest):
    count = 20_000
    await rest.keep("c1", None)
    await append(rest.events, "c1", records(0, count, "text"))
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    exported = await export(rest)
    counting.cancel()

    assert [event["id"] for event in exported] == list(range(count))
    assert turns >= count / 100


async def test_an_unknown_conversation_has_no_trajectory(rest):
    assert_refused(await rest.ask("GET", TRAJECTORY), 404, "conversation_not_found")


async def test_exporting_opens_nothing_and_starts_nothing(rest):
    await rest.keep("c1", None)

    await export(rest)

    assert await rest.application.manager.get_agent_loop_info() == []


async def test_a_marker_stands_for_an_event_that_cannot_be_read(rest):
    await rest.keep("c1", None)
    await append(rest.events, "c1", [*records(0, 1), StoredEvent(2, EventFlag.PLAIN, b"{}")])

    events = (await rest.ask("GET", TRAJECTORY)).json()["trajectory"]

    assert [event["id"] for event in events] == [0, 1]
    assert events[1]["extras"] == {"error_id": DAMAGED_ID}


async def test_an_export_is_sent_in_small_pieces_however_long_an_event_is(rest):
    conversation_id = await rest.create()
    text = "long " * 200_000
    said = {"action": "message", "args": {"content": text}}
    assert (await rest.ask("POST", f"{EVERY}/{conversation_id}/events", json=said)).is_success
    received = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[bytes] = []
    disconnected = asyncio.Event()

    async def receive():
        if not received:
            await disconnected.wait()
        return received.pop()

    async def send(message):
        sent.append(message.get("body", b""))

    path = f"{EVERY}/{conversation_id}/trajectory"
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
    }
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope |= {"scheme": "http", "headers": [(b"host", b"localhost:3000")]}
    scope |= {"client": ("127.0.0.1", 1), "server": ("localhost", 3000)}
    await rest.application.asgi(scope, receive, send)

    assert max(map(len, sent)) <= 64 * 1024
    events = orjson.loads(b"".join(sent))["trajectory"]
    assert text in [event.get("args", {}).get("content") for event in events]
