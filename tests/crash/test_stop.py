"""An orderly stop under load, and starts that must not succeed."""

import asyncio
import resource
import signal
import sys
from asyncio.subprocess import PIPE

import httpx
import pytest
import pytest_asyncio

from tests.support.checker import Counts, DeliveryChecker
from tests.support.clients import joined
from tests.support.payloads import is_answer
from tests.support.raw_client import raw_client
from tests.support.remote import as_stored, remote
from tests.support.servers import READY_SECONDS, REPOSITORY, server_process
from tests.support.writers import Writers

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONVERSATIONS = 4
ENOUGH = 40
TRANSPORT_LOST = "transport error"
"""The event of this client when its websocket ends without any farewell of the server."""
LOOPS = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "100"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(tmp_path_factory):
    async with server_process(tmp_path_factory.mktemp("server"), environment=LOOPS) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def server(process):
    if not process.running:
        await process.start()
    return process


async def refused_start(*arguments):
    """The exit code and both outputs of a start that ends by itself."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "serve", *map(str, arguments),
        stdout=PIPE, stderr=PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    async with asyncio.timeout(READY_SECONDS):
        printed, said = await started.communicate()
    return started.returncode, printed.decode(), said.decode()


async def test_a_second_process_on_a_data_directory_ends_with_one_line_that_names_the_first(server):
    code, printed, said = await refused_start("--port", 0, "--data-dir", server.data_dir)

    assert (code, printed) == (2, "")
    assert said.count("\n") == 1
    assert str(server.pid) in said


async def test_a_port_in_use_ends_with_one_line(server, tmp_path):
    code, printed, said = await refused_start("--port", server.port, "--data-dir", tmp_path)

    assert (code, printed) == (2, "")
    assert said.count("\n") == 1
    assert "in use" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
async def test_a_stop_under_load_loses_nothing_and_clients_come_back(
    server, number, record_property
):
    async with remote(server.url) as api:
        conversation_ids = await api.create_many(CONVERSATIONS)
        writers = Writers(conversation_ids)
        async with joined(server.url, conversation_ids[0], reconnection=True) as client:
            writing = asyncio.create_task(writers.write(server.url))
            await client.until(lambda _: writers.acknowledged >= ENOUGH)
            began = asyncio.get_running_loop().time()
            code = await server.stop(number)
            took = asyncio.get_running_loop().time() - began
            await writing
            printed = await server.printed()
            acknowledged = writers.acknowledged
            await server.start()

            for conversation_id in conversation_ids:
                writers.check(conversation_id, await api.log(conversation_id))
            await writers.repeat(server.url)
            await client.until(lambda me: len(me.connections) == 2)
            await client.say("are you there?")
            answer = await client.event(
                lambda one: is_answer(one) and one["message"] == "You said: are you there?"
            )
            await client.state("awaiting_user_input", after=answer["id"])
            log = await api.log(conversation_ids[0])
            counts = Counts()
            DeliveryChecker(as_stored(log), counts).check(client.connections)
            disconnects = list(client.disconnects)

    record_property("figures", f"stopped in {took:.2f} s, acknowledged {acknowledged}, {counts}")
    assert code == 0  # and not 1, as where it took longer than it may
    assert printed == ""
    assert disconnects == [TRANSPORT_LOST]
    assert counts.reconnected == 1


async def test_ready_is_503_while_the_server_stops(server):
    async with remote(server.url) as api:
        conversation_id = await api.create("/big 1000000")
        async with joined(server.url, conversation_id) as one:
            await one.state("awaiting_user_input")
        async with raw_client(server.url, conversation_id, receive_bytes=8192) as stalled:
            await stalled.connect()
            stalled.stop_reading()
            before = (await api.client.get("/ready")).status_code
            stopping = asyncio.create_task(server.stop())
            seen = set()
            while not stopping.done():
                try:
                    seen.add((await api.client.get("/ready")).status_code)
                except httpx.TransportError:
                    break
            code = await stopping

    assert before == 200
    assert 503 in seen
    assert code == 0


@pytest.mark.parametrize(("storage", "expected"), [("local", 3), ("sqlite", 0)])
async def test_a_stop_on_a_disk_that_takes_nothing_is_told_by_its_exit_code_and_loses_nothing(
    tmp_path, storage, expected
):
    async with (
        server_process(tmp_path, "--storage", storage) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state("awaiting_user_input")
            said = await client.say("kept")
            # Without an answer under way, whose end would be waited for.
            await client.state("awaiting_user_input", after=max(first["id"], said["id"]))
        # From now on the system lets the server write to no file.
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

        assert await server.stop() == expected
        assert (b"the storage could not be closed cleanly" in server.stderr) == bool(expected)
        assert b"Traceback" not in server.stderr.splitlines()[-1]

        await server.start()
        assert said["id"] in [event["id"] for event in await api.log(created)]
        assert await server.stop() == 0
