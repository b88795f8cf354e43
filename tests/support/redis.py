"""A real Redis for this process: started when it is first asked for, killable, ended with it."""

import atexit
import shutil
import signal
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.support.announced import START_SECONDS, Announced
from tests.support.servers import kept_port


class RedisServer:
    """One process that keeps nothing on the disk, on a port that nobody else is given."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "Redis is not installed; scripts/setup-tools does that"
        self._program = program
        self.folder = Path(mkdtemp(prefix="parley-redis-"))
        self._ports = ExitStack()
        self.port = self._ports.enter_context(kept_port())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        announced = Announced(
            [*command, "--dir", str(self.folder), "--logfile", "/dev/stderr"],
            b"eady to accept connections",
            self.folder / "log",
            cwd=self.folder,
        )
        self._process = announced.process
        announced.wait_until_ready()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_SECONDS)

    def remove(self) -> None:
        """End it, and remove its folder."""
        if self.runs:
            self.kill()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def redis_server() -> RedisServer:
    """This process's server; tests that kill it start it again."""
    server = RedisServer()
    atexit.register(server.remove)
    server.start()
    return server
