"""scripts/bench: the table it makes, and the server that it measures."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from scripts.benchmarks.held import Held
from scripts.benchmarks.rows import Context, Target
from tests.support.clients import message
from tests.support.live import live_server
from tests.support.raw_client import raw_client
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import REPOSITORY
from tests.support.sse import SseView, sse_frames
from tests.support.waiting import WAIT_SECONDS

NO_BUN = "no Bun that runs here"


def rows_of(context):
    return [row.cells() for row in context.rows]


def test_a_ratio_is_the_median_of_those_of_the_rounds_and_above_1_where_ours_is_better():
    context = Context(Path(), rounds=3, quick=True)
    context.add("less", "us", [1.0, 2.0, 4.0], [4.0, 4.0, 4.0], against="Bun", target=Target(1, 3))
    context.add("more", "/s", [6.0, 2.0, 4.0], [2.0, 2.0, 2.0], against="Bun", more_is_better=True)

    assert rows_of(context) == [
        ["less", "2 us", "4 Bun", "2x", "1..4", "1x", "3x", "met"],
        ["more", "4 /s", "2 Bun", "2x", "1..3", "", "", ""],
    ]


def test_a_yardstick_that_does_not_run_here_is_named_and_gives_no_verdict():
    context = Context(Path(), rounds=3, quick=True)
    context.add("fan-out", "us", [2.0, 4.0, 3.0], None, against=NO_BUN, target=Target(0.8, 1))
    context.add("stall", "ms", [2.0, 4.0, 3.0], target=Target(5, 2, on_ratio=False))

    assert rows_of(context) == [
        ["fan-out", "3 us", NO_BUN, "", "2..4", "", "", ""],
        ["stall", "3 ms", "", "", "2..4", "<= 5", "<= 2", "met"],
    ]
    assert [row.as_json()["met"] for row in context.rows] == [None, True]


@contextlib.asynccontextmanager
async def measured_server(folder):
    """The server that scripts/bench measures, as a process: its URL, and its side door."""
    paths = os.pathsep.join((str(REPOSITORY / "scripts"), str(REPOSITORY)))
    command = ("-m", "benchmarks.server", "--storage", "memory", "--data-dir", str(folder))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        env={**os.environ, "PYTHONPATH": paths},
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    port, control = map(int, (await process.stdout.readline()).split())
    reader, writer = await asyncio.open_connection("127.0.0.1", control)
    try:
        yield f"http://127.0.0.1:{port}", reader, writer
    finally:
        writer.close()
        process.stdin.close()
        code = await process.wait()
    assert code == 0


async def ask(reader, writer, **command):
    writer.write(json.dumps(command).encode() + b"\n")
    answer = json.loads(await reader.readline())
    assert "error" not in answer, answer
    return answer["ok"]


async def test_the_server_that_is_measured_takes_events_of_clients_and_of_its_producer(tmp_path):
    async with measured_server(tmp_path) as (url, reader, writer):
        (name,) = await ask(reader, writer, do="new")
        async with raw_client(url, name) as client:
            assert (await client.connect()).startswith("40{")
            assert (await client.send(message("a")))["id"] == 0
            assert await ask(reader, writer, do="produce", conversation=name) == 1
            writer.write(b"+1\n")
            while (await client.event())["id"] != 1:
                continue
        assert await ask(reader, writer, do="next_ids", conversations=[name]) == [2]


async def test_agents_of_the_server_that_is_measured_write_texts_that_end_as_events(tmp_path):
    async with measured_server(tmp_path) as (url, reader, writer):
        (name,) = await ask(reader, writer, do="new")
        async with raw_client(url, name, query={"deltas": "1"}) as client:
            assert (await client.connect()).startswith("40{")
            await ask(reader, writer, do="write", conversations=[name], how="deltas", secrets=10)
            held = Held()
            while not held.pieces:
                held.take_packet((await client.packet()).encode())
            (appended,) = await ask(reader, writer, do="hush")
            while held.events < appended:
                held.take_packet((await client.packet()).encode())
        assert held.problem is None
        assert await ask(reader, writer, do="next_ids", conversations=[name]) == [appended]


class Model(asyncio.Protocol):
    """A connection to a model that sends tokens until the other side leaves."""

    def __init__(self):
        self.left = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport):
        self._transport = transport
        self._send()

    def connection_lost(self, error):
        assert self._timer is not None
        self._timer.cancel()
        self.left.set()

    def _send(self):
        self._transport.write(b" word")
        self._timer = asyncio.get_running_loop().call_later(0.02, self._send)


@pytest.mark.parametrize("agent", ["ModelAgent", "BlockingModelAgent"])
async def test_a_stop_closes_the_connection_to_the_model_of_the_agents_that_are_measured(agent):
    model = Model()
    endpoint = await asyncio.get_running_loop().create_server(lambda: model, "127.0.0.1", 0)
    port = endpoint.sockets[0].getsockname()[1]
    agent_class = f"scripts.benchmarks.model_agents:{agent}"
    async with live_server(agent_class=agent_class) as live, remote(live.url) as api:
        key = await api.create(str(port))
        view = SseView()
        async with sse_frames(live.url, key) as frames:
            while not view.held:
                view.take(await anext(frames))
            (turn,) = [one["id"] for one in view.events if one.get("action") == "recall"]
            path = f"{CONVERSATIONS}/{key}/stop-turn"
            answer = await api.client.post(path, json={"turn": turn})
            async with asyncio.timeout(WAIT_SECONDS):
                await model.left.wait()
    endpoint.close()
    assert answer.json() == {"stopped": True}


PIECE = {"type": "text", "id": "a-1", "at": 0, "to": 21, "text": f"{1:020d} "}
EVENT = {"id": 0, "partial": "a-1", "args": {"content": f"{1:020d} word"}}


def test_a_watcher_of_the_bench_takes_pieces_that_follow_each_other_and_end_as_their_event():
    assert problem_of(PIECE, PIECE | {"at": 21, "to": 25, "text": "word"}, EVENT) is None
    assert problem_of(PIECE, EVENT) is None  # the event brings the rest
    assert problem_of(PIECE, PIECE | {"at": 25, "to": 29, "text": "word"}) is not None
    assert problem_of(PIECE, PIECE | {"at": 21, "to": 25, "text": "wort"}, EVENT) is not None
    assert problem_of(EVENT, EVENT) is not None


def problem_of(*told):
    held = Held()
    for one in told:
        name = "oh_delta" if "type" in one else "oh_event"
        held.take_packet(f"42{json.dumps([name, one], separators=(',', ':'))}".encode())
    return held.problem
