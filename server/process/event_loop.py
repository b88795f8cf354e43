"""Runs an event loop that no task's exit can end, and ends it in bounded time."""

import asyncio
import logging
import os
import sys
import threading
import time
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import uvloop

from server.observability.event_loop_watch import report
from server.user_code import contained_task, runs_now

logger = logging.getLogger(__name__)

ENDING_SECONDS = 0.5
"""Seconds the remaining tasks, and then the generators, may take to end."""

OTHERS_THREADS = 32
"""Threads of all agents, runtimes and stores together."""

P = ParamSpec("P")
T = TypeVar("T")


class SeparateThreads(ThreadPoolExecutor):
    """Threads of the server's; what code of others wants done in threads goes to others.

    So agents whose threads hang keep none from the server, which needs some to stop in order.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="server")
        self._others = ThreadPoolExecutor(OTHERS_THREADS, thread_name_prefix="code of others")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call done in a thread; code of others waits for its own where all are at work."""
        if runs_now():
            return self._others.submit(fn, *args, **kwargs)
        return super().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's
        """Take no more calls."""
        self._others.shutdown(wait=False, cancel_futures=True)
        super().shutdown(wait, cancel_futures=cancel_futures)


def run_to_end(work: Callable[[], Coroutine[Any, Any, T]], begins: Callable[[], None]) -> T:
    """Run a coroutine in a new event loop, and return its result or raise its error.

    Neither SystemExit nor KeyboardInterrupt out of another task ends it, nor does `loop.stop`.
    Tasks that are left are cancelled; what ignores that, or a thread that goes on, would hold the
    process: it is ended then, with the exit code that the result is. `begins` is called each time
    the loop begins to run.
    """
    loop = uvloop.new_event_loop()
    loop.set_task_factory(contained_task)
    loop.set_exception_handler(report)
    loop.set_default_executor(SeparateThreads())
    try:
        main = loop.create_task(work(), name="server")
        _run(loop, main, begins)
        result = main.result()
    except BaseException:
        _end(loop)
        raise
    left = _end(loop)
    left += _threads_left()
    if left and isinstance(result, int):
        logger.error("exiting although these are still running: %s", ", ".join(left))
        sys.stdout.flush()
        os._exit(result)
    return result


def _run(loop: AbstractEventLoop, main: Task[Any], begins: Callable[[], None]) -> None:
    while not main.done() and not loop.is_closed():
        loop.call_soon(begins)
        try:
            loop.run_until_complete(main)
        except BaseException as error:  # noqa: BLE001 - user code must not end the process
            if not main.done():
                kind = type(error).__name__
                logger.error("ignored an attempt to stop the event loop by raising %s", kind)  # noqa: TRY400 - the task that raised it is gone


def _end(loop: AbstractEventLoop) -> list[str]:
    """Cancel the remaining tasks, and close the loop; return the names of tasks that ignored that."""
    late: set[Task[Any]] = set()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        waiting = loop.create_task(asyncio.wait(tasks, timeout=ENDING_SECONDS))
        _run(loop, waiting, _nothing)
        _, late = waiting.result()
    generators = loop.create_task(loop.shutdown_asyncgens())
    _run(loop, loop.create_task(asyncio.wait((generators,), timeout=ENDING_SECONDS)), _nothing)
    names = [task.get_name() for task in (*late, generators) if not task.done()]
    loop.close()
    return names


def _threads_left() -> list[str]:
    """Wait for non-daemon threads; return the names of those that keep running."""
    due = time.monotonic() + ENDING_SECONDS
    main = threading.main_thread()
    threads = [one for one in threading.enumerate() if one is not main and not one.daemon]
    for thread in threads:
        thread.join(max(0.0, due - time.monotonic()))
    return [one.name for one in threads if one.is_alive()]


def _nothing() -> None:
    """Do nothing: the default callback."""
