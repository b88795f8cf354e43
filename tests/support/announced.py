"""Programs of others that say in what they write when they take connections."""

import subprocess
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any

START_SECONDS = 60.0
"""The longest a program may take to begin: a hang takes as long, a slow machine never."""


class Announced:
    """A process whose standard error is copied to a file and says by a text that it is ready."""

    def __init__(self, command: list[str], text: bytes, log: Path, **more: Any) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **more,
        )
        self._log = log
        self._told = Event()
        assert self.process.stderr is not None
        Thread(target=self._copy, args=(self.process.stderr, text), daemon=True).start()

    def wait_until_ready(self) -> None:
        """Block until the text has come. Raises AssertionError, with the log, if it does not."""
        told = self._told.wait(START_SECONDS)
        assert told, self._log.read_text()[-3000:]
        assert self.process.poll() is None, self._log.read_text()[-3000:]

    def _copy(self, lines: IO[bytes], text: bytes) -> None:
        with lines, self._log.open("ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                if text in line:
                    self._told.set()
        self._told.set()  # it has ended, or closed what it writes to
