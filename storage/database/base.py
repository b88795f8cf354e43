"""The Database contract: named statements, run in scripts that are whole or not at all."""

import re
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cache, partial, wraps
from importlib.resources import files
from typing import Any, NamedTuple, ParamSpec, TypeVar

from storage.counters import Counters
from storage.errors import StorageError
from storage.medium import Medium
from storage.promise import Promise

T = TypeVar("T")
P = ParamSpec("P")

Row = tuple[Any, ...]


class Statement(NamedTuple):
    """One named query and its positional parameters; `many` runs it once per row of parameters.

    With `limit_bytes` a read ends with the row whose last column makes all of them together reach
    so many bytes.
    """

    query: str
    parameters: Sequence[Any] = ()
    many: bool = False
    limit_bytes: int | None = None


class Result(NamedTuple):
    """The result of a statement: the rows it returned, and how many rows it touched."""

    rows: list[Row]
    touched: int


def bytes_in(value: object) -> bytes:
    """Return stored bytes; empty for a value of another type, which a damaged row may hold."""
    return value if isinstance(value, bytes) else b""


Steps = Generator[Statement, Result, T]
"""One run of a script: it yields statements, receives their results and returns a value.

It does no I/O, so that every dialect can run it, in a thread or by awaiting.
"""
Script = Callable[[], Steps[T]]
"""Begins a run. A database may run a script anew whose effects were undone, so nothing outside the
statements may tell how often it ran.
"""


def rerunnable(steps: Callable[P, Steps[T]]) -> Callable[P, Script[T]]:
    """Make calls of a generator function return scripts."""

    @wraps(steps)
    def script(*args: P.args, **kwargs: P.kwargs) -> Script[T]:
        return partial(steps, *args, **kwargs)

    return script


Translate = Callable[[StorageError], Exception]


def as_it_is(error: StorageError) -> Exception:
    """Return the error unchanged, for callers that handle the storage's errors."""
    return error


class Database(Medium, ABC):
    """A store of rows. Drivers' errors leave it as `storage.errors` only."""

    counters: Counters

    def write(self, script: Script[T], *, failure: Translate = as_it_is) -> Future[T]:
        """Submit a write and return a future of the running loop."""
        return self.submit(script, failure=failure).future()

    @abstractmethod
    def submit(self, script: Script[T], *, failure: Translate = as_it_is) -> Promise[T]:
        """Run a script atomically; resolves when it is durable.

        Scripts see each other's effects as if they ran in the order of the calls, and may share a
        commit. An error of the script rolls back that script alone and rejects its promise; a
        failed commit rejects every script in it. Cancelling the waiter does not stop the script.
        `failure` translates the database's own errors into the caller's. Rejects with Unavailable
        if nothing was written (MediumLost while `lost` is set) and with OutcomeUnknown if only
        reading can tell.
        """

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it takes nothing more."""

    @abstractmethod
    async def read(self, script: Script[T]) -> T:
        """Run a script of reads against committed data. Raises Unavailable."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes taken so far and release everything."""


Rows = Sequence[tuple[str, Sequence[Sequence[Any]]]]
"""Named statements, each with the rows of parameters it runs for.

Such a statement accepts rows after the word VALUES, fails as a whole if one of them is refused, and
ignores rows that are all null.
"""


class RowDatabase(Database):
    """A database with one writer, to which a write may be given as rows, too."""

    @abstractmethod
    def submit_rows(
        self, rows: Rows, otherwise: Script[T | None], *, failure: Translate = as_it_is
    ) -> Promise[T | None]:
        """Write rows that either fit or make their statement fail, or else run a script instead.

        The value is None unless the script ran. Rows of many writers run together, which makes a
        large commit cheap; within a commit they run before the scripts. For the rest see `submit`.
        """


@cache
def load_queries(dialect: str = "") -> Mapping[str, str]:
    """Return every `-- name: x` section of `queries/*.sql`, or of a dialect's folder there, by name."""
    queries: dict[str, str] = {}
    folder = files("storage.database") / "queries"
    if dialect:
        folder /= dialect
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".sql"):
            continue
        sections = re.split(r"^-- name: (\w+)\s*$", entry.read_text("utf-8"), flags=re.MULTILINE)
        for name, text in zip(sections[1::2], sections[2::2], strict=True):
            if name in queries:
                raise ValueError(f"two queries are named {name}")
            queries[name] = text.strip()
    return queries
