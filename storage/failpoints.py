"""Failpoints: named places in the code at which a test makes the process fail.

They do nothing unless a test enables them. Each is at a point where a crash may interrupt a
sequence of writes; its name says what is done when it is reached.
"""

from collections.abc import Callable
from typing import Final

NAMES: Final = (
    "commit.begun",  # a transaction holds its writes, and nothing of it is durable
    "commit.done",  # a transaction is durable, and not reported yet
    "migration.begun",  # a migration's statements ran, and are not committed
    "file.flushed",  # a file's content is durable under a temporary name
    "file.linked",  # a file has its name, which may not be durable
    "file.settled",  # a file and its name are durable, and not reported yet
    "file.unlinked",  # files lost their names, which may come back
    "recall.begun",  # a message is durable, and nothing marks it as taken up by an agent
)

_actions: dict[str, Callable[[], None]] = {}


def failpoint(name: str) -> None:
    """Run the action that a test has set for this point; otherwise do nothing."""
    if _actions and name in _actions:
        _actions[name]()


def enable(name: str, action: Callable[[], None]) -> None:
    """Run `action` whenever the point is reached, in the thread that reaches it.

    Raises ValueError for a name that is no failpoint.
    """
    if name not in NAMES:
        raise ValueError(f"{name} is no failpoint")
    _actions[name] = action


def disable_all() -> None:
    """Make every failpoint a no-op again."""
    _actions.clear()
