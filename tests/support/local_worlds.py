"""A directory for workspaces on this machine, a runtime in it, and what a server would hide from it."""

import asyncio
import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from events.actions import CmdRunAction
from events.observations import CmdOutputObservation
from runtime_stub.local.options import LocalOptions
from runtime_stub.local.runtime import LocalRuntime, LocalRuntimeBuilder
from tests.support.waiting import until

UIDS = range(1_900_000_000, 1_900_010_000)
MIB = 1024**2
SMALL = {
    "processes": 64,
    "memory_bytes": 256 * MIB,
    "cpu_seconds": 20,
    "file_bytes": 8 * MIB,
    "open_files": 256,
    "disk_bytes": 32 * MIB,
    "disk_entries": 1000,
    "output_bytes": 4 * MIB,
}
KEY = "the-servers-session-key"


@contextmanager
def passable_folder() -> Iterator[Path]:
    """A new folder through which every user may pass, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="parley-local-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for command in (("/bin/chmod", "-R", "u+rwX"), ("/bin/rm", "-rf")):
            subprocess.run((*command, folder), check=True)


def options(folder: Path, **limits: int) -> LocalOptions:
    """Return small limits, for workspaces below a folder; the server's environment holds a key."""
    given = LocalOptions(
        directory=folder / "workspaces",
        uids=UIDS,
        environment={**os.environ, "SESSION_API_KEY": KEY, "PARLEY_ADMIN_KEY": KEY},
    )
    return replace(given, limits=given.limits._replace(**{**SMALL, **limits}))


def marked_processes(mark: str) -> list[int]:
    """Return the living processes that have a mark in the environment they began with."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has gone, or is another user's
            if mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return sorted(found)


@dataclass
class LocalWorld:
    """One conversation's runtime, and a secret of the server beside it."""

    folder: Path
    builder: LocalRuntimeBuilder
    runtime: LocalRuntime
    secret: Path
    mark: str = field(default_factory=lambda: f"mark-{secrets.token_hex(8)}")

    async def run(self, command: str) -> CmdOutputObservation:
        """Run a command."""
        answer = await self.runtime.perform(CmdRunAction(command=command))
        assert isinstance(answer, CmdOutputObservation), answer.content
        return answer

    async def give_up(self, command: str, begun: Callable[[], bool] | None = None) -> None:
        """Run a command that does not end, cancel it, and wait until all that it began has ended.

        It is cancelled once `begun` holds; without that, once the command has made the file `begun`.
        """
        working = asyncio.create_task(self.run(command))
        await until(begun or self.path("begun").exists)
        working.cancel()
        await asyncio.wait((working,))
        await self.run("rm -f begun")

    def path(self, name: str) -> Path:
        """Return the path of a file of the workspace."""
        return Path(self.runtime.root, name)

    def processes(self) -> list[int]:
        """Return the workspace's living processes."""
        return marked_processes(self.mark)

    @asynccontextmanager
    async def another(self, name: str) -> AsyncIterator["LocalWorld"]:
        """Give the runtime of another conversation on the same server."""
        async with _connected(self.folder, self.builder, name, self.secret) as world:
            yield world


@asynccontextmanager
async def local_world(folder: Path, **limits: int) -> AsyncIterator[LocalWorld]:
    """Give a connected runtime below a folder that its user may pass through."""
    hidden = folder / "data"
    hidden.mkdir(mode=0o700)
    secret = hidden / "secret.txt"
    secret.write_text(KEY)
    secret.chmod(0o600)
    builder = LocalRuntimeBuilder(options(folder, **limits))
    async with _connected(folder, builder, "conversation", secret) as world:
        yield world


@asynccontextmanager
async def _connected(
    folder: Path, builder: LocalRuntimeBuilder, name: str, secret: Path
) -> AsyncIterator[LocalWorld]:
    runtime = await builder.build(name, None)
    assert isinstance(runtime, LocalRuntime)
    world = LocalWorld(folder, builder, runtime, secret)
    runtime.set_environment({"TEST_MARK": world.mark})
    await runtime.connect()
    try:
        yield world
    finally:
        await runtime.close()
