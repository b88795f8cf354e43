"""Code that blocks the event loop is logged with its place, and so are errors nobody has heard of."""

import asyncio
import json
import re
import threading
import time

import httpx
import pytest

from runtime_stub.scripted import ScriptedAgent
from server.observability.event_loop_watch import LoopWatch, report
from tests.support.clients import joined
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

BLOCKED_SECONDS = 0.6


class BlockingAgent(ScriptedAgent):
    """Computes, or so it says, without letting anybody else have a turn."""

    async def step(self):
        time.sleep(BLOCKED_SECONDS)
        return await super().step()


async def test_an_agent_that_blocks_is_found_in_the_log_with_its_stack(tmp_path):
    environment = {
        "PARLEY_AGENT_CLASS": f"{__name__}:BlockingAgent",
        "PARLEY_SLOW_CALLBACK_SECONDS": "0.2",
    }
    async with server_process(tmp_path, environment=environment) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            created = (await http.post("/api/conversations", json={})).json()["conversation_id"]
            async with joined(server.url, created) as client:
                sent = await client.say("hello")
                await client.event(lambda one: one.get("source") == "agent" and said(one))
            counted = await http.get("/metrics")
        await server.stop()

    assert sent["status"] == "ok"
    lines = [json.loads(line) for line in server.stderr.decode().splitlines()]
    held_up = [line for line in lines if line["event"] == "the event loop was blocked"]
    # A loaded machine holds up a step in other places too.
    found = [
        line
        for line in held_up
        if f"the agent's step of {created}" == line.get("task")
        and re.fullmatch(r".*test_loop_watch\.py:\d+ step", line["where"][-1])
    ]
    assert found
    assert all(line["milliseconds"] >= 1000 * BLOCKED_SECONDS for line in found)
    (slow,) = re.findall(r"^parley_slow_callbacks_total (\S+)", counted.text, re.MULTILINE)
    assert float(slow) >= 1


def said(event):
    return event.get("action") == "message"


async def test_a_loop_that_is_not_held_up_is_on_time_and_quiet():
    with LoopWatch(30, clock=lambda: 1.0) as watch:
        for _ in range(4):
            watch.beat()

    assert watch.lags.counts[0] == 3
    assert watch.slow == 0


async def test_a_loop_is_held_up_when_no_beat_comes_in_time():
    now = 1.0
    with LoopWatch(0.2, clock=lambda: now) as watch:
        watch.beat()
        now += 0.3
        watch.beat()
        watch.beat()

    assert watch.slow == 1
    assert watch.lags.total == pytest.approx(0.2)


async def test_nothing_is_watched_where_that_is_not_wanted():
    before = threading.active_count()

    with LoopWatch(0) as watch:
        watch.beat()
        watch.beat()
        assert threading.active_count() == before

    assert sum(watch.lags.counts) == 0


async def test_an_error_that_nobody_waits_for_is_logged_without_what_it_quotes(caplog):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(report)

    behind = asyncio.Event()
    loop.call_soon(int, "a private word")
    loop.call_soon(behind.set)
    await behind.wait()

    (record,) = caplog.records
    assert "ValueError" in record.getMessage()
    assert "private" not in record.getMessage()
