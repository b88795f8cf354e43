"""Calls into user code - agents, runtimes, stores, listeners - that harm the caller only.

What such code raises comes to its caller as an Exception, even where it is none (SystemExit, a
panic of an extension module); what it awaits ends by a deadline, even where it ignores its
cancellation; and from within it no task can be cancelled but its own.
"""

import asyncio
import logging
from asyncio import AbstractEventLoop, CancelledError, Future, Task
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, ParamSpec, TypeVar

from server.errors import text_of

logger = logging.getLogger(__name__)

GRACE_SECONDS = 0.5
"""Seconds cancelled code may take to end before it is abandoned."""

P = ParamSpec("P")
T = TypeVar("T")


class UserCodeFailed(Exception):
    """The code raised a BaseException that is not an Exception, or cancelled itself."""


class UserCodeLate(TimeoutError):
    """The code missed its deadline, or is still busy with an earlier call; the text says which."""


class UserCode:
    """User code of one scope: one conversation's agent and runtime, or one class of stores.

    Its tasks, and tasks they start, can cancel each other but no other tasks.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        """The owner, for the log."""
        self.ended = False
        """Release the code: its remaining tasks may be cancelled."""
        self._left_behind: set[Task[Any]] = set()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that must not wait. Raises UserCodeFailed and the Exceptions it raises."""
        token = _within.set(self)
        try:
            return function(*args, **kwargs)
        except Exception:
            raise
        except BaseException as error:
            raise UserCodeFailed(type(error).__name__) from error
        finally:
            _within.reset(token)

    async def wait(self, call: Callable[[], Awaitable[T]], seconds: float | None, name: str) -> T:
        """Await the result of `call` in a separate task; `name` describes the call.

        After `seconds`, or when the caller is cancelled, the task is cancelled, and abandoned if it
        ignores that. Raises UserCodeFailed, UserCodeLate and the Exceptions it raises.
        """
        loop = asyncio.get_running_loop()
        task = self._begin(call, name)
        # As asyncio.wait, in a fraction of its time: every step of an agent comes by here.
        waiter: Future[None] = loop.create_future()
        wake = partial(_wake, waiter)
        task.add_done_callback(wake)
        timer = None if seconds is None else loop.call_later(seconds, wake)
        try:
            await waiter
        except CancelledError:
            await self._give_up(task)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not task.done():
            await self._give_up(task)
            raise UserCodeLate(f"{name} did not end within {seconds:g} seconds")
        try:
            return task.result()
        except CancelledError as error:
            raise UserCodeFailed("CancelledError") from error

    def is_stuck(self, name: str) -> bool:
        """Return whether a call of that name was abandoned and has not ended yet."""
        return any(task.get_name() == self._named(name) for task in self._left_behind)

    def _named(self, name: str) -> str:
        return f"{name} of {self.owner}"

    def _begin(self, call: Callable[[], Awaitable[T]], name: str) -> Task[T]:
        token = _within.set(self)
        try:
            return asyncio.get_running_loop().create_task(
                exceptions_only(call), name=self._named(name)
            )
        finally:
            _within.reset(token)

    async def _give_up(self, task: Task[Any]) -> None:
        task.cancel()
        self._left_behind.add(task)
        task.add_done_callback(self._forget)
        _, late = await asyncio.wait((task,), timeout=GRACE_SECONDS)
        if late:
            logger.error("abandoning %s: it ignored its cancellation", task.get_name())

    def _forget(self, task: Task[Any]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.debug("%s failed after its cancellation", task.get_name())


class ContainedTask(Task[T]):
    """A task that user code can cancel only if it belongs to the same code, or to none that lives."""

    __slots__ = ("_owner",)

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        loop: AbstractEventLoop,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(coro, loop=loop, name=name, context=context)
        self._owner = _within.get() if context is None else context.get(_within)

    def cancel(self, msg: Any | None = None) -> bool:
        """Ask the task to end; refused, and logged, where code of others may not."""
        canceller = _within.get()
        if canceller is None or self._owner is canceller:
            return super().cancel(msg)
        if self._owner is not None and self._owner.ended:
            return super().cancel(msg)
        name = self.get_name()
        logger.error("refused an attempt of %s to cancel %s", canceller.owner, name)
        return False


def contained_task(loop: AbstractEventLoop, coro: Any, **options: Any) -> Task[Any]:
    """Make every task of an event loop a ContainedTask; to be set as its task factory."""
    return ContainedTask(coro, loop=loop, **options)


def reason_of(error: BaseException) -> str:
    """Return `Type: text` of what code of others has raised, or of any other error."""
    if isinstance(error, UserCodeFailed) and error.__cause__ is not None:
        error = error.__cause__
    text = text_of(error)
    if isinstance(error, UserCodeLate):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def fitting(given: object, kind: type[T], what: str) -> T:
    """Return what code of others has given. Raises TypeError unless it is of that kind."""
    if not isinstance(given, kind):
        raise TypeError(f"{what} gave {type(given).__name__}, not {kind.__name__}")
    return given


def _wake(waiter: Future[None], *_: object) -> None:
    if not waiter.done():
        waiter.set_result(None)


@contextmanager
def outside() -> Iterator[None]:
    """Run a block as the server's own, although code of others has called it.

    Tasks that begin in it are the server's. Not for generators, which would leave it at a `yield`.
    """
    token = _within.set(None)
    try:
        yield
    finally:
        _within.reset(token)


def runs_now() -> bool:
    """Return whether it is code of others that asks."""
    return _within.get() is not None


async def exceptions_only(call: Callable[[], Awaitable[T]]) -> T:
    """Await the result of `call`. Raises UserCodeFailed for other BaseExceptions than Exceptions."""
    try:
        return await call()
    except (Exception, CancelledError):
        raise
    except BaseException as error:
        raise UserCodeFailed(type(error).__name__) from error


_within: ContextVar[UserCode | None] = ContextVar("within", default=None)
"""The code of others that runs now."""
