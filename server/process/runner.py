"""Runs the server: our own runner over uvicorn, with an orderly stop."""

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from events.errors import EventsError
from server.app import Application, create_app
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.errors import NotSupported
from server.observability.logs import configure
from server.process.event_loop import run_to_end
from server.process.watchdog import Watchdog
from server.sockets.protocol import MAX_MESSAGE_BYTES
from server.sockets.transport.stall_watch import bound_unsent
from server.sockets.transport.uvicorn_websocket import guarded
from storage.errors import StorageError

logger = logging.getLogger(__name__)

M_MMAP_THRESHOLD = -3
"""A parameter of mallopt(3)."""
LARGE_BYTES = 1024 * 1024
"""Blocks from this size on are mappings of their own."""


def return_large_blocks() -> None:
    """Fix the size from which glibc allocates a block by mmap, for the life of the process.

    By default glibc raises that size up to 32 MiB, with every large block that is freed; messages
    of some MiB then leave holes in its heaps, and the process keeps two to three times what it
    uses. Other allocators have no such call, and nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


GC_THRESHOLDS = (5_000, 20, 100)
"""Events and frames make much short-lived garbage without cycles. A pass over 50,000 young objects,
most of them events in the page cache, kept the loop for 36 ms."""
EXIT_NOT_CLOSED = 3
"""The server ran and was stopped, and the storage could not be closed in order."""
OTHER_FILES = 256
"""File descriptors reserved for other uses than connections, if the limit permits it."""
NEEDED_FILES = {"memory": 32, "sqlite": 40, "postgres": 48, "local": 56, "cloud": 96}
"""File descriptors always reserved for other uses: the process opens 16 to 24, each thread of the
local file storage up to four more, an object store has up to 64 connections."""
TURN_SHARE = 0.5
"""The share of the time for a shutdown that turns under way have to end by themselves."""
TICK_SECONDS = 0.1
ABORTED_SECONDS = 0.5
"""Seconds a request may take to end after its connection was aborted."""
CLOSING_ITERATIONS = 3
"""Iterations of the event loop after which a closed connection is gone, if nothing holds it."""


class Runner(uvicorn.Server):
    """uvicorn's server without its signal handling, which would end the process by the signal.

    It ends at once when `end` is called; uvicorn itself polls ten times a second.
    """

    def __init__(self, config: uvicorn.Config, beat: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._beat = beat
        self._ended = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Stop serving."""
        self.should_exit = True
        if not self._ended.done():
            self._ended.set_result(None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report that connections are served."""
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """Run until `end` is called."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            await asyncio.wait([self._ended], timeout=TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners and the connections, and wait for running requests."""
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(CLOSING_ITERATIONS):
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._wait_tasks_to_complete()
        except TimeoutError:
            requests, connections = len(self.server_state.tasks), len(self.server_state.connections)
            logger.warning(
                "aborting %d requests and %d connections that did not end in time",
                requests,
                connections,
            )
            await self._abort()

    async def _abort(self) -> None:
        """Abort the connections, which ends requests whose clients take nothing; cancel the others."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if tasks := self.server_state.tasks:
            await asyncio.wait(tasks, timeout=ABORTED_SECONDS)
        for task in self.server_state.tasks:
            task.cancel("the server is shutting down")

    async def on_tick(self, counter: int) -> bool:
        """Run the work due ten times a second, the beat of the event loop's watch included."""
        if self._beat is not None:
            self._beat()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


def run(config: ServerConfig) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises what `create_app` raises.

    Ends the process, instead of returning, when something holds it up at its end.
    """
    configure(config.log_level, config.log_format)
    return_large_blocks()
    with Watchdog(config.shutdown_seconds) as watchdog:
        return run_to_end(partial(serve, config, watchdog), watchdog.listen)


async def serve(config: ServerConfig, watchdog: Watchdog) -> int:
    """Serve until the watchdog says to stop, then stop in order.

    The order: stop accepting work, stop loops, finish accepted work, close transports so that
    clients reconnect with their cursor, close the storage. A failure to close the storage after the
    server ran is logged and has its own exit code. Raises what `create_app` raises at the start.
    """
    ran = asyncio.Event()
    try:
        await _serve(config, watchdog, ran)
    except (StorageError, EventsError, OSError) as error:
        if not ran.is_set():
            raise
        logger.error("stopped, but the storage could not be closed cleanly: %s", error)  # noqa: TRY400 - it says what the disk did
        return EXIT_NOT_CLOSED
    return 0


async def _serve(config: ServerConfig, watchdog: Watchdog, ran: asyncio.Event) -> None:
    """Run `serve`; `ran` is set once requests are served."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    watchdog.on_stop(partial(loop.call_soon_threadsafe, stop.set))
    config = within_files(config)
    with listen(config.host, config.port) as listener:
        async with create_app(config) as application:
            runner = Runner(uvicorn_config(config, application), application.watch.beat)
            serving = loop.create_task(runner.serve(sockets=[listener]))
            up = loop.create_task(runner.up.wait())
            await asyncio.wait([serving, up], return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                gc.set_threshold(*GC_THRESHOLDS)
                gc.collect()
                gc.freeze()
                ran.set()
                announce(listener)
                stopping = loop.create_task(stop.wait())
                await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
            await shut_down(application, runner, serving, config.shutdown_seconds)


async def shut_down(
    application: Application, runner: Runner, serving: "asyncio.Task[None]", seconds: float
) -> None:
    """Stop intake, let turns end, close conversations, drop transports, end the listener.

    Turns under way have TURN_SHARE of the time; those that are not over then are sealed.
    """
    logger.info("stopping")
    application.stop_intake()
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(NotSupported):
                await application.manager.drain(seconds * TURN_SHARE)
            await application.manager.shutdown()
            await application.handlers.drop_all()
    except TimeoutError:
        logger.warning("not all conversations were closed within %g s", seconds)
    runner.end()
    await serving


def within_files(config: ServerConfig) -> ServerConfig:
    """Return the settings with `max_connections` reduced to the file descriptors available.

    The soft limit is raised first, as far as the hard limit permits. Raises ConfigError if no
    connection would be left.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return config
    wanted = config.max_connections + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    needed = NEEDED_FILES[config.storage_kind]
    kept = max(needed, min(OTHER_FILES, soft // 4))
    connections = min(config.max_connections, soft - kept)
    if connections < 1:
        raise ConfigError(
            f"the process may open {soft} files, but --storage {config.storage_kind} needs {needed}"
            " besides connections: raise LimitNOFILE or ulimit -n"
        )
    if connections < config.max_connections:
        logger.warning(
            "accepting at most %d connections instead of max_connections = %d: the process may open"
            " %d files (LimitNOFILE, ulimit -n), and %d are reserved for the storage",
            *(connections, config.max_connections, soft, kept),
        )
    return config.model_copy(update={"max_connections": connections})


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ConfigError with the reason and a remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends at once only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        bound_unsent(listener)
        listener.listen(2048)
    except (OSError, TypeError, ValueError) as error:  # a name that cannot be encoded is no OSError
        listener.close()
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise ConfigError(f"cannot listen on {shown}: {_reason_of(error)}") from error
    listener.setblocking(False)  # noqa: FBT003 - the socket API
    return listener


def _reason_of(error: OSError | TypeError | ValueError) -> str:
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError):
        return "no such host; use an address of this machine (--host, PARLEY_HOST)"
    reasons = {
        errno.EADDRINUSE: "the port is in use; stop the process that uses it, or choose another port"
        " (--port, PARLEY_PORT)",
        errno.EINVAL: "not an address to listen on; write a link-local one with its interface, as"
        " fe80::1%eth0 (--host, PARLEY_HOST)",
        errno.EADDRNOTAVAIL: "not an address of this machine (--host, PARLEY_HOST)",
        errno.EACCES: "permission denied for this port; choose a port from 1024 on"
        " (--port, PARLEY_PORT)",
    }
    return reasons.get(error.errno or 0, error.strerror or str(error))


def announce(listener: socket.socket) -> None:
    """Print the one line on standard output: the server's URL."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"Parley is ready at http://{shown}:{port}\n")
    sys.stdout.flush()


def uvicorn_config(config: ServerConfig, application: Application) -> uvicorn.Config:
    """Return uvicorn's configuration: Parley's protocols, no deflate, no lifespan, no logs."""
    return uvicorn.Config(
        application.asgi,
        http=application.acceptor.protocol_class(),
        ws=guarded(application.traffic, application.acceptor.server_counters),
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
