"""Tool servers that are programs: in a process group of their own, with a bare environment, ended as a whole."""

import asyncio
import os
import signal
from asyncio import StreamReader, StreamWriter, SubprocessTransport, Task
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from pydantic import ValidationError

from runtime_stub.errors import RuntimeFloorError
from runtime_stub.mcp.allowance import MOST_BYTES, NO_MCP, Allowance, Streams, TooMuch
from storage.users.mcp import CommandServer

INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER")
"""Variables of the server's environment that a program gets besides the user's."""
END_SECONDS = 0.5
"""Seconds a program may take to end by itself, and again to be gone once it is killed."""
EXIT_SECONDS = 5.0
"""Seconds a program that has closed its output may take to end, for its exit code to be told."""
MOST_OTHER_LINES = 1_000
"""Lines of its output that may be no messages: banners and logs, which are passed over."""


class CannotStart(RuntimeFloorError):
    """A program cannot be started; the text says why."""


class Program(AbstractAsyncContextManager[Streams]):
    """A program that runs with the block; its messages are lines of its input and output.

    What it writes to stderr is dropped. Entering raises CannotStart.
    """

    def __init__(self, server: CommandServer, allowance: Allowance) -> None:
        self._server = server
        self._allowance = allowance
        self._transport: SubprocessTransport | None = None
        self._process: Process | None = None
        self._tasks: list[Task[None]] = []
        self._streams: list[Any] = []
        self._following: Task[None] | None = None
        self._is_gone = False
        self.exit_code: int | None = None
        """The code with which the program has ended by itself; None while it runs."""

    @property
    def has_ended(self) -> bool:
        """Whether the program does not run any more."""
        return self._process is not None and self._process.returncode is not None

    async def __aenter__(self) -> Streams:
        """Start the program."""
        loop = asyncio.get_running_loop()
        starting = loop.create_task(self._start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._started_too_late)
            raise
        except FileNotFoundError as error:
            raise CannotStart("there is no such program on the server") from error
        except (OSError, ValueError) as error:
            raise CannotStart("the program cannot be started") from error
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise CannotStart("the program has no pipes")
        told, received = anyio.create_memory_object_stream[SessionMessage](0)
        sent, asked = anyio.create_memory_object_stream[SessionMessage](0)
        self._streams = [told, received, sent, asked]
        self._tasks = [
            loop.create_task(self._read(process, process.stdout, told)),
            loop.create_task(self._write(process.stdin, asked, told)),
        ]
        self._following = loop.create_task(self._follow(process))
        return received, sent

    async def __aexit__(self, *error: object) -> None:
        """End the program and all of its process group: asked at first, killed after half a second."""
        for task in self._tasks:
            task.cancel()
        for stream in self._streams:
            stream.close()
        process, transport = self._process, self._transport
        if process is None or transport is None:
            return
        try:
            if process.returncode is None:
                transport.get_pipe_transport(0).close()  # type: ignore[union-attr]  # it has pipes
                self._signal(signal.SIGTERM)
                await self._gone(process)
        finally:
            self.kill()
            try:
                await self._gone(process)
            finally:
                transport.close()
        if self._following is not None:
            self._following.cancel()
            self._tasks.append(self._following)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        """Kill what there still is of the process group, at once."""
        self._signal(signal.SIGKILL)

    async def _follow(self, process: Process) -> None:
        """End the group with its program: from then on its number may be that of somebody else's."""
        await process.wait()
        self.kill()
        self._is_gone = True

    async def _gone(self, process: Process, seconds: float = END_SECONDS) -> int | None:
        """Return the code of a program that is about to end; None if it does not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await process.wait()
        return None

    async def _start(self) -> None:
        server, loop = self._server, asyncio.get_running_loop()
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own = {name: value.get_secret_value() for name, value in server.env.items()}
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=MOST_BYTES, loop=loop),
            server.command,
            *server.args,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=inherited | own,
            start_new_session=True,
        )
        self._transport = transport
        self._process = Process(transport, protocol, loop)

    def _started_too_late(self, starting: Task[None]) -> None:
        if not starting.cancelled() and starting.exception() is None and self._transport:
            self.kill()
            self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._is_gone:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _read(
        self, process: Process, output: StreamReader, told: MemoryObjectSendStream[SessionMessage]
    ) -> None:
        """Tell what comes, until the program ends, writes too much or too much else."""
        async with told:
            try:
                await self._tell(output, told)
            except asyncio.IncompleteReadError:
                self._allowance.over.set()
                self.exit_code = await self._gone(process, EXIT_SECONDS)
            except (TooMuch, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _tell(
        self, output: StreamReader, told: MemoryObjectSendStream[SessionMessage]
    ) -> None:
        others = 0
        while others <= MOST_OTHER_LINES:
            line = await self._line(output)
            self._allowance.read(line)
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValidationError:
                others += 1
            else:
                await told.send(SessionMessage(message))
        self._allowance.fault = NO_MCP

    async def _line(self, output: StreamReader) -> bytes:
        try:
            return await output.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            self._allowance.refuse()

    async def _write(
        self,
        entry: StreamWriter,
        asked: MemoryObjectReceiveStream[SessionMessage],
        told: MemoryObjectSendStream[SessionMessage],
    ) -> None:
        """Write what is asked; where the program does not take it, nothing more comes from it."""
        try:
            async with asked:
                async for one in asked:
                    text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                    entry.write(text.encode() + b"\n")
                    await entry.drain()
        except (OSError, RuntimeError, ValueError, anyio.ClosedResourceError):
            # By asyncio, by uvloop, by what cannot be written, by us.
            await told.aclose()
