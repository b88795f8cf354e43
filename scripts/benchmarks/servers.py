"""Starts and stops what is measured: our server, Node, Bun, the Python yardsticks."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import BenchError
from benchmarks.payload import FILLER

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
NODE = Path(__file__).resolve().parent / "node"
READY = "Parley is ready at http://127.0.0.1:"
START_SECONDS = 60
JOB_SECONDS = 100


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server: its process, its port and its side door (0: it has none)."""

    pid: int
    port: int
    control: int = 0

    def load(self, mode: str, **job: Any) -> dict[str, Any]:
        """Run a load generator against it; its result. Raises BenchError."""
        where = {"mode": mode, "pid": self.pid, "port": self.port, "control": self.control}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(where | job),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=JOB_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"{mode}: the load generator failed:\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout)
        if "error" in result:
            raise BenchError(f"{mode}: {result['error']}")
        return result


def environment(project: Path = ROOT) -> dict[str, str]:
    """The variables of every process: our modules in reach, no settings from outside."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PARLEY_")}
    kept.pop("SESSION_API_KEY", None)
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
    return kept | {
        "PYTHONPATH": f"{project / 'scripts'}{os.pathsep}{project}",
        "PYTHONWARNINGS": "ignore",
        "DO_NOT_TRACK": "1",  # Bun reports its crashes otherwise
    }


@contextlib.contextmanager
def ours(data_dir: Path, storage: str = "memory", *options: str) -> Iterator[Contender]:
    """Our server with the producer inside."""
    command = [sys.executable, "-m", "benchmarks.server", "--storage", storage]
    with _started([*command, "--data-dir", str(data_dir), *options]) as contender:
        yield contender


@contextlib.contextmanager
def node() -> Iterator[Contender]:
    """Node's Socket.IO server; its packages are installed at first use."""
    _install_node_packages()
    with _started(["node", "--expose-gc", "server.mjs", FILLER], NODE) as contender:
        yield contender


@contextlib.contextmanager
def bun() -> Iterator[Contender | None]:
    """Bun's own websockets; None where the package has no program that runs on this machine."""
    _install_node_packages()
    if bun_version() is None:
        yield None
        return
    with _started([str(_bun_program()), "bun.mjs", FILLER], NODE) as contender:
        yield contender


def bun_version() -> str | None:
    """The version of the Bun that is installed; None where there is none that runs."""
    try:
        done = subprocess.run(
            [str(_bun_program()), "--version"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _bun_program() -> Path:
    """The program in the package for this machine, which npm chooses; its folder, if there is none."""
    folder = NODE / "node_modules" / "@oven"
    return next(iter(sorted(folder.glob("bun-*/bin/bun"))), folder)


@contextlib.contextmanager
def yardstick(name: str) -> Iterator[Contender]:
    """`stock`: python-socketio as it comes; `raw`: picows alone."""
    with _started([sys.executable, "-m", "benchmarks.yardstick_servers", name]) as contender:
        yield contender


def exported(commit: str, folder: Path) -> Path | None:
    """The project as it was at a commit, below a folder; None where its history is not at hand."""
    done = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder / commit, filter="data")
    return folder / commit


@contextlib.contextmanager
def parley(
    data_dir: Path, *options: str, project: Path = ROOT
) -> Iterator[tuple[Contender, float]]:
    """`parley serve` as it is used; with it the seconds it took until it was ready."""
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--data-dir", str(data_dir)]
    # Its working directory, too: no parley.toml of somebody else is read.
    data_dir.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with _process([*command, *options], data_dir, project) as process:
        line = _first_line(process)
        seconds = time.perf_counter() - began
        if not line.startswith(READY):
            raise BenchError(f"the server said {line!r}")
        yield Contender(process.pid, int(line.removeprefix(READY))), seconds
        process.terminate()


@contextlib.contextmanager
def _started(command: Sequence[str], folder: Path = ROOT) -> Iterator[Contender]:
    with _process(command, folder) as process:
        port, control = _first_line(process).split()
        yield Contender(process.pid, int(port), int(control))


@contextlib.contextmanager
def _process(
    command: Sequence[str], folder: Path, project: Path = ROOT
) -> Iterator["subprocess.Popen[str]"]:
    # What it prints on standard error is the server's own business unless it fails to start.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(project),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_line(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline().strip() if process.stdout is not None else ""
    if not line:
        raise BenchError(f"{process.args!r} did not start")
    return line


def _install_node_packages() -> None:
    lock = (NODE / "package-lock.json").read_bytes()
    done = NODE / "node_modules" / ".set-up"
    if not done.exists() or done.read_bytes() != lock:
        subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=NODE, check=True)
        done.write_bytes(lock)
