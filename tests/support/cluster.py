"""Several servers as processes over one database, Redis between them if wanted, and a balancer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.balancer import balancer
from tests.support.postgres import postgres_settings
from tests.support.redis import redis_server
from tests.support.servers import ServerProcess, environment_of, server_process

LEASE_SECONDS = 2.0
TAKE_OVER_SECONDS = LEASE_SECONDS + 2.0
"""The longest until another server goes on with what a killed one was at."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Servers that share a database, and the address of the balancer before them."""

    nodes: list[ServerProcess]
    url: str


@asynccontextmanager
async def cluster(
    folder: Path, number: int = 3, *, redis: bool = False, **settings: object
) -> AsyncIterator[Cluster]:
    """Run so many servers behind a balancer until the block is left."""
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(postgres_settings(folder)) | {
            "storage": "postgres",
            "nodes": "many",
            "lease_seconds": LEASE_SECONDS,
            "max_concurrent_conversations": 1_000,
            "max_iterations": 1_000_000,
            "database_connections": 4,
            **settings,
        }
        if redis:
            settings["redis_url"] = redis_server().url
        starting = []
        for one in range(number):
            environment = environment_of(**settings, node_name=f"node-{one}")
            started = server_process(folder / f"node-{one}", environment=environment)
            starting.append(stack.enter_async_context(started))
        nodes = await asyncio.gather(*starting)
        ports = [node.port for node in nodes]
        yield Cluster(nodes, await stack.enter_async_context(balancer(ports, folder)))
