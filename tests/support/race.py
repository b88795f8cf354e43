"""One conversation, five clients that join it, and appends wherever something is awaited."""

import asyncio
from asyncio import Future
from collections import Counter
from contextlib import suppress
from random import Random
from uuid import uuid4

import orjson

from events.actions import ChangeAgentStateAction, MessageAction, NullAction
from events.batch import Appended
from events.conformance.records import append, records
from events.errors import AppendConflict
from events.event import AgentState, Event, EventFlag, EventSource, StoredEvent
from events.observations import AgentStateChangedObservation, CmdOutputObservation
from events.stores.base import EventStore
from events.stream import EventStream
from tests.support.checker import Counts, DeliveryChecker, Received
from tests.support.live import Live

CLIENTS = 5
RACE_SECONDS = 60.0
TURNS = 30
STORE_SECONDS = 0.1
"""For appends that a store takes its time for, or that wait for the caller after all."""
STATES = (AgentState.RUNNING, AgentState.PAUSED, AgentState.ERROR, AgentState.ERROR)


class Race:
    """A race that follows from its seed, as far as a real socket lets it.

    `at` is the hook of the stores. `placed` counts the appends by the point where they were made.
    """

    def __init__(self, inner: EventStore, seed: int, counts: Counts, placed: Counter[str]) -> None:
        self.conversation_id = uuid4().hex
        self._random = Random(seed)  # noqa: S311 - it must be repeatable
        self._inner = inner
        self._counts = counts
        self._placed = placed
        self._budget = self._random.randrange(10, 40)
        self._prefilled = self._random.randrange(16)
        self._live: Live | None = None
        self._opened = False
        self._end: int | None = None
        self._connected = 0
        self._all_connected = asyncio.Event()

    async def at(self, point: str) -> None:
        """Append, or let others go on, or neither."""
        await self._yield()
        # Reads are the most: they leave something of the budget to the other points.
        if self._random.random() < (0.3 if point.startswith("read.") else 0.5):
            number = min(self._random.randrange(1, 4), self._budget)
            await self._place(point, number)
        await self._yield()
        self._opened = self._opened or point == "head.before"

    async def run(self, live: Live) -> None:
        """Race, then compare what every client received with the log."""
        self._live = live
        await live.new(conversation_id=self.conversation_id)
        await self._append_past_the_server(self._prefilled)
        async with asyncio.timeout(RACE_SECONDS):
            clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
            try:
                await self._finish()
                received = await asyncio.gather(*clients)
            finally:
                for client in clients:
                    client.cancel()
        await live.application.manager.close_session(self.conversation_id)
        assert self._end is not None
        log = await self._inner.read(self.conversation_id, 0, self._end + 1)
        checker = DeliveryChecker(log, self._counts)
        for connections in received:
            checker.check(connections)

    async def _client(self) -> list[Received]:
        assert self._live is not None
        random = Random(self._random.random())  # noqa: S311 - it must be repeatable
        connections: list[Received] = []
        cursor = invented = random.randrange(-1, self._prefilled + 2)
        while True:
            for _ in range(random.randrange(30)):
                await asyncio.sleep(0)
            patience = random.randrange(1, 12) if random.random() < 0.4 else None
            async with self._live.raw(self.conversation_id, cursor=cursor) as client:
                if random.random() < 0.1:
                    await client.connection.send("40")
                    continue
                assert (await client.connect()).startswith('40{"sid":')
                client.received.joined_before = (await self._stream()).next_id
                client.received.is_cursor_known = cursor != invented or cursor < self._prefilled
                connections.append(client.received)
                self._note_connected(first=len(connections) == 1)
                while patience is None or len(client.received.events) < patience:
                    event = await client.event(RACE_SECONDS)
                    if event["id"] == self._end:
                        return connections
            cursor = client.cursor

    def _note_connected(self, *, first: bool) -> None:
        self._connected += first
        if self._connected == CLIENTS:
            self._all_connected.set()

    async def _finish(self) -> None:
        """End the log, once everybody has joined and the agent has come up, by what all must get."""
        await self._all_connected.wait()
        stream = await self._stream()
        async for stored in stream.follow(-1):
            event = orjson.loads(stored.body)
            if event.get("extras", {}).get("agent_state") == AgentState.AWAITING_USER_INPUT:
                break
        self._budget = 0
        state = AgentStateChangedObservation(agent_state=AgentState.FINISHED)
        await stream.append(state, EventSource.ENVIRONMENT)
        self._end = stream.next_id
        last = await stream.append(MessageAction(content="the end"), EventSource.AGENT)
        assert last.id == self._end

    async def _place(self, point: str, number: int) -> None:
        past_the_server = not self._opened or point == "head.after"
        if not past_the_server and not await self._is_joined():
            return
        self._budget -= number
        self._placed[point] += number
        if past_the_server:
            await self._append_past_the_server(number)
            return
        taken = [await self._enqueue() for _ in range(number)]
        if taken and self._random.random() < 0.5:
            await self._give_time(point, taken)

    async def _give_time(self, point: str, taken: "list[Future[Appended]]") -> None:
        """Let the appends be told first, unless they wait for the caller themselves."""
        for _ in range(TURNS):
            if all(one.done() for one in taken):
                return
            await asyncio.sleep(0)
        if not point.startswith(("append.", "head.")):
            await asyncio.wait(taken, timeout=STORE_SECONDS)

    async def _enqueue(self) -> "Future[Appended]":
        event, source = self._event()
        return (await self._stream()).enqueue(event, source)

    def _event(self) -> tuple[Event, EventSource]:
        number = self._random.random()
        if number < 0.5:
            return MessageAction(content=f"{number}"), EventSource.AGENT
        if number < 0.6:
            return CmdOutputObservation(command="ls", content="x"), EventSource.ENVIRONMENT
        if number < 0.7:
            return ChangeAgentStateAction(agent_state="running"), EventSource.ENVIRONMENT
        if number < 0.75:
            return NullAction(), EventSource.AGENT
        state = self._random.choice(STATES)
        fact = AgentStateChangedObservation(agent_state=state, reason="why")
        return fact, EventSource.ENVIRONMENT

    async def _append_past_the_server(self, number: int) -> None:
        """The events before the server opened the conversation; others may append as well."""
        state = self._random.choice(STATES) if number > 2 else None
        while number:
            begin = (await self._inner.head(self.conversation_id)).next_id
            with suppress(AppendConflict):
                await append(self._inner, self.conversation_id, _old(begin, number, state))
                return

    async def _is_joined(self) -> bool:
        assert self._live is not None
        manager = self._live.application.manager
        return bool(await manager.get_connections(None, {self.conversation_id}))

    async def _stream(self) -> EventStream:
        assert self._live is not None
        return await self._live.stream(self.conversation_id)

    async def _yield(self) -> None:
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(0)


def _old(begin: int, number: int, state: AgentState | None) -> list[StoredEvent]:
    """Records as from an earlier process; the second one tells the state, if one is given."""
    events = records(begin, number, "old")
    if state is not None:
        told = {
            "id": begin + 1,
            "timestamp": "2026-03-02T09:15:07.120334Z",
            "source": "environment",
            "message": "",
            "observation": "agent_state_changed",
            "content": "",
            "extras": {"agent_state": state, "reason": ""},
        }
        events[1] = StoredEvent(begin + 1, EventFlag.STATE, orjson.dumps(told))
    return events
