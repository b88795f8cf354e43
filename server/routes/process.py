"""Resources this process uses."""

import asyncio
import os
import resource
import shutil
import sys
import time
from asyncio import Task
from pathlib import Path
from typing import Any

import anyio.to_thread

from server.routes.request import ResponseBody

PROC = Path("/proc")
KIB = 1024
LOOK_SECONDS = 2.0
"""Seconds the system may take to report its resources."""


class Memory(ResponseBody):
    """Bytes, and the share of the machine's memory."""

    rss: int
    vms: int
    percent: float


class Disk(ResponseBody):
    """Bytes of the file system that holds the data directory."""

    total: int
    used: int
    free: int
    percent: float


class Transfers(ResponseBody):
    """Bytes the process has read and written."""

    read_bytes: int
    write_bytes: int
    rchar: int
    wchar: int
    syscr: int
    syscw: int


class Resources(ResponseBody):
    """The resources of this process; values that the system does not report are 0."""

    cpu_percent: float
    memory: Memory
    disk: Disk
    io: Transfers


class ProcessFigures:
    """Reads the figures in a thread: CPU use is that since the last reading.

    All who ask share one look at the system, which may hang with its disk: a late one is not
    followed by another.
    """

    def __init__(
        self, data_dir: Path, proc: Path = PROC, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._data_dir = data_dir
        self._proc = proc
        self._look_seconds = look_seconds
        self._looking: Task[dict[str, Any]] | None = None
        self._read_at = time.monotonic()
        self._cpu_seconds = time.process_time()

    async def read(self) -> Resources:
        """Return the current figures. Raises TimeoutError if the system does not answer."""
        now, used = time.monotonic(), time.process_time()
        elapsed = max(now - self._read_at, 1e-6)
        percent = 100 * (used - self._cpu_seconds) / elapsed
        self._read_at, self._cpu_seconds = now, used
        figures = await self._look()
        return Resources.model_validate({"cpu_percent": round(percent, 1), **figures})

    async def _look(self) -> dict[str, Any]:
        looking = self._looking
        if looking is None:
            work = anyio.to_thread.run_sync(_read_files, self._data_dir, self._proc)
            looking = self._looking = asyncio.get_running_loop().create_task(work)
        done, _ = await asyncio.wait([looking], timeout=self._look_seconds)
        if not done:
            raise TimeoutError("the system does not report its resources")
        if self._looking is looking:
            self._looking = None
        return looking.result()


def _read_files(data_dir: Path, proc: Path) -> dict[str, Any]:
    folder = data_dir if data_dir.is_dir() else Path()
    disk = shutil.disk_usage(folder)
    io = _table(proc / "self" / "io")
    return {
        "memory": _memory(proc),
        "disk": {
            "total": disk.total,
            "used": disk.used,
            "free": disk.free,
            "percent": round(100 * disk.used / disk.total, 1) if disk.total else 0.0,
        },
        "io": {
            name: io.get(name, 0)
            for name in ("read_bytes", "write_bytes", "rchar", "wchar", "syscr", "syscw")
        },
    }


def _memory(proc: Path) -> dict[str, float]:
    try:
        pages = [int(word) for word in (proc / "self" / "statm").read_text().split()]
        page = os.sysconf("SC_PAGE_SIZE")
        vms, rss = pages[0] * page, pages[1] * page
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else KIB
        vms, rss = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    total = _table(proc / "meminfo").get("MemTotal", 0) * KIB
    return {"rss": rss, "vms": vms, "percent": round(100 * rss / total, 1) if total else 0.0}


def _table(path: Path) -> dict[str, int]:
    """Parse lines of `name: number unit`."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    rows = (line.partition(":") for line in lines)
    return {name: int(rest.split()[0]) for name, _, rest in rows if rest.split()}
