"""How exceptions are written to the log: where and what, but nothing they may quote."""

import sqlite3
import sys
import traceback
from types import TracebackType
from typing import TypeAlias

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

OWN = ("server", "events", "storage", "runtime_stub")
PROGRAM_FAULTS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    MemoryError,
    NameError,
    OSError,
    RecursionError,
    TypeError,
    sqlite3.Error,
)
"""Their texts are made by the interpreter, the system or the database."""
LEFT_OUT = "(text left out)"
DEEPEST = 10
"""Causes and members of groups that are written out at most."""


def without_quotes(error: BaseException) -> str:
    """`Type: text`. The text only of errors that quote nothing users or agents have written.

    Those are our own and PROGRAM_FAULTS. Others, a ValueError as well as an agent's own kind, may
    hold the text they could not deal with.
    """
    kind = type(error)
    name = kind.__qualname__
    own = kind.__module__.partition(".")[0] in OWN
    quotes = getattr(kind, "quotes", False)
    if not own:
        name = name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
    told = (own and not quotes) or _is_made_below(kind)
    text = str(error) if told else LEFT_OUT
    return f"{name}: {text}" if text else name


def written(exc_info: ExcInfo | None) -> str:
    """A traceback with its causes, the first cause first."""
    found: list[BaseException] = []
    _gather((exc_info or sys.exc_info())[1], found)
    return "\n".join(_one(error) for error in reversed(found))


def _is_made_below(kind: type[BaseException]) -> bool:
    # Subclasses by others may carry other texts, those of the interpreter and of sqlite3 do not.
    return issubclass(kind, PROGRAM_FAULTS) and kind.__module__ in ("builtins", "sqlite3")


def _gather(error: BaseException | None, found: list[BaseException]) -> None:
    """An error, what it groups, what it came of; the last is where it began."""
    if error is None or len(found) >= DEEPEST or any(one is error for one in found):
        return
    found.append(error)
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            _gather(member, found)
    before = error.__context__ if not error.__suppress_context__ else None
    _gather(error.__cause__ or before, found)


def _one(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{without_quotes(error)}"
