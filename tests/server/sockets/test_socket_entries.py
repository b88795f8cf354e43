"""The one table of connections: whichever way a client goes, no entry of it is left."""

import asyncio

import pytest

from storage.conversations.memory import MemoryConversations
from tests.support.clients import message
from tests.support.hooked import HookedConversationStores
from tests.support.live import live_server
from tests.support.polling import polling_client
from tests.support.waiting import until


class Gate:
    """Lets a look at a record begin, and go on when a test lets it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def hook(self, point: str, _conversation_id: str) -> None:
        if point == "get_metadata.before" and not self.open.is_set():
            self.reached.set()
            await self.open.wait()


async def closes(live, conversation_id, _gate):
    async with live.joined(conversation_id) as client:
        assert (await client.say("hello"))["status"] == "ok"


async def is_cut(live, conversation_id, _gate):
    async with live.raw(conversation_id) as client:
        await client.connect()
        await client.emit(message("hello"))
        client.cut()


async def leaves_the_namespace_and_joins_again(live, conversation_id, _gate):
    async with live.raw(conversation_id) as client:
        await client.connect()
        await client.connection.send("41")
        await client.connection.send("40")
        while not (await client.packet()).startswith("40{"):
            continue


async def polls_and_closes(live, conversation_id, _gate):
    async with polling_client(live.url, conversation_id=conversation_id) as client:
        await client.connect()
        assert (await client.send("1")).text == "OK"


async def is_refused(live, _conversation_id, _gate):
    async with live.raw("0" * 32) as client:
        assert (await client.connect()).startswith("44")


async def is_cut_while_it_joins(live, conversation_id, gate):
    gate.open.clear()
    async with live.raw(conversation_id) as client:
        await client.connection.send("40")
        await gate.reached.wait()
        assert [one.joining for one in live.application.connections.entries.values()] == [True]
        client.cut()
    gate.open.set()


async def joins_for_too_long(live, conversation_id, gate):
    gate.open.clear()
    async with live.raw(conversation_id) as client:
        assert (await client.connect()).startswith("44")
    gate.open.set()


async def loses_its_conversation(live, conversation_id, _gate):
    async with live.raw(conversation_id) as client:
        await client.connect()
        assert await live.application.manager.delete_conversation(conversation_id, None)


async def is_dropped_by_a_server_that_stops(live, conversation_id, _gate):
    async with live.raw(conversation_id) as client:
        await client.connect()
        await live.application.handlers.drop_all()


@pytest.mark.parametrize(
    "path",
    [
        closes,
        is_cut,
        leaves_the_namespace_and_joins_again,
        polls_and_closes,
        is_refused,
        is_cut_while_it_joins,
        joins_for_too_long,
        loses_its_conversation,
        is_dropped_by_a_server_that_stops,
    ],
)
async def test_no_entry_is_left_of_a_client_that(path):
    gate = Gate()
    records = HookedConversationStores(MemoryConversations(), gate.hook)
    async with live_server(conversations=records, handshake_seconds=1.0) as live:
        conversation_id = await live.new()
        await path(live, conversation_id, gate)

        connections, manager = live.application.connections, live.application.manager
        await until(lambda: not connections.entries)
        assert not await manager.get_connections()
        assert connections.count(conversation_id) == 0
        assert len(connections) == 0


async def test_manager_and_handlers_share_one_entry_per_connection():
    async with live_server() as live:
        conversation_id = await live.new()
        async with live.joined(conversation_id) as one, live.joined(conversation_id) as two:
            await one.state("awaiting_user_input")
            await two.state("awaiting_user_input")
            entries = live.application.connections.entries.values()
            connected = await live.application.manager.get_connections()

            assert {entry.connection_id for entry in entries} == set(connected)
            assert len({id(entry.conversation) for entry in entries}) == 1
            assert live.application.connections.all() == [entry.session for entry in entries]
