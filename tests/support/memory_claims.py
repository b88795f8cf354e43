"""Claims to loops that the managers of one process share, as processes share rows."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from events.fence import Fence
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from server.agent.lease import LeaseLost
from server.conversations.claims import Claimed, Gone, Held, HeldBy, LoopRow, Waits
from server.conversations.clustered import ClusteredConversationManager


@dataclass(slots=True)
class Row:
    """A loop: who holds it, or nobody while it waits."""

    user_id: str | None
    holder: "MemoryClaims | None" = None
    asker: "MemoryClaims | None" = None
    """The claims that put it in line."""
    has_work: bool = False
    asked_to_stop: bool = False


@dataclass(slots=True)
class SharedRows:
    """The rows of all loops, and the numbers of their fences."""

    events: MemoryEventStore
    limit: int
    rows: dict[str, Row] = field(default_factory=dict)
    fences: "count[int]" = field(default_factory=lambda: count(1))


class MemoryLease:
    """A lease that a test takes away."""

    def __init__(self) -> None:
        self.lost = False
        self.open = asyncio.Event()
        self.open.set()

    def holds(self) -> bool:
        """See Lease."""
        return self.open.is_set() and not self.lost

    async def held(self) -> None:
        """See Lease."""
        await self.open.wait()
        if self.lost:
            raise LeaseLost("declared dead")


class MemoryClaims:
    """The claims of one process; see SharedClaims. `dead` ones were declared so."""

    def __init__(self, shared: SharedRows, name: str, holder: int) -> None:
        self._shared = shared
        self.name = name
        self.holder = holder
        self.lease = MemoryLease()
        self.dead = False

    async def claim(
        self, conversation_id: str, owner: str | None, *, has_work: bool, in_line: bool = False
    ) -> Claimed:
        """See Claims."""
        await asyncio.sleep(0)
        rows = self._shared.rows
        if self.dead or (await self._shared.events.head(conversation_id)).deleted:
            rows.pop(conversation_id, None)
            return Gone()
        if in_line and conversation_id not in rows:
            return Gone()
        row = rows.setdefault(conversation_id, Row(owner))
        row.has_work, row.asker = row.has_work or has_work, self
        if row.holder is not None and row.holder is not self and not row.holder.dead:
            return HeldBy(row.holder.name)
        if row.holder is None:
            held = [one for one in rows.values() if one.user_id == owner and one.holder is not None]
            if len(held) >= self._shared.limit:
                return Waits()
        row.holder, row.asked_to_stop = self, False
        return Held(Fence(next(self._shared.fences), self.holder))

    async def release(self, conversation_id: str) -> None:
        """See Claims."""
        row = self._shared.rows.get(conversation_id)
        if row is not None and not self.dead and row.holder in (self, None):
            del self._shared.rows[conversation_id]

    async def loop_of(self, conversation_id: str) -> LoopRow | None:
        """See SharedClaims."""
        row = self._shared.rows.get(conversation_id)
        return None if row is None else self._row(conversation_id, row)

    async def loops_of(self, user_id: str | None, only: Collection[str] | None) -> list[LoopRow]:
        """See SharedClaims."""
        return [
            self._row(sid, row)
            for sid, row in self._shared.rows.items()
            if row.user_id == user_id and (only is None or sid in only)
        ]

    async def every_loop(self) -> list[LoopRow]:
        """See SharedClaims."""
        return [self._row(sid, row) for sid, row in self._shared.rows.items()]

    async def ask_to_stop(self, conversation_id: str) -> None:
        """See SharedClaims."""
        row = self._shared.rows.get(conversation_id)
        if row is not None and row.holder is None:
            del self._shared.rows[conversation_id]
        elif row is not None:
            row.asked_to_stop = True

    async def asked_to_stop(self) -> list[str]:
        """See SharedClaims."""
        rows = self._shared.rows.items()
        return [sid for sid, row in rows if row.holder is self and row.asked_to_stop]

    async def take_over(self, most: int) -> list[LoopRow]:
        """See SharedClaims."""
        if self.dead:
            return []
        rows = self._shared.rows.items()
        gone = [(sid, row) for sid, row in rows if (row.holder or row.asker or self).dead][:most]
        for sid, row in gone:
            if row.holder is None:
                del self._shared.rows[sid]
            else:
                row.holder = self
        return [self._row(sid, row) for sid, row in gone]

    async def waiting_users(self) -> set[str | None]:
        """See SharedClaims."""
        return {row.user_id for row in self._shared.rows.values() if row.holder is None}

    def _row(self, sid: str, row: Row) -> LoopRow:
        holder = None if row.holder is None or row.holder.dead else row.holder.name
        return LoopRow(
            *(sid, row.user_id, holder),
            here=row.holder is self,
            waits=row.holder is None,
            working=row.holder is not None,
        )


class MemoryBell:
    """Rings at the other managers of this process, a turn of the event loop later."""

    def __init__(self) -> None:
        self.hearers: list[tuple[MemoryBell, ClusteredConversationManager, Follows]] = []

    def loop_changed(self, conversation_id: str) -> None:
        """See Bell."""
        self._ring(lambda manager: manager.loops_changed())

    def look_at(self, conversation_id: str) -> None:
        """See Bell."""
        self._ring(lambda manager: manager.head_changed(conversation_id))

    def notice(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """See Bell."""
        self._ring(lambda manager: manager.noticed(conversation_id, payload))

    def _ring(self, tell: Callable[[ClusteredConversationManager], None]) -> None:
        for bell, manager, _ in self.hearers:
            if bell is not self:
                asyncio.get_running_loop().call_soon(tell, manager)


class Follows:
    """The open streams of one manager, rung for by those of the others as these append."""

    def __init__(self, bell: MemoryBell) -> None:
        self._bell = bell
        self._streams: dict[str, EventStream] = {}

    def add(self, stream: EventStream) -> None:
        """See Following."""
        self._streams[stream.conversation_id] = stream
        stream.tap(lambda _events, _summary: self._ring(stream))

    def discard(self, stream: EventStream) -> None:
        """See Following."""
        if self._streams.get(stream.conversation_id) is stream:
            del self._streams[stream.conversation_id]

    def _ring(self, stream: EventStream) -> None:
        for bell, _, follows in self._bell.hearers:
            other = follows._streams.get(stream.conversation_id)
            if bell is not self._bell and other is not None:
                asyncio.get_running_loop().call_soon(other.reach, stream.next_id)
