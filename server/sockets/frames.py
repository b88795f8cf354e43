"""Runs of frames, encoded once from stored events and cached by page for all clients."""

import asyncio
import time
from array import array
from asyncio import Future
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

import orjson

from events.event import PLAIN, STATE, AgentState, StoredEvent
from events.page_reader import PageKey, PageReader
from events.pages import PageCache, page_bounds, page_of
from server.sockets.protocol import payload_frame, project, stored_frame
from storage.counters import Counters

SHARE_SECONDS = 0.0003
"""Seconds all replays together may hold the event loop per iteration, plus one slice."""
SHARE_BYTES = 16 * 1024
"""Bytes all replays together may send per iteration, plus one slice: the write at the end of the
iteration takes longer than encoding. Of long slices that is one."""
WOKEN = 8
"""Waiters woken per iteration of the event loop; their slices may be short."""


class ReplayScheduler:
    """Limits the share of each iteration of the event loop that replays take; first come, first served."""

    def __init__(self) -> None:
        self._began: float | None = None
        """`perf_counter` at the first slice of this iteration of the event loop."""
        self._sent_bytes = 0
        self._waiting: deque[Future[None]] = deque()
        self._called = False
        """Whether woken waiters have not run yet: new callers queue behind them."""
        self._put_back = 0
        """Waiters examined in this iteration that must go on waiting, at the front."""

    async def acquire(self) -> None:
        """Wait until the next slice may be sent; at once when nobody waits and the share is not used up."""
        if not self._waiting and not self._called and self._has_room():
            return
        waiter: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter
        while not self._has_room():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.insert(self._put_back, waiter)
            self._put_back += 1
            await waiter

    def sent(self, size_bytes: int) -> None:
        """Count a slice that was sent."""
        self._sent_bytes += size_bytes

    def _has_room(self) -> bool:
        now = time.perf_counter()
        if self._began is None:
            self._began = now
            self._sent_bytes = 0
            asyncio.get_running_loop().call_soon(self._end)
        return now - self._began <= SHARE_SECONDS and self._sent_bytes < SHARE_BYTES

    def _end(self) -> None:
        self._began = None
        self._put_back = 0
        woken = 0
        while self._waiting and woken < WOKEN:
            waiter = self._waiting.popleft()
            if not waiter.done():  # a session that has ended meanwhile
                waiter.set_result(None)
                woken += 1
        self._called = woken > 0
        if self._waiting or woken:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Wake the next waiters if every session woken before has ended without sending."""
        self._called = False
        if self._began is None and self._waiting:
            self._end()


RUN_OVERHEAD_BYTES = 400
END_BYTES = 8
"""Bytes of an entry in a run's table."""


class FrameRun:
    """Consecutive events as websocket frames, joined to one run of bytes.

    `wire` is what clients see of the events from `first_id` to `last_id`; hidden ones have no
    bytes in it. `ends` holds for each event where its frame ends. `states` are the ids of changes
    of the agent's state, `errors` those of them that tell of an error. `is_full`: it ends where a
    part of a page does. A run never changes.
    """

    __slots__ = ("ends", "errors", "first_id", "is_full", "last_id", "states", "wire")

    def __init__(
        self,
        first_id: int,
        wire: bytes,
        ends: "array[int]",
        states: Sequence[int] = (),
        errors: Sequence[int] = (),
        *,
        is_full: bool = False,
    ) -> None:
        self.first_id = first_id
        self.last_id = first_id + len(ends) - 1
        self.wire = wire
        self.ends = ends
        self.states = states
        self.errors = errors
        self.is_full = is_full

    @property
    def size_bytes(self) -> int:
        """Approximate bytes held in memory."""
        return len(self.wire) + END_BYTES * len(self.ends) + RUN_OVERHEAD_BYTES

    def covers(self, first_id: int, last_id: int) -> bool:
        """Return whether the run contains the events first_id..last_id, both inclusive."""
        return self.first_id <= first_id and last_id <= self.last_id

    def serves(self, first_id: int, last_id: int) -> bool:
        """Return whether the run can serve a read of these events, in part if the run is full."""
        needed = first_id if self.is_full else last_id
        return self.first_id <= first_id and needed <= self.last_id

    def part(self, first_id: int, last_id: int) -> "FrameRun":
        """Return the part first_id..last_id, both inclusive; the run itself if that is all of it."""
        if first_id == self.first_id and last_id == self.last_id:
            return self
        first, end = first_id - self.first_id, last_id + 1 - self.first_id
        begin = self.ends[first - 1] if first else 0
        return FrameRun(
            first_id,
            self.wire[begin : self.ends[end - 1]],
            array("Q", [place - begin for place in self.ends[first:end]]),
            [one for one in self.states if first_id <= one <= last_id],
            [one for one in self.errors if first_id <= one <= last_id],
        )

    def slice(self, position: int, limit_bytes: int) -> "FrameRun":
        """Return as many events after a position below `last_id` as fit; at least one."""
        place = max(position + 1 - self.first_id, 0)
        if not place and len(self.wire) <= limit_bytes:
            return self
        begin = self.ends[place - 1] if place else 0
        end = max(bisect_right(self.ends, begin + limit_bytes, place), place + 1)
        return self.part(self.first_id + place, self.first_id + end - 1)

    def without(self, ids: Iterable[int]) -> bytes:
        """Return the bytes without the frames of some events, given in ascending order."""
        view = memoryview(self.wire)
        kept = []
        begin = 0
        for one in ids:
            place = one - self.first_id
            kept.append(view[begin : self.ends[place - 1] if place else 0])
            begin = self.ends[place]
        return b"".join([*kept, view[begin:]]) if kept else self.wire

    def error(self, state_id: int) -> bytes:
        """Return the frame of a state if the state is `error`, else nothing."""
        return self.part(state_id, state_id).wire if state_id in self.errors else b""


