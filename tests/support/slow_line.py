"""A client on 64 kbit/s fetches a long backlog."""

import time
from pathlib import Path

from tests.support.clients import joined
from tests.support.proxy import throttled
from tests.support.remote import remote
from tests.support.servers import server_process

LINE_BYTES_PER_SECOND = 8_000
TEXT_BYTES = 10_000
LIMIT_SECONDS = 420.0


async def run_slow_line(data_dir: Path, messages: int) -> str:
    """Fetch the answers, of 10 kB of text each, to so many messages over the line; the figures.

    Raises AssertionError when the client had to reconnect, or missed or repeated an event.
    """
    async with server_process(data_dir) as server, remote(server.url) as api:
        conversation_id = await api.create()
        async with joined(server.url, conversation_id) as author:
            said = [await author.say(f"/big {TEXT_BYTES}") for _ in range(messages)]
            await author.state("awaiting_user_input", after=said[-1]["id"])
            ids = [event["id"] for event in author.events if "action" in event]
        async with throttled(server.port, LINE_BYTES_PER_SECOND) as proxy:
            begin = time.monotonic()
            async with joined(proxy.url, conversation_id) as client:
                await client.until(
                    lambda one: bool(one.disconnects) or bool(one.ids and one.ids[-1] >= ids[-1]),
                    LIMIT_SECONDS,
                )
                seconds = time.monotonic() - begin
                disconnects = list(client.disconnects)
                fetched = [event["id"] for event in client.events if "action" in event]
    assert not disconnects, f"the client was disconnected: {disconnects}"
    assert fetched == ids, "the client missed or repeated events"
    return f"{proxy.forwarded} bytes, {len(fetched)} events in {seconds:.0f} s, one connection"
