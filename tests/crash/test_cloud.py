"""Faults of an object store under load: nothing acknowledged is lost, nothing is doubled."""

import asyncio
import signal

import httpx
import pytest

from tests.support.cloud_faults import (
    FAULTS,
    run_cloud_faults,
    run_cloud_kills,
    run_cloud_returns,
)
from tests.support.remote import remote
from tests.support.s3 import cloud_environment, s3_server
from tests.support.s3_proxy import Fault, s3_proxy
from tests.support.seeds import chosen_seed
from tests.support.servers import ServerProcess, server_process
from tests.support.waiting import until

REQUESTS = 300
KILLS = 5
RETURNS = 2


async def test_whatever_happens_to_requests_and_answers_nothing_is_lost_and_nothing_doubled(
    tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_cloud_faults(tmp_path, seed, REQUESTS)

    record_property("figures", str(figures))
    assert set(figures.faults) == set(FAULTS)
    assert figures.faults.total() == REQUESTS
    assert figures.late_refused > 0


async def test_kills_of_the_object_store_lose_nothing_and_double_nothing(tmp_path, record_property):
    seed = chosen_seed()

    figures = await run_cloud_kills(tmp_path, seed, KILLS)

    record_property("figures", str(figures))
    assert figures.faults == {"kills": KILLS}


async def test_a_server_whose_object_store_was_killed_goes_on_when_that_answers_again(
    tmp_path, record_property
):
    figures = await run_cloud_returns(tmp_path, RETURNS)

    record_property("figures", str(figures))
    assert figures.faults == {"kills": RETURNS}


async def ready(server: ServerProcess) -> str:
    """Return why a server is not ready; "" if it is."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/ready")
    return "" if answer.status_code == 200 else answer.text


async def test_a_second_server_on_a_bucket_ends_with_one_line_that_names_the_first(tmp_path):
    environment = cloud_environment(tmp_path, lease_seconds=6.0)
    async with server_process(tmp_path / "1", environment=environment) as server:
        second = ServerProcess(tmp_path / "2", environment=environment)
        with pytest.raises(AssertionError, match="no ready line"):
            await second.start()

        assert await second.ended() == 2
        said = second.stderr.decode()
        assert said.count("\n") == 1
        assert f"is in use by process {server.pid} on " in said
        assert await server.stop() == 0


async def test_a_server_that_was_frozen_while_another_took_over_writes_nothing_more(tmp_path):
    environment = cloud_environment(tmp_path, lease_seconds=1.0)
    async with server_process(tmp_path / "1", environment=environment) as frozen:
        async with remote(frozen.url) as api:
            conversation_id = await api.create("before")
        frozen.send(signal.SIGSTOP)
        async with server_process(tmp_path / "2", environment=environment) as server:
            frozen.send(signal.SIGCONT)

            async def told() -> bool:
                return "another server has taken the storage over" in await ready(frozen)

            await until(told)
            async with httpx.AsyncClient(base_url=frozen.url, timeout=60) as client:
                path = f"/api/conversations/{conversation_id}/message"
                answer = await client.post(path, json={"message": "late"})
            assert answer.status_code == 503

            assert await ready(server) == ""
            async with remote(server.url) as api:
                said = [one["message"] for one in await api.log(conversation_id)]
            assert "before" in said
            assert "late" not in said


async def test_a_server_whose_object_store_is_away_says_so_and_goes_on_when_it_is_back(tmp_path):
    async with s3_proxy(s3_server().port) as proxy:
        environment = cloud_environment(tmp_path, proxy.port)
        async with server_process(tmp_path, environment=environment) as server:
            async with remote(server.url) as api:
                conversation_id = await api.create("before")
            proxy.choose = lambda _: Fault.LOST
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                path = f"/api/conversations/{conversation_id}/message"
                writing = asyncio.create_task(client.post(path, json={"message": "meanwhile"}))

                async def told() -> bool:
                    return "the object store does not answer" in await ready(server)

                await until(told)
                proxy.choose = lambda _: Fault.NONE
                answer = await writing

            async def is_ready() -> bool:
                return await ready(server) == ""

            await until(is_ready)
            async with remote(server.url) as api:
                said = [one["message"] for one in await api.log(conversation_id)]
            assert said.count("meanwhile") == (answer.status_code == 200)
            assert await server.stop() == 0
