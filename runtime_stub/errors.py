"""Errors of the runtime floor.

RuntimeFloorError
├── RateLimited           the agent's model takes no more calls for now (in agent.py)
├── RuntimeUnavailable    the runtime cannot be built, connected or reached
└── WorkspaceError        a file operation was refused; the text is for people
    ├── FileMissing       no such file or folder
    ├── NotText           the file is not UTF-8 text
    └── BadWorkspacePath  the path leaves the workspace or is not valid
"""

from typing import ClassVar

LONGEST_QUOTE = 4096
"""Characters of a path or an address that an error quotes."""


class RuntimeFloorError(Exception):
    """Base class of the errors of `runtime_stub`."""


class RuntimeUnavailable(RuntimeFloorError):
    """The runtime cannot be built, connected or reached."""


class WorkspaceError(RuntimeFloorError):
    """A file operation was refused."""

    quotes: ClassVar[bool] = True
    """Its text quotes paths, which must not appear in the server's log."""


class FileMissing(WorkspaceError):
    """No such file or folder."""


class NotText(WorkspaceError):
    """The file is not UTF-8 text."""


class BadWorkspacePath(WorkspaceError):
    """The path leaves the workspace or is not valid."""


def named(text: str) -> str:
    """Return a path or an address as an error may quote it: whole, or not at all.

    A part of it might hold half of a secret, which nothing would mask.
    """
    return text if len(text) <= LONGEST_QUOTE else f"({len(text)} characters)"
