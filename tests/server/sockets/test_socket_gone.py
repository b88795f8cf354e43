"""Clients that vanish in the middle: nobody else notices."""

import asyncio

import pytest

from events.actions import MessageAction
from events.event import EventSource
from tests.support.live import live_server
from tests.support.polling import polling_client
from tests.support.waiting import until

BACKLOG = 300
VANISHING = 20


async def test_a_client_that_vanishes_while_it_is_told_keeps_nobody_busy(record_property):
    said = MessageAction(content="x" * 2_000), EventSource.AGENT
    async with live_server(page_size=20) as live:
        conversation_id = await live.new()
        await live.append(conversation_id, *[said] * BACKLOG)

        async with live.joined(conversation_id) as other:
            for number in range(VANISHING):
                async with live.raw(conversation_id, receive_bytes=4096) as client:
                    await client.connect()
                    written = asyncio.create_task(live.append(conversation_id, *[said] * number))
                    client.cut()
                    await written
            (last,) = await live.append(conversation_id, said)
            await other.until(lambda client: client.ids[-1:] == [last], seconds=10)

            ids = [event["id"] for event in other.events if event.get("action") == "message"]
            assert ids == sorted(set(ids))
            assert len(ids) == BACKLOG + sum(range(VANISHING)) + 1
            assert (await other.say("still there"))["status"] == "ok"
    record_property("figures", f"{VANISHING} cut, {len(ids)} delivered to the one that stayed")


@pytest.mark.parametrize("manager", ["FailingToLetGo", "ExitingAtLettingGo"])
async def test_a_manager_that_fails_at_letting_a_client_go_harms_no_connection(manager):
    own = f"tests.support.extensions:{manager}"
    async with live_server(conversation_manager_class=own) as live:
        conversation_id = await live.new()
        async with (
            live.raw(conversation_id) as client,
            polling_client(live.url, conversation_id=conversation_id) as polling,
        ):
            await client.connect()
            await client.connection.send("41")
            await client.connection.send("40")
            while not (await client.packet()).startswith("40{"):
                continue
            await polling.connect()
            assert (await polling.send("1")).text == "OK"

        library = live.application.library
        await until(lambda: not len(library.connection_limits) and not library.connections)
