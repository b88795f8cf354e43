"""A server's memory stays within what docs/defence.md says, whatever one client sends or leaves unread."""

import asyncio
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.support.intruder import TEXT, frame, intruder
from tests.support.remote import remote
from tests.support.servers import server_process

MEBIBYTE = 2**20
GROWTH_BYTES = 320 * MEBIBYTE
"""The bytes docs/defence.md allows one client that sends without waiting."""
RECORDINGS_GROWTH_BYTES = 160 * MEBIBYTE
"""The bytes it allows fourteen recordings that wait."""
LONG_BYTES = 4_000_000
FLOOD_SECONDS = 3.0

WAYS = [(storage, way) for storage in ("sqlite", "memory") for way in ("direct", "engine")]


def status_bytes(pid: int, name: str) -> int:
    """A figure in /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


async def stored_bytes(api, conversation_id: str) -> int:
    """Bytes of a conversation's log."""
    size = position = 0
    while True:
        asked = {"start_id": position, "limit": 100}
        answer = await api.client.get(f"/api/conversations/{conversation_id}/events", params=asked)
        page = orjson.loads(answer.content)
        if not page["events"]:
            return size
        size += len(answer.content)
        position = page["events"][-1]["id"] + 1


async def flood(server, conversation_id: str, sent: bytes) -> None:
    """Join, and send the same again and again, as fast as it is taken; read nothing."""
    async with intruder(server.url, "127.0.0.1") as one:
        assert (await one.upgrade(f"conversation_id={conversation_id}")).status == 101
        await one.message()
        await one.text("40")
        await one.message()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(FLOOD_SECONDS):
                while True:
                    await one.send(sent)


def event(text: str) -> bytes:
    """A frame with a user's message that wants an acknowledgement."""
    said = {"action": "message", "args": {"content": f"/quiet {text}"}}
    return frame(TEXT, b'421["oh_user_action",' + orjson.dumps(said) + b"]")


@pytest.mark.parametrize(("storage", "delivery"), WAYS)
@pytest.mark.parametrize("sent", [event("x" * LONG_BYTES), event("x" * 300) * 100])
async def test_one_client_that_sends_without_waiting_cannot_fill_the_memory(
    tmp_path, storage, delivery, sent, record_property
):
    environment = {"PARLEY_DELIVERY": delivery, "PARLEY_LOG_LEVEL": "error"}
    process = server_process(tmp_path, "--storage", storage, environment=environment)
    async with process as server, remote(server.url) as api:
        (conversation_id,) = await api.create_many(1)
        before = status_bytes(server.pid, "VmRSS")

        await flood(server, conversation_id, sent)
        grown = status_bytes(server.pid, "VmHWM") - before
        # To read the log takes longer than to write it; it matters where the growth is too much.
        in_memory = storage == "memory" and grown > GROWTH_BYTES
        kept = await stored_bytes(api, conversation_id) if in_memory else 0

        figures = f"+{grown // MEBIBYTE} MiB"
        figures += f", of which {kept // MEBIBYTE} MiB are the log" if in_memory else ""
        record_property("figures", figures)
        assert grown - kept <= GROWTH_BYTES, figures
        assert server.running


async def test_recordings_that_wait_cannot_fill_the_memory(tmp_path, record_property):
    said = {"source": "user", "action": "message", "args": {"content": "/quiet"}}
    thought = {"source": "agent", "action": "think", "args": {"thought": "x" * 100}}
    recording = orjson.dumps([said, *[thought] * 15_000]).decode()
    environment = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1", "PARLEY_LOG_LEVEL": "error"}
    async with (
        server_process(tmp_path, environment=environment) as server,
        remote(server.url) as api,
    ):
        await api.create("/run sleep 600")
        before = status_bytes(server.pid, "VmRSS")

        for _ in range(14):
            answer = await api.client.post(
                "/api/conversations", json={"replay_json": recording}, timeout=60
            )
            assert answer.status_code == 200, answer.text

        grown = status_bytes(server.pid, "VmHWM") - before
        record_property("figures", f"+{grown // MEBIBYTE} MiB")
        assert grown <= RECORDINGS_GROWTH_BYTES
