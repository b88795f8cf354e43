"""Clients that read slowly or not at all: what they cost, and who is cut."""

import asyncio
from asyncio import Transport
from contextlib import AsyncExitStack
from functools import partial
from typing import cast

import psutil  # type: ignore[import-untyped]

from events.actions import MessageAction
from events.event import EventSource
from events.stores.memory import MemoryEventStore
from server.sockets.direct.websocket import Websocket
from server.sockets.intake import HOLD_AT
from server.sockets.outlet import CAP_BYTES, CAP_PACKETS, SLOW_SECONDS
from server.sockets.protocol import MAX_PACKETS
from server.sockets.transport.stall_watch import held_bytes
from server.sockets.transport.uvicorn_websocket import GuardedProtocol
from tests.support.clients import RecordingClient, message
from tests.support.faulty_store import FaultyEventStore, Held
from tests.support.intruder import PING, frame, intruder
from tests.support.live import Live, live_server
from tests.support.polling import RECORD_SEPARATOR, polling_client
from tests.support.proxy import throttled
from tests.support.raw_client import EVENT, RawClient, raw_client
from tests.support.waiting import WAIT_SECONDS

GOOD = 200
DEAF = 50
EVENTS = 100
TEXT = "x" * 10_000
"""Twice in an event's JSON, once as its `message`."""
FRAME_BYTES = 21_000
HELD_BYTES = 2 * CAP_BYTES
"""In a write buffer and the kernel for one deaf client: one slice, a frame, the unsent limit."""
GROWTH_BYTES = 40 * 1024 * 1024
"""All that the deaf may hold is DEAF * (HELD_BYTES + CAP_BYTES), 10 MB; the pages and frames of
the log take 5 MB and the good clients' buffers the rest. Unbounded it would be over 100 MB."""
HASTE = 6
"""The factor by which all is faster than on a 64 kbit/s line, the server's patience included."""
LINE_BYTES_PER_SECOND = 8_000 * HASTE
STALL_SECONDS = 10 / HASTE
IDLE = "awaiting_user_input"
PING_BEHIND_BYTES = 96 * 1024
"""On 64 kbit/s that is 12 s, within the 15 s that clients grant a ping."""


async def fill(live: Live, conversation_id: str, number: int) -> list[int]:
    event = MessageAction(content=TEXT), EventSource.AGENT
    return await live.append(conversation_id, *[event] * number)


def id_of(text: str) -> int:
    begin = len(EVENT) + len('{"id":')
    return int(text[begin : text.index(",", begin)])


async def read_until(client: RawClient, last: int) -> list[int]:
    """The ids up to `last`, without keeping what came."""
    ids: list[int] = []
    while not ids or ids[-1] != last:
        text = await client.connection.recv()
        assert isinstance(text, str)
        if text.startswith(EVENT):
            ids.append(id_of(text))
    return ids


End = GuardedProtocol | Websocket


def protocols_of(live: Live, clients: list[RawClient]) -> list[End]:
    """The server's ends of these connections, as far as they are open."""
    ports = {client.connection.local_address[1] for client in clients}
    ends = live.server.runner.server_state.connections
    return [
        end
        for end in ends
        if isinstance(end, End) and end.transport.get_extra_info("peername")[1] in ports
    ]


def queued_packets(live: Live) -> int:
    """The longest queue of a client in the engine."""
    sockets = live.application.library.eio.sockets.values()
    return max((int(one.queue.qsize()) for one in sockets), default=0)


def has(event_id: int, client: RecordingClient) -> bool:
    return event_id in client.ids


async def connected(stack: AsyncExitStack, live: Live, key: str, **options: int) -> RawClient:
    client = await stack.enter_async_context(live.raw(key, **options))
    assert (await client.connect()).startswith('40{"sid":')
    return client


