"""A storage that says nothing about an append: whoever waits is told in time, and may ask again."""

from events.stores.memory import MemoryEventStore
from tests.support.clients import message
from tests.support.faulty_store import FaultyEventStore, Held
from tests.support.live import live_server
from tests.support.remote import CONVERSATIONS, remote

NEVER_READABLE = 10**9


async def test_an_append_without_an_outcome_is_answered_at_its_deadline_and_stored_once_in_the_end():
    held = Held()
    store = FaultyEventStore(MemoryEventStore(), [held])
    async with (
        live_server(events=store, append_deadline_seconds=0.2) as server,
        remote(server.url) as api,
    ):
        conversation_id = await server.new()
        said = message("hello") | {"client_id": "one"}
        path = f"{CONVERSATIONS}/{conversation_id}/events"

        async with server.joined(conversation_id) as client:
            store.unreadable = NEVER_READABLE
            unknown = await api.client.post(path, json=said)
            store.unreadable = 0
            held.release()
            stored = await api.post(conversation_id, said)
            await client.event(lambda one: one.get("message") == "hello")
            assert client.disconnects == []

        log = await api.log(conversation_id)

    assert (unknown.status_code, unknown.json()["code"]) == (503, "outcome_unknown")
    assert [one["id"] for one in log if one.get("client_id") == "one"] == [stored["id"]]
