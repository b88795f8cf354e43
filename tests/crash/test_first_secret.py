"""SIGKILL while the first secret is stored and its key is made: what was told is kept."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest

from tests.support.seeds import chosen_seed
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

ROUNDS = 3
WRITERS = 4
MAX_DELAY_SECONDS = 0.3


async def write_secrets(client: httpx.AsyncClient, writer: int, told: list[str]) -> None:
    """Store secrets until the server is gone; `told` gets those it answered for."""
    for number in range(10_000):
        name = f"W{writer}_{number}"
        try:
            answer = await client.post("/api/secrets", json={"name": name, "value": name * 3})
        except httpx.TransportError:
            return
        if answer.status_code == 400:
            return  # the limit of secrets
        told.append(name)


async def one_round(data_dir: Path, storage: str, delay_seconds: float) -> int:
    told: list[str] = []
    async with (
        server_process(data_dir, "--storage", storage) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client,
    ):
        writers = [
            asyncio.create_task(write_secrets(client, number, told)) for number in range(WRITERS)
        ]
        await asyncio.wait(writers, timeout=delay_seconds)
        await server.kill()
        await asyncio.wait(writers)
        await server.start()
        kept = (await client.get("/api/secrets")).json()["custom_secrets"]
        again = await client.post("/api/secrets", json={"name": "LAST", "value": "value"})
        assert again.status_code in (201, 400)
        assert await server.stop() == 0
    assert set(told) <= {one["name"] for one in kept}
    return len(told)


@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_a_kill_while_the_key_is_made_loses_nothing_that_was_told(
    tmp_path, storage, record_property
):
    chance = random.Random(chosen_seed())  # noqa: S311 - it chooses moments, not secrets
    told = [
        await one_round(tmp_path / str(number), storage, chance.uniform(0, MAX_DELAY_SECONDS))
        for number in range(ROUNDS)
    ]

    record_property("figures", f"{ROUNDS} rounds on {storage}, told before the kill: {told}")
