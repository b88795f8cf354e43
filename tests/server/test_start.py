"""The work of a start: what is imported, and what the garbage collector looks at."""

import subprocess
import sys

import httpx

from tests.support.servers import REPOSITORY, as_in_a_plain_install, server_process
from tests.support.waiting import WAIT_SECONDS

DOCUMENT = {"openapi_pydantic", "server.routes.openapi"}
OTHERS = {"anyio._backends._asyncio", "opentelemetry", "pathspec", "rich.progress"}
EXTRA = {"genai_prices", "httpx2", "mcp", "mcp_types", "openai", "pydantic_ai"} | {
    "runtime_stub.llm",
    "runtime_stub.mcp",
}
"""The LLM agent and tool servers, and what they need."""
CLUSTER = {"asyncpg", "redis.asyncio", "server.cluster", "server.conversations.clustered"}
"""The parts of servers that share a PostgreSQL."""
RARE = DOCUMENT | OTHERS | EXTRA | CLUSTER
"""Modules that few requests or commands need, and that take long to import."""
FREEZING = """
import gc, sys
sys.argv = ["parley", "--version"]
from server.__main__ import main
main()
print(gc.isenabled(), gc.get_freeze_count() > len(gc.get_objects()))
"""


async def modules_of_a_run(folder, *paths):
    """The names of all modules a server imports until its end, with these addresses asked for."""
    told = {"PYTHONPROFILEIMPORTTIME": "1", **as_in_a_plain_install(folder)}
    async with server_process(folder, environment=told) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
            for path in paths:
                assert (await client.get(path)).status_code == 200
        assert await server.stop() == 0
    lines = server.stderr.decode().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


async def test_a_server_imports_what_few_requests_need_with_the_first_of_them(tmp_path):
    asked = await modules_of_a_run(tmp_path / "asked", "/openapi.json")
    unasked = await modules_of_a_run(tmp_path / "unasked", "/ready", "/")

    assert "server.app" in unasked
    assert unasked & RARE == set()
    assert asked & RARE == DOCUMENT


def test_no_pass_of_the_garbage_collector_looks_at_what_the_command_imports():
    done = subprocess.run(
        [sys.executable, "-c", FREEZING], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "True True"
