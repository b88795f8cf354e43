"""The machine of a measurement: processor time of a process, and a description for reports."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_SCHED_CLOCK = 2


def cpu_seconds(pid: int) -> float:
    """Processor time of a process with all its threads, ended ones included; to the nanosecond.

    The clock's number is what clock_getcpuclockid(3) gives on Linux.
    """
    return time.clock_gettime(~pid << 3 | _SCHED_CLOCK)


class Meter:
    """Time, the server's processor time and the generator's own, over a stretch of the run."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._server = cpu_seconds(pid)
        self._own = time.process_time()
        self._wall = time.perf_counter()

    def stop(self) -> dict[str, float]:
        """Seconds since the start, and the generator's share of a core."""
        wall = time.perf_counter() - self._wall
        return {
            "wall": wall,
            "server_cpu": cpu_seconds(self._pid) - self._server,
            "own_share": (time.process_time() - self._own) / wall,
        }


def describe() -> dict[str, Any]:
    """The machine, the versions that matter and the load at this moment."""
    processor = platform.processor() or platform.machine()
    with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return {
        "processor": names[0] if names else processor,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "node": node.stdout.strip(),
        "libraries": {
            name: version(name)
            for name in ("uvicorn", "uvloop", "websockets", "python-socketio", "picows")
        },
        "load_1m_5m_15m": [round(one, 2) for one in psutil.getloadavg()],
    }
