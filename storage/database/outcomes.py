"""The outcome of a statement, read off the error with which PostgreSQL's driver ended it."""

from storage.errors import Conflict, OutcomeUnknown, StorageError, StorageFull, Unavailable

REFUSED_CLASSES = frozenset(("0A", "22", "23", "28", "3D", "3F", "42", "53", "54", "55", "P0"))
"""Classes of SQLSTATE of a reply that undid the statement: values, constraints, names, resources."""
REFUSED_STATES = frozenset(("25006", "40000", "40001", "40002", "40P01"))
RERUN_STATES = frozenset(("40001", "40P01"))
"""Serialization failure and deadlock: the same statement may succeed now."""
READ_ONLY_STATE = "25006"
"""The host takes no writes, any more: it is a standby."""
INTEGRITY_CLASS = "23"
FULL_STATE = "53100"
"""The disk is full."""


class Rerun(Unavailable):
    """Others were in the way of the statement, which did nothing and may be tried again at once."""


def state_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, "" where it has none."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def was_refused(error: BaseException) -> bool:
    """Return whether PostgreSQL replied that a statement did nothing, and that in words of its own.

    False for what may have been committed: a connection that was lost, an operator who ended the
    statement, which cannot undo a commit that only waits for a standby, and all that is not known.
    """
    state = state_of(error)
    return state in REFUSED_STATES or state[:2] in REFUSED_CLASSES


def translated(error: Exception, *, sure: bool) -> StorageError:
    """Return the storage's error for a driver's.

    `sure` tells that what was sent cannot have been committed, however the statement ended.
    """
    text = f"PostgreSQL: {str(error) or type(error).__name__}"
    state = state_of(error)
    translation: StorageError
    if state[:2] == INTEGRITY_CLASS:
        translation = Conflict(text)
    elif state in RERUN_STATES:
        translation = Rerun(text)
    elif state == FULL_STATE:
        translation = StorageFull(text)
    elif sure or was_refused(error):
        translation = Unavailable(text)
    else:
        translation = OutcomeUnknown(text)
    translation.__cause__ = error
    return translation
