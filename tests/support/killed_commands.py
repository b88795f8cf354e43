"""Commands of `parley` that are killed at their first failpoint, a later one, and so on to the end."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping

from tests.support.servers import REPOSITORY

KILLED = """
import os, signal, sys
left = int(sys.argv[1])
def reach():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
from storage.failpoints import NAMES, enable
for name in NAMES:
    enable(name, reach)
from server.cli import main
sys.exit(main(sys.argv[2:]))
"""


async def killed_anywhere(
    *arguments: str, environment: Mapping[str, str] | None = None, step: int = 1
) -> AsyncIterator[int]:
    """Run a command again and again, and yield how many runs were killed, after each run.

    Each run comes further than the one before, by more each time in units of `step`. The last one
    is not killed, and must succeed.
    """
    kills, reached = 0, 0
    code: int = -signal.SIGKILL
    while code == -signal.SIGKILL:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, str(reached), *arguments),
            stdout=PIPE,
            stderr=PIPE,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(environment or {}),
        )
        _, errors = await process.communicate()
        code = await process.wait()
        kills += code == -signal.SIGKILL
        reached += step * kills + 1
        yield kills
    assert code == 0, errors.decode()
