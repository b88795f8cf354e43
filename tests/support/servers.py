"""Real servers: a process that can be killed, and one inside the test's own loop."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from server.app import Application
from server.config.settings import ServerConfig
from server.process.runner import Runner, listen, uvicorn_config

READY_SECONDS = 60.0
LOG_BYTES = 200_000
"""Bytes of a server's log that are kept, the last ones."""
"""A process that takes longer to start or to end hangs; on a loaded machine it may take 20."""
REPOSITORY = Path(__file__).parents[2]


def class_path(cls: type) -> str:
    """Return the name under which the settings find a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def environment_of(**settings: object) -> dict[str, str]:
    """Return the environment in which a server has these settings, classes by their names."""
    return {
        f"PARLEY_{name.upper()}": class_path(value) if isinstance(value, type) else str(value)
        for name, value in settings.items()
    }


def as_in_a_plain_install(folder: Path) -> dict[str, str]:
    """Return an environment without redis-py, which python-socketio imports where it finds it."""
    hidden = folder / "hidden"
    hidden.mkdir(parents=True)
    (hidden / "redis.py").write_text("raise ImportError('not in a plain install')")
    return {"PYTHONPATH": str(hidden)}


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of this machine that is given to nobody, until the block is left.

    Whoever asks for it by its number listens there, also again after he has ended.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


class ServerProcess:
    """`parley serve` on a port over one data directory; killable, restartable."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        port: int = 0,
        environment: dict[str, str] | None = None,
        files: int | None = None,
        log_bytes: int = LOG_BYTES,
        tree: Path = REPOSITORY,
    ):
        self.data_dir = data_dir
        self.port = port
        self.stderr = b""
        self._arguments = arguments
        self._environment = environment or {}
        self._limits = None if files is None else partial(_limit_files, files)
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._log_bytes = log_bytes
        self._tree = tree

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start and wait for the ready line; a restart keeps the port."""
        command = ["-m", "server", "serve", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), *self._arguments]
        environment = {**os.environ, "PARLEY_LOG_LEVEL": "warning", **self._environment}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            cwd=self._tree,
            preexec_fn=self._limits,
        )
        self._reading = asyncio.create_task(self._read_stderr(self._process))
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            line = (await self._process.stdout.readline()).decode()
        if not line.startswith("Parley is ready at http://"):
            await self._process.wait()
            await self._reading
            raise AssertionError(f"no ready line: {line!r} {self.stderr.decode()}")
        self.port = int(line.rsplit(":", 1)[1])

    async def kill(self) -> None:
        """SIGKILL, as a crash."""
        await self._end(signal.SIGKILL)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask for an orderly stop; the exit code."""
        return await self._end(number)

    async def ended(self) -> int:
        """Wait until the process has ended by itself; the exit code."""
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(READY_SECONDS):
            code = await self._process.wait()
            await self._reading
        return code

    async def line(self) -> str:
        """Return the next line on stdout, waiting for it."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            return (await self._process.stdout.readline()).decode().rstrip()

    def send(self, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        assert self._process is not None
        self._process.send_signal(number)

    async def printed(self) -> str:
        """Return the output on stdout after the ready line, once the process has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        return (await self._process.stdout.read()).decode()

    async def _end(self, number: signal.Signals) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.send(number)
        return await self.ended()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    async def _read_stderr(self, process: Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(65536):
            self.stderr = (self.stderr + chunk)[-self._log_bytes :]


def _limit_files(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


@asynccontextmanager
async def server_process(
    data_dir: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    files: int | None = None,
    log_bytes: int = LOG_BYTES,
    tree: Path = REPOSITORY,
) -> AsyncIterator[ServerProcess]:
    """A server process, ended when the block is left; it may open so many `files`.

    Of its log the last `log_bytes` are kept. It runs what lies in `tree`.
    """
    with kept_port() as port:
        server = ServerProcess(
            data_dir,
            *arguments,
            port=port,
            environment=environment,
            files=files,
            log_bytes=log_bytes,
            tree=tree,
        )
        await server.start()
        try:
            yield server
        finally:
            if server.running:
                await server.kill()


class LoopServer:
    """An application served inside the test's loop."""

    def __init__(self, application: Application, runner: Runner, port: int) -> None:
        self.application = application
        self.runner = runner
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving(config: ServerConfig, application: Application) -> AsyncIterator[LoopServer]:
    """Serve an application on a free port until the block is left."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    runner = Runner(uvicorn_config(config, application), application.watch.beat)
    task = asyncio.create_task(runner.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(READY_SECONDS):
            await runner.up.wait()
        yield LoopServer(application, runner, port)
    finally:
        application.stop_intake()
        await application.manager.shutdown()
        await application.handlers.drop_all()
        runner.end()
        await task
