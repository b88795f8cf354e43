"""The README, from which tests take what they run."""

import asyncio
import os
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.waiting import WAIT_SECONDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    """Return the one code block of that language that holds a text."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (found,) = [one for one in blocks if holding in one]
    return found


@asynccontextmanager
async def started(command: str, folder: Path, **environment: str) -> AsyncIterator[str]:
    """A command of the README, run in a folder that has its `scripts`; gives its first line."""
    scripts = folder / "scripts"
    if not scripts.exists():
        scripts.symlink_to(ROOT / "scripts")
    process = await asyncio.create_subprocess_shell(
        f"exec env {command}", stdout=PIPE, cwd=folder, env={**os.environ, **environment}
    )
    try:
        yield await _next_line(process)
    finally:
        process.terminate()
        assert await process.wait() == 0


async def _next_line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_SECONDS):
        return (await process.stdout.readline()).decode().strip()
