"""One damaged event: what lies beside it is served, and a marker stands for it."""

import sqlite3
from contextlib import closing

import pytest

from events.damage import DAMAGED_ID, is_marker
from events.event import AgentState, EventSource
from events.observations import NullObservation
from events.serialization import decode
from events.stores.memory import MemoryEventStore
from runtime_stub.scripted import ScriptedAgent
from tests.support.clients import joined, message
from tests.support.loops import Running
from tests.support.remote import server_over
from tests.support.rest import assert_refused

KINDS = ("sqlite", "local")


def damage(folder, kind, conversation_id, event_id):
    """Change a byte of a stored event behind the server's back."""
    if kind == "sqlite":
        with closing(sqlite3.connect(folder / "parley.sqlite3", isolation_level=None)) as one:
            number = "(SELECT number FROM conversations WHERE conversation_id = ?)"
            changed = [
                one.execute(
                    f"UPDATE {table} SET body = CAST(replace(body, 'say', 'sbz') AS BLOB)"  # noqa: S608
                    f" WHERE key = ({number} << 32 | ?)",
                    (conversation_id, event_id),
                ).rowcount
                for table in ("events", "arrivals")
            ]
        assert sum(changed) == 1
        return
    for path in (folder / "files" / "logs" / conversation_id).rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        mark = b'{"id":%d,' % event_id
        if mark in content:
            place = content.index(b"say", content.index(mark))
            path.write_bytes(content[:place] + b"sbz" + content[place + 3 :])


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
async def damaged(tmp_path, kind):
    """A conversation that was talked in, and the id of its event that is damaged since."""
    async with server_over(tmp_path, kind) as (_, api):
        created = await api.create()
        said = [await api.post(created, message(f"say {number}")) for number in range(4)]
    damage(tmp_path, kind, created, said[1]["id"])
    return created, said[1]["id"]


async def test_the_page_of_a_damaged_event_is_served_with_a_marker_in_its_place(
    tmp_path, kind, damaged, caplog
):
    conversation_id, event_id = damaged
    async with server_over(tmp_path, kind) as (server, api):
        events = await api.log(conversation_id)
        assert [event["id"] for event in events] == list(range(len(events)))
        (marker,) = [event for event in events if is_marker(decode(event))]
        assert marker["id"] == event_id
        assert marker["timestamp"] == events[event_id - 1]["timestamp"]
        found = await api.client.get(f"/api/conversations/{conversation_id}/trajectory")
        assert event_id in [event["id"] for event in found.json()["trajectory"]]

        async with joined(server.url, conversation_id) as client:
            shown = await client.event(lambda payload: payload["id"] == event_id)
            assert shown["observation"] == "error"
            assert shown["extras"] == {"error_id": DAMAGED_ID}
            assert shown["source"] == "agent"
            answered = await client.say("hello")
            await client.event(lambda payload: payload["id"] == answered["id"])
            await client.state(AgentState.AWAITING_USER_INPUT, after=answered["id"])
            ids = [payload["id"] for payload in client.events]
            assert ids == sorted(set(ids))
    lines = [one.getMessage() for one in caplog.records if one.name == "events.page_reader"]
    text = f"damaged records {event_id}-{event_id} in conversation {conversation_id}"
    assert set(lines) == {f"{text}; serving markers instead"}


async def test_what_a_conversation_with_a_damaged_event_used_is_counted(tmp_path, kind, damaged):
    async with server_over(tmp_path, kind) as (_, api):
        usage = (await api.client.get("/api/admin/usage")).json()
        events = await api.log(damaged[0])

    assert usage["complete"] is True
    assert sum(row["events"] for row in usage["results"]) == len(events)


async def test_a_conversation_with_a_damaged_event_can_be_deleted(tmp_path, kind, damaged):
    async with server_over(tmp_path, kind) as (_, api):
        gone = await api.client.delete(f"/api/conversations/{damaged[0]}")
        assert gone.json() is True
        assert await api.listed() == {}


def damage_head(folder, kind, conversation_id):
    if kind == "sqlite":
        with closing(sqlite3.connect(folder / "parley.sqlite3", isolation_level=None)) as one:
            one.execute(
                "UPDATE conversations SET next_id = 2 WHERE conversation_id = ?",
                (conversation_id,),
            )
    else:
        tail = folder / "files" / "logs" / conversation_id / "tail"
        max(tail.iterdir()).write_bytes(b"")


async def test_a_conversation_whose_head_is_damaged_is_refused_alone_and_can_be_deleted(
    tmp_path, kind
):
    async with server_over(tmp_path, kind) as (_, api):
        damaged, sound = await api.create_many(2)
        await api.post(damaged, message("x"))
    damage_head(tmp_path, kind, damaged)

    async with server_over(tmp_path, kind) as (server, api):
        path = f"/api/conversations/{damaged}"
        for answer in (
            await api.client.get(f"{path}/events"),
            await api.client.get(f"{path}/trajectory"),
            await api.client.post(f"{path}/message", json={"message": "x"}),
        ):
            assert_refused(answer, 500, "damaged")
        async with joined(server.url, sound) as client:
            await client.say("hello")
            await client.state(AgentState.AWAITING_USER_INPUT)
        assert (await api.client.delete(path)).json() is True
        assert [*await api.listed()] == [sound]


class Watching(ScriptedAgent):
    """An agent that notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def observe(self, event):
        self.seen.append(event)
        super().observe(event)


class Holed(MemoryEventStore):
    """A log in which one event is lost."""

    lost = -1

    async def read(self, conversation_id, start_id, end_id):
        events = await super().read(conversation_id, start_id, end_id)
        return [event for event in events if event.id != self.lost]


async def test_an_agent_that_comes_up_over_a_damaged_event_is_told_of_it_and_works():
    store = Holed()
    async with Running(Watching(), store=store) as one:
        first = await one.say("one")
        await one.state(AgentState.AWAITING_USER_INPUT, first)
    store.lost = lost = first

    async with Running(Watching(), store=store) as one:
        assert [event.id for event in one.agent.seen if is_marker(event)] == [lost]
        said = await one.say("three")
        await one.state(AgentState.AWAITING_USER_INPUT, said)
        assert [one.agent.seen[-2].content, one.agent.seen[-1].content] == [
            "three",
            "You said: three",
        ]


async def test_an_agent_that_reads_on_over_a_damaged_event_is_told_of_it():
    store = Holed()
    async with Running(Watching(), store=store) as one:
        await one.state(AgentState.AWAITING_USER_INPUT)
        store.lost = (await one.stream.append(NullObservation(), EventSource.ENVIRONMENT)).id

        await one.loop._handle(await one.stream.read(store.lost))

        assert is_marker(one.agent.seen[-1])
