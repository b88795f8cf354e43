"""Questions of the pages about the repository of a workspace, asked of git by commands in it.

Git runs as every other command does: what a repository makes it start is bounded and ended likewise.
"""

import shlex
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_stub.base import FileChange
from runtime_stub.errors import FileMissing, WorkspaceError
from runtime_stub.local.processes import Finished

KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of each end of git's answer; a longer one is refused."""
NO_REPOSITORY = 3
NOT_COMMITTED = 4
NOT_FOUND = 127
_GIT = "git --no-optional-locks -c core.fsmonitor=false -c core.quotePath=false"
_TOP = f"{_GIT} rev-parse --show-toplevel"
# It fails with one code for everything, and its words tell that there is no repository.
_FIND = (
    f"top=$({_TOP} 2>/dev/null) || {{ code=$?; case $(LC_ALL=C {_TOP} 2>&1) in"
    f" *'not a git repository'*) exit {NO_REPOSITORY};; esac; exit $code; }}"
)

Run = Callable[[str, Sequence[str]], Coroutine[Any, Any, Finished]]
"""Runs a command in a folder below the root, beside the agent's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The repository's folder, and what git wrote there."""

    top: str
    output: bytes


async def ask(run: Run, folder: Sequence[str], command: str) -> Answer | None:
    """Ask the repository around the folder, else the one at the root; None without a repository.

    Raises FileMissing where `content` finds nothing, and WorkspaceError where git does not answer.
    """
    asking = f'{_FIND}; cd -- "$top" && printf "%s\\0" "$top" && {{ {command}; }} 2>/dev/null'
    for place in dict.fromkeys((tuple(folder), ())):
        finished = await run(asking, place)
        if finished.code == NO_REPOSITORY:
            continue
        if finished.code == NOT_COMMITTED:
            raise FileMissing("there is no such file in the last commit")
        if finished.code == NOT_FOUND:
            raise WorkspaceError("git cannot be found")
        if finished.code != 0:
            raise WorkspaceError(f"git failed with the exit code {finished.code}")
        if finished.total > len(finished.output):
            raise WorkspaceError("git's answer is too long")
        top, _, output = finished.output.partition(b"\0")
        return Answer(top.decode("utf-8", "surrogateescape"), output)
    return None


def status() -> str:
    """Return the command that lists what `changes_in` reads."""
    return f"{_GIT} status --porcelain=v1 -z --untracked-files=all --no-renames"


def content(path: str) -> str:
    """Return the command that gives a file as last committed."""
    # What does not exist is told apart from what cannot be read.
    return (
        f"{_GIT} rev-parse --verify --quiet HEAD >/dev/null || {{ code=$?;"
        f" exit $((code == 1 ? {NOT_COMMITTED} : code)); }};"
        f" entry=$({_GIT} ls-tree HEAD -- {shlex.quote(path)}) || exit;"
        f' read -r _ kind name _ <<< "$entry"; [ "$kind" = blob ] || exit {NOT_COMMITTED};'
        f' {_GIT} cat-file blob "$name"'
    )


def branch() -> str:
    """Return the command that names the branch, whether it has a commit or not."""
    return f"{_GIT} symbolic-ref --quiet --short HEAD || {_GIT} rev-parse --abbrev-ref HEAD"


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
