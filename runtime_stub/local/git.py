"""Questions of the pages about the repository of a workspace, asked of git by commands in it.

Git runs as every other command does: what a repository makes it start is bounded and ended likewise.
"""

import shlex
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_stub.base import FileChange
from runtime_stub.errors import WorkspaceError
from runtime_stub.local.processes import Finished

KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of each end of git's answer; a longer one is refused."""
NO_REPOSITORY = 3
_GIT = "git --no-optional-locks -c core.fsmonitor=false -c core.quotePath=false"
_TOP = f"top=$({_GIT} rev-parse --show-toplevel 2>/dev/null) || exit {NO_REPOSITORY}"

Run = Callable[[str, Sequence[str]], Coroutine[Any, Any, Finished]]
"""Runs a command in a folder below the root, beside the agent's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The repository's folder, git's exit code there, and what it wrote."""

    top: str
    code: int
    output: bytes


async def ask(run: Run, folder: Sequence[str], arguments: str) -> Answer | None:
    """Ask the repository around the folder, else the one at the root; None without a repository."""
    command = f'{_TOP}; cd -- "$top" && printf "%s\\0" "$top" && {_GIT} {arguments} 2>/dev/null'
    for place in dict.fromkeys((tuple(folder), ())):
        finished = await run(command, place)
        if finished.code == NO_REPOSITORY:
            continue
        if finished.total > len(finished.output):
            raise WorkspaceError("git's answer is too long")
        top, found, output = finished.output.partition(b"\0")
        if found:
            return Answer(top.decode("utf-8", "surrogateescape"), finished.code, output)
    return None


def status() -> str:
    """Return the arguments that list what `changes_in` reads."""
    return "status --porcelain=v1 -z --untracked-files=all --no-renames"


def content(path: str) -> str:
    """Return the arguments that give a file as last committed."""
    return f"cat-file blob {shlex.quote(f'HEAD:{path}')}"


def branch() -> str:
    """Return the arguments that name the branch, whether it has a commit or not."""
    return f"symbolic-ref --quiet --short HEAD || {_GIT} rev-parse --abbrev-ref HEAD"


def changes_in(listing: bytes) -> list[FileChange]:
    """Return the changes since the last commit of a status, sorted by path."""
    found: dict[str, str] = {}
    for entry in listing.decode("utf-8", "surrogateescape").split("\0"):
        states, path = entry[:2], entry[3:]
        if not path:
            continue
        status = _status_of(states)
        # A file that was removed from the index and is still there has two entries.
        found[path] = "M" if found.get(path) == "D" and status == "U" else status
    return [FileChange(status, path) for path, status in sorted(found.items()) if status]


def _status_of(states: str) -> str:
    """Return a change from the last commit to the files; nothing when both are the same."""
    staged, working = states[:1], states[1:]
    if states == "??":
        return "U"
    if staged == "A" or states == " A":
        return "" if working == "D" else "A"
    return "D" if "D" in states else "M"
