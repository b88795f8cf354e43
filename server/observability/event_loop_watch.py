"""Watches the event loop: how late it is, and what holds it up."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple, Self

import structlog

from server.observability.logs import without_quotes
from storage.counters import Histogram

logger = structlog.get_logger(__name__)
library_logger = logging.getLogger(__name__)

LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds, in seconds, of the lag histogram."""
BEAT_SECONDS = 0.1
"""Seconds between beats; the runner ticks as often, so no other timer is needed."""
LAGS = 10
LATE_SECONDS = 0.02
"""The loop is late when half of so many beats, those of a second, come later than that."""
DEEPEST = 12
"""Innermost frames of the stack that are logged."""


class Sample(NamedTuple):
    """A stack of the event loop: `file:line function`, the innermost last, and the task's name."""

    where: list[str]
    task: str | None


class LoopWatch:
    """Measures the delay of the event loop; a thread takes its stack when a beat is overdue.

    The loop counts as blocked when no beat came for `slow_seconds`. A block is logged once, when it
    is over, with that stack. The thread runs from the first beat to the end of the context; 0
    seconds disable the watch.
    """

    def __init__(
        self,
        slow_seconds: float,
        adapt: Callable[[bool], None] = lambda _late: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._adapt = adapt
        """Told once a second whether the loop is late."""
        self._last_lags: list[float] = []
        self.lags = Histogram(LAG_BOUNDS)
        """Seconds each beat was late."""
        self.slow = 0
        """Times the event loop was held up."""
        self._slow_seconds = slow_seconds
        self._beaten_at = 0.0
        self._found: Sample | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Wait for the first beat."""
        return self

    def __exit__(self, *error: object) -> None:
        """End; the thread is woken and waits for nothing."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def beat(self) -> None:
        """Measure the delay; called on the loop BEAT_SECONDS after the previous call ended."""
        now = self._clock()
        if self._slow_seconds <= 0 or self._over.is_set():
            return
        if self._thread is None:
            arguments = asyncio.get_running_loop(), threading.get_ident()
            self._thread = threading.Thread(
                target=self._look, args=arguments, name="loop watch", daemon=True
            )
            self._beaten_at = now
            self._thread.start()
            return
        seconds = now - self._beaten_at
        found, self._found = self._found, None
        self._beaten_at = now
        lag = max(0.0, seconds - BEAT_SECONDS)
        self.lags.observe(lag)
        self._last_lags.append(lag)
        if len(self._last_lags) >= LAGS:
            self._adapt(median(self._last_lags) > LATE_SECONDS)
            self._last_lags.clear()
        if found is not None or seconds > self._slow_seconds:
            self.slow += 1
            fields = {} if found is None else found._asdict()
            logger.warning(
                "the event loop was blocked", milliseconds=round(seconds * 1000), **fields
            )

    def _look(self, loop: AbstractEventLoop, thread_id: int) -> None:
        patience = self._slow_seconds
        while not self._over.wait(patience):
            patience = self._beaten_at + self._slow_seconds - self._clock()
            if patience <= 0:
                self._found = self._found or _sample(loop, thread_id)
                patience = self._slow_seconds


def stack_of(thread_id: int) -> list[str]:
    """Return where a thread is: `file:line function`, the innermost last."""
    frames = traceback.extract_stack(sys._current_frames().get(thread_id), limit=DEEPEST)  # noqa: SLF001 - its documented use
    return [f"{one.filename}:{one.lineno} {one.name}" for one in frames]


def _sample(loop: AbstractEventLoop, thread_id: int) -> Sample:
    task = asyncio.current_task(loop)
    return Sample(stack_of(thread_id), None if task is None else task.get_name())


def report(_loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nothing handled; to be set as the loop's exception handler.

    The default handler would quote the text of exceptions.
    """
    error = context.get("exception")
    what = "nothing was raised" if error is None else without_quotes(error)
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    about = context.get("task") or context.get("future")
    name = about.get_name() if isinstance(about, asyncio.Task) else type(about).__name__
    library_logger.error("unhandled error in %s: %s", name, what, exc_info=exc_info)
