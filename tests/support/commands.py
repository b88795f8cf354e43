"""The commands of `parley`, each in a process of its own."""

import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.support.servers import REPOSITORY
from tests.support.waiting import WAIT_SECONDS

COMMAND = (sys.executable, "-m", "server")


def run_parley(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these variables of the environment, and wait for its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )


def run_on_terminal(*arguments: str, cwd: Path) -> tuple[subprocess.CompletedProcess[str], bytes]:
    """Run a command whose stderr is a terminal; the second value is what that has shown."""
    screen, terminal = pty.openpty()
    # Read meanwhile: a terminal takes 4 KiB, and then who writes to it waits.
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(_shown, screen)
        try:
            outcome = subprocess.run(
                [*COMMAND, *arguments],
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"},
                stdout=subprocess.PIPE,
                stderr=terminal,
                text=True,
                check=False,
                timeout=WAIT_SECONDS,
            )
        finally:
            os.close(terminal)
        shown = reading.result()
    os.close(screen)
    return outcome, shown


def _shown(screen: int) -> bytes:
    """Return all that is written to a terminal, until nobody is left to write."""
    shown = b""
    with suppress(OSError):
        while chunk := os.read(screen, 100_000):
            shown += chunk
    return shown
