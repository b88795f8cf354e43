"""Enforces the deadline of a shutdown, even if the event loop is blocked."""

import faulthandler
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

import structlog

from server.observability.event_loop_watch import stack_of

logger = structlog.get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_ENDED = 1
"""The exit code of a process whose stop took too long."""
END_SECONDS = 0.25
"""Seconds after the bound of a stop at which the process is ended."""
LAST_SECONDS = 0.5
"""Seconds after that at which it is ended without Python, which an extension module may hold."""
AT_ONCE_SECONDS = 0.2
"""Seconds a second signal may take to end a process whose Python is held."""


class Watchdog:
    """Handles SIGTERM and SIGINT: the first begins a shutdown, a second ends the process at once.

    A shutdown that exceeds `seconds` is logged with the main thread's stack, and the process is
    ended. A thread that the kernel wakes at a signal does that, and faulthandler's timer if Python
    itself is blocked. What was acknowledged is durable before and after. To be entered in the main
    thread; it stays on guard after a signal, else it ends with the block.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stop: Callable[[], object] = _nothing
        self._asked = False
        self._armed = False
        self._before: dict[signal.Signals, Any] = {}
        self._main = threading.get_ident()
        self._ours, self._kernels = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        """Take the signals."""
        self._kernels.setblocking(False)  # noqa: FBT003 - the socket API
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._signalled)
        self.listen()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the signal handlers, unless a signal arrived."""
        if self._asked:
            return
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._kernels.close()
        self._thread.join()
        self._ours.close()

    def listen(self) -> None:
        """Have the kernel wake the thread; an event loop that begins to run takes that for itself."""
        signal.set_wakeup_fd(self._kernels.fileno(), warn_on_full_buffer=False)

    def on_stop(self, stop: Callable[[], object]) -> None:
        """Call `stop` in another thread at the first signal, or now after one; possibly twice."""
        self._stop = stop
        if self._asked:
            stop()

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        # Runs in the main thread, also where an extension holds Python and only looks for signals.
        seconds = AT_ONCE_SECONDS if self._armed else self._seconds + LAST_SECONDS
        self._armed = True
        faulthandler.dump_traceback_later(seconds, exit=True)

    def _watch(self) -> None:
        number = self._next_signal(None)
        if number is None:
            return
        self._asked = True
        try:
            self._stop()
        except RuntimeError as error:
            logger.warning("received a signal after the event loop was closed", error=str(error))
        number = self._next_signal(self._seconds + END_SECONDS)
        # Writing the line below may block; this timer ends the process even then.
        signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS - END_SECONDS)
        if number is not None:
            logger.warning("received a second signal: exiting immediately")
            os._exit(128 + number)
        where = stack_of(self._main)
        logger.critical("the shutdown took too long: exiting", where=where)
        os._exit(EXIT_ENDED)

    def _next_signal(self, seconds: float | None) -> int | None:
        """Return a handled signal; None after so many seconds, or when the block was left."""
        due = None if seconds is None else time.monotonic() + seconds
        while True:
            self._ours.settimeout(None if due is None else max(0.001, due - time.monotonic()))
            try:
                received = self._ours.recv(1)
            except TimeoutError:
                return None
            if not received or received[0] in SIGNALS:
                return received[0] if received else None


def _nothing() -> None:
    """Do nothing: no stop callback is set yet."""
