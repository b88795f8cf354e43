"""Tool servers as a user sets them, and runtimes that have them."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from runtime_stub.base import Runtime
from runtime_stub.mcp import McpRuntime
from runtime_stub.stub import StubRuntime
from runtime_stub.tools import McpOptions
from tests.support.servers import REPOSITORY
from tests.support.waiting import WAIT_SECONDS, until

SDK = str(REPOSITORY / "tests" / "support" / "sdk_tool_server.py")
PLAIN = str(REPOSITORY / "tests" / "support" / "plain_tool_server.py")
PATIENT = McpOptions(
    stdio=True, private_addresses=True, call_seconds=WAIT_SECONDS, connect_seconds=WAIT_SECONDS
)
"""For servers that answer: however slow the machine is."""


def program(
    name: str = "sums", *arguments: str, notes: Path | None = None, **env: str
) -> dict[str, Any]:
    """Return the settings of a plain tool server, or of one that behaves as its arguments say."""
    given = env if notes is None else {**env, "NOTES": str(notes)}
    arguments = (PLAIN, *(arguments or ("plain",)))
    return {"name": name, "command": sys.executable, "args": [*arguments], "env": given}


def rude(kind: str, *more: str, **env: str) -> dict[str, Any]:
    """Return the settings of one that misbehaves."""
    return program("rude", kind, *more, notes=None, **env)


def sdk_program(notes: Path) -> dict[str, Any]:
    """Return the settings of one with the SDK's server side, which takes seconds to start."""
    arguments = [SDK, "stdio"]
    return {
        "name": "sdk",
        "command": sys.executable,
        "args": arguments,
        "env": {"NOTES": str(notes)},
    }


def servers(*programs: dict[str, Any], **others: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a user's `mcp_config`."""
    return {"stdio_servers": list(programs), "shttp_servers": [], "sse_servers": [], **others}


class ToolUser:
    """A user who may change the servers; what they were told is in `told`."""

    def __init__(self, config: Mapping[str, Any] | None) -> None:
        self.config = config
        self.told: list[str] = []

    async def read(self) -> Mapping[str, Any] | None:
        """Return the servers as they are set now."""
        return self.config


@asynccontextmanager
async def with_tools(
    user: ToolUser, options: McpOptions = PATIENT, inner: Runtime | None = None
) -> AsyncIterator[McpRuntime]:
    """Yield a runtime with a user's servers."""
    runtime = McpRuntime(inner or StubRuntime(), user.read, options, user.told.append)
    await runtime.connect()
    try:
        yield runtime
    finally:
        await runtime.close()


class WebToolServer:
    """A tool server that is reached by HTTP, and may be killed and started again."""

    def __init__(self, transport: str, notes: Path) -> None:
        self._transport = transport
        self._notes = notes
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/{'sse' if transport == 'sse' else 'mcp'}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start, and wait until it can be reached."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, SDK, self._transport, str(self.port)),
            env={"NOTES": str(self._notes)},
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(self._is_up)

    async def kill(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _is_up(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def web_tool_server(transport: str, notes: Path) -> AsyncIterator[WebToolServer]:
    """A tool server by `http` or `sse`, killed when the block is left."""
    server = WebToolServer(transport, notes)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
