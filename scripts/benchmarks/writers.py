"""Agents that write, inside the server that is measured: tokens at a steady rate, as of a model."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.payload import STAMP_DIGITS
from events.actions import MessageAction
from events.batch import Appended
from events.event import EventSource
from events.partials import Pace, Partial
from events.stream import EventStream

TOKENS_PER_SECOND = 50
TOKENS = 100
"""Of one message, where nothing else is asked for."""
PAUSE_TOKENS = 5
"""Between two messages, in the time of tokens."""
PIECE_SECONDS = 0.05
"""Between two events, where pieces are appended as events."""
WORDS = ("all", " work", " and", " no", " play", " makes", " a", " dull", " day", " ...")
SPREAD = 0.618
"""The golden ratio's: writers begin evenly spread over a message, however many they are."""


class Writer:
    """Writes message after message into one conversation.

    `how` is what becomes of the tokens: `deltas` writes them as a partial, `durable` appends what
    came within 50 ms as an event of its own, `whole` appends the message when it is complete, and
    `nothing` only lets the tokens come.
    """

    def __init__(self, stream: EventStream, how: str, number: int, tokens: int) -> None:
        self.events = 0
        """Appended ones."""
        self._stream = stream
        self._how = how
        self._tokens = tokens
        self._share = number * SPREAD % 1
        self._text: list[str] = []
        self._partial: Partial | None = None
        self._appended_at = 0.0
        self._stopping = False
        self._settled: list[asyncio.Future[None]] = []
        self._task = asyncio.get_running_loop().create_task(self._write_on())

    async def stop(self) -> int:
        """End the message under way; the number of events appended, all durable."""
        self._stopping = True
        await self._task
        await asyncio.gather(*self._settled)
        return self.events

    async def _write_on(self) -> None:
        # The first message is shorter, so that the writers' messages do not end together.
        left = 1 + int(self._share * self._tokens)
        loop = asyncio.get_running_loop()
        due = loop.time() + self._share / TOKENS_PER_SECOND
        for number in itertools.count():
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1 / TOKENS_PER_SECOND
            stamp = f"{time.monotonic_ns():0{STAMP_DIGITS}d}"
            self._take(WORDS[number % len(WORDS)] if self._text else stamp)
            left -= 1
            if left == 0 or self._stopping:
                await asyncio.sleep(max(0.0, due - loop.time()))
                self._end()
                if self._stopping:
                    return
                left = self._tokens
                due += PAUSE_TOKENS / TOKENS_PER_SECOND

    def _take(self, token: str) -> None:
        self._text.append(token)
        if self._how == "deltas":
            if self._partial is None:
                self._partial = self._stream.partials.begin("message", "content", 0)
            self._partial.write(token)
        elif self._how == "durable":
            now = asyncio.get_running_loop().time()
            if now - self._appended_at >= PIECE_SECONDS:
                self._appended_at = now
                self._append()

    def _end(self) -> None:
        if self._partial is not None:
            event = MessageAction(content=self._partial.text)
            append = partial(self._stream.submit, own=True)
            self._partial.finish(event, EventSource.AGENT, append, self._noted())
            self._partial = None
        elif self._text and self._how != "nothing":
            self._append()
        self._text.clear()

    def _append(self) -> None:
        event = MessageAction(content="".join(self._text))
        self._stream.submit(event, EventSource.AGENT, self._noted(), own=True)
        self._text.clear()

    def _noted(self) -> "partial[None]":
        self.events += 1
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settled = [one for one in self._settled if not one.done()]
        self._settled.append(settled)
        return partial(_settle, settled)


def _settle(settled: "asyncio.Future[None]", outcome: Appended | Exception) -> None:
    if isinstance(outcome, Exception):
        settled.set_exception(outcome)
    else:
        settled.set_result(None)


class Writers:
    """The writers of one run."""

    def __init__(self) -> None:
        self._writers: list[Writer] = []

    def start(
        self,
        streams: Sequence[EventStream],
        how: str,
        *,
        tokens: int,
        secrets: int,
        each_token: bool,
    ) -> None:
        """Begin to write messages of so many tokens.

        There are so many secrets to look for, and a piece for each token if asked for.
        """
        for number, stream in enumerate(streams):
            # Secrets as people have them: keys of a service, a few with a word in front.
            stream.update_secrets(
                {f"KEY_{one}": f"sk-{one:04d}-{one * 7_919_177:020x}" for one in range(secrets)}
            )
            if each_token:
                stream.partials._pace = Pace(0)  # noqa: SLF001 - no setting permits it
            self._writers.append(Writer(stream, how, number, tokens))

    async def stop(self) -> list[int]:
        """End all messages; the events appended to each conversation."""
        writers, self._writers = self._writers, []
        return list(await asyncio.gather(*(one.stop() for one in writers)))
