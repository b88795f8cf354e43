"""Producers that append to streams of this process without a pause, and what they were answered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import orjson

from events.batch import Appended
from events.errors import AppendFailed
from events.event import StoredEvent
from events.stores.base import EventStore
from events.stream import EventStream
from events.summary import SummaryChange
from tests.support.invariants import History
from tests.support.streams import USER, log_of, message, open_stream

CONVERSATIONS = 6
PRODUCERS = 4


class Load:
    """Producers that append without a pause, the answers they got, and who waits for their number."""

    def __init__(self) -> None:
        self.histories = [History() for _ in range(CONVERSATIONS)]
        self.published: list[list[int]] = [[] for _ in range(CONVERSATIONS)]
        self.up = asyncio.Event()
        self.up.set()
        self.ended = False
        self.refused = 0
        self._waiting: tuple[int, asyncio.Future[None]] | None = None

    @property
    def acknowledged(self) -> int:
        return sum(one.acknowledgements for one in self.histories)

    async def produce(self, stream: EventStream, number: int, producer: int) -> None:
        history = self.histories[number]
        count = 0
        while not self.ended:
            count += 1
            key = f"{producer}.{count}"
            history.sent(key, f"text {key}")
            try:
                appended = await stream.append(message(f"text {key}"), USER, client_id=key)
            except AppendFailed:
                history.refused(key)
                self.refused += 1
                await self.up.wait()
                continue
            assert isinstance(appended, Appended)
            history.acknowledged(key, appended.id)
            self._note()

    async def more(self, count: int) -> None:
        """Wait for so many further acknowledgements."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = (self.acknowledged + count, waiting)
        await waiting

    async def run(self, store: EventStore, strike: Callable[[], Awaitable[None]]) -> None:
        """Append to every conversation of a store until `strike` has ended, and close the streams."""
        streams = [await open_stream(store, f"c{one}") for one in range(CONVERSATIONS)]
        for stream, published in zip(streams, self.published, strict=True):
            stream.tap(partial(_publish, published))
        async with asyncio.TaskGroup() as tasks:
            for number, stream in enumerate(streams):
                for producer in range(PRODUCERS):
                    tasks.create_task(self.produce(stream, number, producer))
            await strike()
            self.ended = True
        for stream in streams:
            await stream.close()

    async def check(self, store: EventStore) -> None:
        """Compare the logs with what was answered and published. Raises AssertionError."""
        for number, history in enumerate(self.histories):
            log = await log_of(store, f"c{number}")
            history.check([orjson.loads(one.body) for one in log])
            assert self.published[number] == list(range(len(log)))

    def _note(self) -> None:
        if self._waiting is not None and self.acknowledged >= self._waiting[0]:
            self._waiting[1].set_result(None)
            self._waiting = None


def _publish(published: list[int], events: Sequence[StoredEvent], _: SummaryChange) -> None:
    published += [one.id for one in events]
