"""A database whose process dies at a chosen write, around one whose rows outlive it."""

from typing import Any, TypeVar

from storage.database.base import RowDatabase, Rows, Script, Translate, as_it_is
from storage.errors import OutcomeUnknown, Unavailable
from storage.promise import Promise
from tests.support.dying_files import Death

T = TypeVar("T")


class DyingDatabase(RowDatabase):
    """Passes on writes until it is told to die: then neither an answer nor any other call comes."""

    def __init__(self, inner: RowDatabase) -> None:
        self.counters = inner.counters
        self.dead = False
        self.writes = 0
        self._inner = inner
        self._last: int | None = None
        self._death = Death.before

    def die_after(self, writes: int, death: Death) -> None:
        """Die so at the write that follows on so many from now."""
        self._last, self._death = self.writes + writes, death

    def submit(self, script: Script[T], *, failure: Translate = as_it_is) -> Promise[T]:
        """See Database."""
        return self._passed(lambda: self._inner.submit(script, failure=failure), failure)

    def submit_rows(
        self, rows: Rows, otherwise: Script[T | None], *, failure: Translate = as_it_is
    ) -> Promise[T | None]:
        """See RowDatabase."""
        return self._passed(
            lambda: self._inner.submit_rows(rows, otherwise, failure=failure), failure
        )

    def _passed(self, submit: Any, failure: Translate) -> Promise[Any]:
        if self.dead:
            return Promise[Any].rejected(failure(Unavailable("the process is dead")))
        self.writes += 1
        self.dead = self._last is not None and self.writes > self._last
        if not self.dead:
            promise: Promise[Any] = submit()
            return promise
        if self._death is Death.after:
            submit()
        return Promise[Any].rejected(failure(OutcomeUnknown("the process died")))

    @property
    def closed(self) -> bool:
        """See Database."""
        return self.dead or self._inner.closed

    async def read(self, script: Script[T]) -> T:
        """See Database."""
        if self.dead:
            raise Unavailable("the process is dead")
        return await self._inner.read(script)

    async def close(self) -> None:
        """See Database. The inner one stays open."""
