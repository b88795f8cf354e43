"""Watches the event loop: how late it is, and what holds it up."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from asyncio import AbstractEventLoop, TimerHandle
from typing import Any, NamedTuple, Self

import structlog

from server.tracebacks import without_quotes
from storage.counters import Histogram

logger = structlog.get_logger(__name__)
library_logger = logging.getLogger(__name__)

LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds of lag that are told apart."""
DEEPEST = 12
"""Innermost frames of the stack that are logged."""


class Sample(NamedTuple):
    """What the loop was found in: `file:line function`, the innermost last, and its task's name."""

    stack: list[str]
    task: str | None


class LoopWatch:
    """A beat on the loop, and a thread that looks at the loop's stack when the beat is overdue.

    Both come twice in `slow_seconds`: what holds the loop up for longer than that is logged once,
    when it is over, and with its stack if it took half as long again. Used as an async context
    manager; 0 seconds watch nothing.
    """

    def __init__(self, slow_seconds: float) -> None:
        self.lags = Histogram(LAG_BOUNDS)
        """How late each beat came, in seconds."""
        self.slow = 0
        """How often the loop was held up for longer than it may be."""
        self._slow_seconds = slow_seconds
        self._period = slow_seconds / 2
        self._due = 0.0
        self._beaten_at = 0.0
        self._found: Sample | None = None
        self._timer: TimerHandle | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch the running loop."""
        if self._slow_seconds > 0:
            loop = asyncio.get_running_loop()
            self._schedule(loop)
            self._thread = threading.Thread(
                target=self._look,
                args=(loop, threading.get_ident()),
                name="loop watch",
                daemon=True,
            )
            self._thread.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        """End; the thread is woken and waits for nothing."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join()

    def _schedule(self, loop: AbstractEventLoop) -> None:
        self._beaten_at = time.monotonic()
        self._due = self._beaten_at + self._period
        self._timer = loop.call_later(self._period, self._beat, loop)

    def _beat(self, loop: AbstractEventLoop) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        found, self._found = self._found, None
        self.lags.observe(lag)
        if lag > self._slow_seconds or found is not None:
            self.slow += 1
            told = {} if found is None else found._asdict()
            logger.warning("the event loop was held up", milliseconds=round(lag * 1000), **told)
        self._schedule(loop)

    def _look(self, loop: AbstractEventLoop, thread_id: int) -> None:
        while not self._over.wait(self._period):
            overdue = time.monotonic() - self._beaten_at > self._slow_seconds
            if overdue and self._found is None:
                self._found = _sample(loop, thread_id)


def _sample(loop: AbstractEventLoop, thread_id: int) -> Sample:
    frames = traceback.extract_stack(sys._current_frames().get(thread_id), limit=-DEEPEST)  # noqa: SLF001 - its documented use
    task = asyncio.current_task(loop)
    stack = [f"{one.filename}:{one.lineno} {one.name}" for one in frames]
    return Sample(stack, None if task is None else task.get_name())


def report(_loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody else has heard of; the loop's own handler would quote exceptions.

    To be set as the loop's exception handler.
    """
    error = context.get("exception")
    what = "nothing was raised" if error is None else without_quotes(error)
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    library_logger.error("%s (%s)", context.get("message"), what, exc_info=exc_info)