def run_of(events: Sequence[StoredEvent], *, is_full: bool = False) -> FrameRun:
    """Return the frames of 1..N consecutive events.

    An event's JSON is used as stored wherever the projection is the identity.
    """
    frames: list[bytes] = []
    ends = array("Q")
    states: list[int] = []
    errors: list[int] = []
    end = 0
    for event in events:
        if event.flag == PLAIN:
            frame = stored_frame(event.body)
        else:
            shown = project(orjson.loads(event.body))
            frame = b"" if shown is None else payload_frame(shown)
            if event.flag == STATE:
                states.append(event.id)
                extras = None if shown is None else shown.get("extras")
                if isinstance(extras, dict) and extras.get("agent_state") == AgentState.ERROR:
                    errors.append(event.id)
        frames.append(frame)
        end += len(frame)
        ends.append(end)
    wire = frames[0] if len(frames) == 1 else b"".join(frames)
    return FrameRun(events[0].id, wire, ends, states, errors, is_full=is_full)


class FrameReader:
    """Frames of stored pages, projected once and cached for all conversations and clients."""

    def __init__(
        self, reader: PageReader, cache_bytes: int, counters: Counters | None = None
    ) -> None:
        self.counters = counters or Counters()
        self.scheduler = ReplayScheduler()
        """Taken for each page that is made and each slice that is sent."""
        self._reader = reader
        self.cache = PageCache[PageKey, FrameRun](cache_bytes)
        reader.made_of_pages.append(self.cache)

    async def read(self, conversation_id: str, start_id: int, next_id: int) -> FrameRun:
        """Return frames from `start_id` to the end of its page or part, all below `next_id`.

        Raises what PageReader.read raises.
        """
        key = PageKey(conversation_id, page_of(start_id, self._reader.page_size))
        end_id = min(page_bounds(key.page, self._reader.page_size)[1], next_id)
        run = self.cache.get(key)
        if run is None or not run.serves(start_id, end_id - 1):
            extends = run is not None and not run.is_full
            first_id = min(start_id, run.first_id) if run is not None and extends else start_id
            forgotten = self._reader.forgotten
            events = await self._reader.read(conversation_id, first_id, end_id)
            if events[-1].id < start_id:  # a part ended before it
                events = await self._reader.read(conversation_id, start_id, end_id)
            await self.scheduler.acquire()
            run = self.cache.get(key)  # others may have made it meanwhile
            if run is None or not run.serves(start_id, end_id - 1):
                made = run_of(events, is_full=events[-1].id + 1 < end_id)
                is_wider = run is None or run.is_full or made.covers(run.first_id, run.last_id)
                if is_wider and forgotten == self._reader.forgotten:
                    self.cache.put(key, made, made.size_bytes)
                run = made
        return run.part(start_id, min(end_id - 1, run.last_id))
