"""Backends ended at work, and crashes of PostgreSQL: nothing acknowledged is lost, nothing doubled."""

import asyncio
from collections.abc import Sequence
from functools import partial

import orjson

from events.batch import Appended
from events.errors import AppendFailed
from events.event import StoredEvent
from events.stream import EventStream
from events.summary import SummaryChange
from tests.support.backends import open_postgres_events
from tests.support.invariants import History
from tests.support.postgres import postgres_server, terminate_backends
from tests.support.streams import USER, log_of, message, open_stream

CONVERSATIONS = 6
PRODUCERS = 4
ACKNOWLEDGED = 60
"""Acknowledgements between two blows."""
CRASHES = 2
TERMINATIONS = 8
"""Before each crash."""


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

    def _note(self) -> None:
        if self._waiting is not None and self.acknowledged >= self._waiting[0]:
            self._waiting[1].set_result(None)
            self._waiting = None


def note(published: list[int], events: Sequence[StoredEvent], _: SummaryChange) -> None:
    published += [one.id for one in events]


async def strike(load: Load) -> None:
    """End backends and crash the server, each time once there is new work under way."""
    server = postgres_server()
    for _ in range(CRASHES):
        for _ in range(TERMINATIONS):
            await load.more(ACKNOWLEDGED)
            await terminate_backends()
        await load.more(ACKNOWLEDGED)
        load.up.clear()
        await asyncio.to_thread(server.crash)
        server.launch()
        await asyncio.to_thread(server.wait)
        load.up.set()
    await load.more(ACKNOWLEDGED)
    load.ended = True


async def test_whatever_ends_at_work_nothing_acknowledged_is_lost_and_nothing_is_doubled(
    tmp_path, record_property
):
    load = Load()
    async with open_postgres_events(tmp_path, deadline_seconds=60.0) as store:
        streams = [await open_stream(store, f"c{one}") for one in range(CONVERSATIONS)]
        for stream, published in zip(streams, load.published, strict=True):
            stream.tap(partial(note, published))
        async with asyncio.timeout(250), asyncio.TaskGroup() as tasks:
            for number, stream in enumerate(streams):
                for producer in range(PRODUCERS):
                    tasks.create_task(load.produce(stream, number, producer))
            tasks.create_task(strike(load))
        for stream in streams:
            await stream.close()
        unknown = store.counters.appends_unknown

    async with open_postgres_events(tmp_path) as store:
        for number, history in enumerate(load.histories):
            log = await log_of(store, f"c{number}")
            history.check([orjson.loads(one.body) for one in log])
            assert load.published[number] == list(range(len(log)))
    record_property(
        "figures",
        f"{load.acknowledged} acknowledged, {load.refused} refused, {unknown} unknown, over"
        f" {CRASHES * TERMINATIONS} terminations and {CRASHES} crashes",
    )