async def test_clients_that_never_read_cost_little_and_are_cut_while_others_get_everything(
    record_property,
):
    async with live_server(stall_abort_seconds=5) as live, AsyncExitStack() as stack:
        key = await live.new()
        good = [await connected(stack, live, key) for _ in range(GOOD)]
        deaf = [await connected(stack, live, key, receive_bytes=4096) for _ in range(DEAF)]
        for client in deaf:
            client.stop_reading()
        ends = protocols_of(live, deaf)
        assert len(ends) == DEAF
        process = psutil.Process()
        before = grown = process.memory_info().rss
        held = packets = 0
        paused: set[End] = set()
        last = (await live.stream(key)).next_id - 1 + EVENTS + 1

        reading = [asyncio.create_task(read_until(client, last)) for client in good]
        for _ in range(EVENTS // 10):
            await fill(live, key, 10)
            paused |= {end for end in ends if not end.writable.is_set()}
            held = max(
                held,
                *(held_bytes(end.transport) for end in ends if not end.transport.is_closing()),
                0,
            )
            packets = max(packets, queued_packets(live))
            grown = max(grown, process.memory_info().rss)
        (last_id, *_) = await live.append(key, (MessageAction(content="end"), EventSource.AGENT))
        received = await asyncio.gather(*reading)
        await asyncio.gather(*(client.wait_cut(WAIT_SECONDS) for client in deaf))
        told = await good[0].send(message("/quiet"))

        record_property(
            "figures",
            f"{len(paused)} paused, {live.traffic.aborted} aborted, held at most {held} bytes and"
            f" {packets} packets each, RSS +{(grown - before) // 1024} KiB,"
            f" {sum(map(len, received))} delivered to the good",
        )
        assert len(paused) == DEAF
        assert live.traffic.aborted == DEAF
        assert held <= HELD_BYTES
        assert packets <= CAP_BYTES // FRAME_BYTES + 10
        assert grown - before <= GROWTH_BYTES
        assert told["status"] == "ok"
        assert len(live.application.connections) == GOOD
        for ids in received:
            assert ids == sorted(set(ids))
            assert set(range(last_id - EVENTS, last_id + 1)) <= set(ids)
        assert sum(map(len, received)) >= GOOD * EVENTS


async def test_a_slow_but_honest_client_gets_its_backlog_over_one_connection(record_property):
    async with live_server(stall_abort_seconds=STALL_SECONDS) as live:
        key = await live.new()
        ids = await fill(live, key, EVENTS // 4)
        async with (
            throttled(live.server.port, LINE_BYTES_PER_SECOND) as proxy,
            raw_client(proxy.url, key) as client,
        ):
            begin = asyncio.get_running_loop().time()
            await client.connect()
            received = await read_until(client, ids[-1])
            seconds = asyncio.get_running_loop().time() - begin

            record_property(
                "figures",
                f"{proxy.forwarded} bytes in {seconds:.1f} s, paused {live.traffic.paused}",
            )
            assert received == ids
            assert proxy.connections == 1
            assert proxy.forwarded >= 500_000
            assert live.traffic.paused >= 10
            assert live.traffic.aborted == 0


async def test_a_ping_to_a_slow_client_waits_behind_little():
    async with live_server() as live:
        key = await live.new()
        await fill(live, key, EVENTS)
        async with live.raw(key, receive_bytes=4096) as client, live.joined(key) as other:
            await client.connect()
            client.stop_reading()
            (end,) = protocols_of(live, [client])
            while end.writable.is_set():
                await other.say("/quiet")
            # Its answer is queued as a ping would be.
            await client.connection.send('427["oh_unheard_of"]')
            for _ in range(5):
                await other.say("/quiet")
            client.start_reading()
            size = 0
            while not (text := await client.packet()).startswith("437["):
                size += len(text)

        assert FRAME_BYTES < size <= PING_BEHIND_BYTES


async def test_a_client_that_stops_reading_leaves_the_live_path_and_stays_off_it():
    async with live_server() as live:
        key = await live.new()
        async with live.raw(key, receive_bytes=4096) as client, live.joined(key) as other:
            await client.connect()
            while (await client.event()).get("extras", {}).get("agent_state") != IDLE:
                continue
            client.stop_reading()
            (end,) = protocols_of(live, [client])
            # One at a time, so that it is level with the log whenever one is told.
            for _ in range(EVENTS):
                (told,) = await fill(live, key, 1)
                await other.until(partial(has, told))

            assert not end.writable.is_set()
            assert held_bytes(end.transport) <= HELD_BYTES
            assert queued_packets(live) <= CAP_BYTES // FRAME_BYTES + 1


async def test_a_client_that_falls_behind_while_it_is_told_gets_everything_once():
    async with live_server() as live:
        key = await live.new()
        async with live.raw(key, receive_bytes=4096) as client:
            await client.connect()
            while (await client.event()).get("extras", {}).get("agent_state") != IDLE:
                continue
            (end,) = protocols_of(live, [client])
            told: list[int] = []
            received: list[int] = []
            for _ in range(5):
                client.stop_reading()
                while end.writable.is_set():
                    told += await fill(live, key, 1)
                told += await fill(live, key, 3)
                client.start_reading()
                received += await read_until(client, told[-1])

            assert received == told


async def test_only_clients_that_are_slow_count_as_fallen_behind():
    async with live_server(stall_abort_seconds=4 * SLOW_SECONDS) as live:
        key = await live.new()
        for _ in range(5):
            async with live.raw(key) as client:  # it is cut, while it is level
                await client.connect()
                await client.send(message("/quiet"))
                (last_id, *_) = await fill(live, key, 1)
                await read_until(client, last_id)
        assert live.events.counters.clients_behind == 0

        async with live.raw(key, cursor=last_id, receive_bytes=4096) as deaf:
            await deaf.connect()
            (last_id, *_) = await fill(live, key, 1)
            await read_until(deaf, last_id)  # it is level now
            deaf.stop_reading()
            for _ in range(EVENTS):
                await fill(live, key, 1)
            await deaf.wait_cut(WAIT_SECONDS)
        assert live.events.counters.clients_behind == 1


async def test_one_of_those_who_leave_too_much_untaken_together_is_cut_and_the_others_stay():
    async with live_server(stall_abort_seconds=1_000) as live, AsyncExitStack() as stack:
        live.traffic.untaken_limit_bytes = 2_500_000
        key = await live.new()
        deaf = [
            await stack.enter_async_context(live.raw(key, receive_bytes=4096)) for _ in range(3)
        ]
        for client in deaf:
            await client.connect()
            client.stop_reading()
        cuts = {asyncio.create_task(client.wait_cut(WAIT_SECONDS)): client for client in deaf}

        # A frame of a million bytes for each.
        await live.append(key, (MessageAction(content="x" * 500_000), EventSource.AGENT))
        (cut,), waiting = await asyncio.wait(cuts, return_when=asyncio.FIRST_COMPLETED)
        cut.result()
        for task in waiting:
            task.cancel()

        assert live.traffic.aborted == 1
        for task in waiting:
            cuts[task].start_reading()
            while len((await cuts[task].event()).get("message", "")) < 500_000:
                continue


async def others_are_served(live: Live, key: str) -> None:
    """Go round the loop so often that all that may be taken of anybody has been."""
    async with live.raw(key) as other:
        await other.connect()
        for _ in range(100):
            await other.send({"action": "none"})


async def test_a_client_whose_events_are_not_answered_is_not_read_for_ever():
    held = Held()
    store = FaultyEventStore(MemoryEventStore())
    async with live_server(events=store, append_deadline_seconds=600) as live:
        key, elsewhere = await live.new(), await live.new()
        async with live.raw(key) as client:
            await client.connect()
            await client.send(message("/quiet"))
            store.script.append(held)
            session = next(iter(live.application.connections))
            for _ in range(6 * HOLD_AT):
                await client.emit({"action": "message", "args": {"content": "x"}})
            await held.reached.wait()
            await others_are_served(live, elsewhere)

            assert HOLD_AT // 2 < session.waiting < 4 * HOLD_AT
            held.release()


async def test_one_who_pings_and_reads_nothing_fills_no_buffer():
    async with live_server() as live:
        key = await live.new()
        async with intruder(live.url, "127.0.0.1") as one:
            assert (await one.upgrade(f"conversation_id={key}")).status == 101
            port = one._writer.get_extra_info("sockname")[1]
            cast("Transport", one._writer.transport).pause_reading()
            pings = frame(PING, b"x" * 125) * 1_000
            for _ in range(100):
                await one.send(pings)
            await others_are_served(live, key)

            (end,) = [
                end
                for end in live.server.runner.server_state.connections
                if isinstance(end, End) and end.transport.get_extra_info("peername")[1] == port
            ]
            # What one read of the socket brings is answered, of 12 MB.
            assert end.transport.get_write_buffer_size() < 16 * CAP_BYTES


async def test_a_polling_client_that_never_polls_is_ended_when_too_much_waits_for_it():
    async with (
        live_server() as live,
        polling_client(live.url, conversation_id=await live.new()) as one,
    ):
        assert (await one.connect()).startswith("40")
        refused = RECORD_SEPARATOR.join(['421["nothing"]'] * MAX_PACKETS)
        for _ in range(CAP_PACKETS // MAX_PACKETS + 2):
            answer = await one.send(refused)

        assert answer.status_code == 400
        assert len(live.application.connections) == 0
