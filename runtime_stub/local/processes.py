"""The server's end of a keeper: starts it, has it run commands, and ends it."""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
from asyncio import Future, StreamReader, StreamWriter, Task
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.local import keeper
from runtime_stub.local.keeper import KILL_SECONDS, LENGTHS, Limits, frame
from runtime_stub.local.places import Place

logger = logging.getLogger(__name__)

START_SECONDS = 40.0
"""Seconds a keeper may take to start, which includes counting what is in the directory."""
CLOSE_SECONDS = KILL_SECONDS + 1.0
LONGEST_COMMAND = 100_000
"""Bytes of the longest command: the system takes 128 KiB in one argument."""
GONE = "the keeper of the workspace's processes has ended"


@dataclass(frozen=True, slots=True)
class Finished:
    """The outcome of a command: its exit code, both ends of its output, what the whole of it was.

    `folder` is where its shell ended, None if it did not say so; `notes` say which processes were
    ended since the last outcome, and why.
    """

    code: int
    output: bytes
    total: int
    folder: str | None
    notes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command: its text, the folder below the root in which it runs, and all its variables."""

    command: str
    folder: Sequence[str]
    environment: Mapping[str, str]
    kept_bytes: int
    """Bytes of each end of the output that are kept."""


class Used(NamedTuple):
    """Bytes and entries of a directory, and how often it has been counted so far."""

    size: int
    entries: int
    counts: int


class Processes:
    """The processes of one workspace, through their keeper."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: StreamReader, writer: StreamWriter
    ) -> None:
        self.used = Used(0, 0, 0)
        """What the directory took when it was last counted."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._outcomes: dict[int, Future[Finished]] = {}
        self._last = 0
        self._ready: Future[None] = asyncio.get_running_loop().create_future()
        self._why = GONE
        self._reading: Task[None] = asyncio.create_task(self._read(), name="keeper's answers")

    @classmethod
    async def start(cls, place: Place, limits: Limits, shell: str, python: str) -> Self:
        """Start a keeper for the workspace. Raises RuntimeUnavailable."""
        loop = asyncio.get_running_loop()
        starting = loop.run_in_executor(None, _start_keeper, python)
        try:
            link, process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_abandon)
            raise
        except OSError as error:
            raise RuntimeUnavailable(f"no process can be started: {error.strerror}") from error
        reader, writer = await asyncio.open_unix_connection(sock=link)
        started = cls(process, reader, writer)
        try:
            writer.write(
                frame(
                    {
                        "root": place.root,
                        "directory": place.directory,
                        "user": place.user,
                        "shell": shell,
                        "limits": limits._asdict(),
                    }
                )
            )
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(started._ready)
        except TimeoutError:
            await started.close()
            raise RuntimeUnavailable("the keeper of the workspace did not start in time") from None
        except BaseException:
            await started.close()
            raise
        return started

    async def run(self, request: Request, *, beside: bool = False) -> Finished:
        """Run a command after earlier ones, or `beside` them; cancelled, it and all it began ends.

        How long it may take is its caller's to say. Raises RuntimeUnavailable.
        """
        if len(request.command.encode("utf-8", "surrogatepass")) > LONGEST_COMMAND:
            said = b"bash: Argument list too long\n"
            return Finished(126, said, len(said), None, ())
        self._last += 1
        number = -self._last if beside else self._last
        outcome: Future[Finished] = asyncio.get_running_loop().create_future()
        self._check()
        self._outcomes[number] = outcome
        try:
            self._writer.write(frame({"do": "run", "id": number, **asdict(request)}))
            return await outcome
        except asyncio.CancelledError:
            if not self._writer.is_closing():
                self._writer.write(frame({"do": "end", "id": number}))
                self._wake()
            raise
        finally:
            del self._outcomes[number]

    async def close(self) -> bool:
        """End every process of the workspace, and the keeper, which goes on after CLOSE_SECONDS.

        Return whether the keeper sees to it: not if it has died.
        """
        late = True
        try:
            if not self._writer.is_closing():
                self._writer.write_eof()
                self._wake()
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.wait((self._reading,))
            late = False
        except OSError:
            late = False
        except TimeoutError:
            logger.warning("the keeper of a workspace is still ending its processes")
        finally:
            self._writer.transport.abort()
            self._reading.cancel()
            loop = asyncio.get_running_loop()
            reaping = loop.run_in_executor(None, self._process.wait)
            if not late:
                await asyncio.shield(reaping)
        return late or self._process.returncode == 0

    def _wake(self) -> None:
        """Let the keeper go on, which a process of the same user may have stopped."""
        self._process.send_signal(signal.SIGCONT)

    def _check(self) -> None:
        if self._reading.done():
            raise RuntimeUnavailable(self._why)

    async def _read(self) -> None:
        """Hand out the keeper's answers until it ends; then nothing is answered any more."""
        try:
            while True:
                said, content = LENGTHS.unpack(await self._reader.readexactly(LENGTHS.size))
                answer = json.loads(await self._reader.readexactly(said))
                self._take(answer, await self._reader.readexactly(content))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for outcome in self._outcomes.values():
                if not outcome.done():
                    outcome.set_exception(RuntimeUnavailable(self._why))
            if not self._ready.done():
                self._ready.set_exception(RuntimeUnavailable(self._why))
            if self._ready.done() and not self._ready.cancelled():
                self._ready.exception()  # told to whoever waits for it; nobody need

    def _take(self, answer: Mapping[str, Any], content: bytes) -> None:
        if answer["say"] == "failed":
            self._why = f"{GONE}: {answer['why']}"
            logger.error("the keeper of a workspace has failed: %s", answer["at"])
            return
        self.used = Used(answer["size"], answer["entries"], answer["counts"])
        if answer["say"] == "ready":
            self._ready.set_result(None)
            return
        outcome = self._outcomes.get(answer["id"])
        if outcome is not None and not outcome.done():
            outcome.set_result(
                Finished(
                    *(answer["code"], content, answer["total"], answer["folder"]), answer["notes"]
                )
            )


def _start_keeper(python: str) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    mine, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [python or sys.executable, "-I", "-S", str(Path(keeper.__file__))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
    except BaseException:
        mine.close()
        raise
    mine.setblocking(False)  # noqa: FBT003 - the socket API
    return mine, process


def _abandon(starting: "Future[tuple[socket.socket, subprocess.Popen[bytes]]]") -> None:
    """End a keeper that nobody waits for any more: it ends with its socket."""
    if starting.cancelled() or starting.exception() is not None:
        return
    link, process = starting.result()
    link.close()
    _ = asyncio.get_running_loop().run_in_executor(None, process.wait)
