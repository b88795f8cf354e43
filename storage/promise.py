"""Promise: an outcome whose callbacks run in the step in which it becomes known."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Abandoned(Exception):
    """Nobody works on the outcome any more, and it is not known."""


class Promise(Generic[T]):
    """A future whose callbacks run inside `resolve` and `reject`.

    So one step can complete a whole commit; a callback that raises is logged and does not affect
    others. Awaiting it creates a future, and cancelling the waiter changes nothing. Belongs to one
    loop's thread.
    """

    __slots__ = ("_callbacks", "_source", "_value", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: Exception | None = None
        self._value: T | None = None
        self._callbacks: list[Callable[[Promise[T]], None]] = []
        self._source: object = None

    def then(self, callback: Callable[["Promise[T]"], None]) -> None:
        """Call it with this promise once the outcome is known; at once if it is."""
        if self.done:
            self._tell(callback)
        else:
            self._callbacks.append(callback)

    @classmethod
    def resolved(cls, value: T) -> "Promise[T]":
        """Return a promise with a known value."""
        promise: Promise[T] = Promise()
        promise.resolve(value)
        return promise

    @classmethod
    def rejected(cls, error: Exception) -> "Promise[T]":
        """Return a promise with a known error."""
        promise: Promise[T] = Promise()
        promise.reject(error)
        return promise

    def resolve(self, value: T) -> None:
        """Tell the value. The first outcome counts."""
        self._settle(value, None)

    def reject(self, error: Exception) -> None:
        """Tell an error. The first outcome counts."""
        self._settle(None, error)

    def settle(self, outcome: T | Exception) -> None:
        """Resolve with a value, or reject with an error."""
        if isinstance(outcome, Exception):
            self.reject(outcome)
        else:
            self.resolve(outcome)

    def result(self) -> T:
        """Return the value, or raise the error; only when done."""
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]  # resolved with a T

    def future(self) -> "Future[T]":
        """Return the outcome as a future of the running loop; cancelling it changes nothing."""
        future: Future[T] = asyncio.get_running_loop().create_future()

        def tell(promise: "Promise[T]") -> None:
            if future.done():
                return
            if promise.error is None:
                future.set_result(promise.result())
            else:
                future.set_exception(promise.error)

        self.then(tell)
        return future

    def __await__(self) -> Generator[object, None, T]:
        if not self.done:
            return (yield from self.future().__await__())
        return self.result()

    def _settle(self, value: T | None, error: Exception | None) -> None:
        if self.done:
            return
        self.done = True
        self._value = value
        self.error = error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                logger.exception("a callback failed")

    def _tell(self, callback: Callable[["Promise[T]"], None]) -> None:
        try:
            callback(self)
        except Exception:
            logger.exception("a callback failed")

    @classmethod
    def of(cls, awaitable: Awaitable[T]) -> "Promise[T]":
        """Return the outcome of an awaitable as a promise; a promise is returned unchanged."""
        if isinstance(awaitable, Promise):
            return awaitable
        promise: Promise[T] = Promise()
        source = asyncio.ensure_future(awaitable)
        promise._source = source  # the loop itself holds tasks weakly only

        def tell(done: "Future[T]") -> None:
            try:
                promise.resolve(done.result())
            except asyncio.CancelledError:
                promise.reject(Abandoned("what was awaited was cancelled"))
            except Exception as error:  # noqa: BLE001 - it is the promise's
                promise.reject(error)

        source.add_done_callback(tell)
        return promise
