"""Agent loops over real streams, and agents that do as they are told."""

import asyncio
from collections import deque
from typing import Any

import orjson

from events.actions import MessageAction
from events.event import EventSource
from events.observations import ErrorObservation
from events.page_reader import PageReader
from events.serialization import decode
from events.stores.memory import MemoryEventStore
from events.stream import EventStream, StreamLimits
from runtime_stub.agent import Agent, Spending
from runtime_stub.stub import StubRuntime
from server.agent.contained import Deadlines
from server.agent.loop import AgentLoop
from server.agent.states import LoopSettings


class Running:
    """A loop that is started with the block, and its stream."""

    def __init__(
        self,
        agent,
        *,
        store=None,
        runtime=None,
        on_error=None,
        waiting_appends=10_000,
        close_seconds=3.0,
        event_bytes=1_000_000,
        user=None,
        **settings,
    ):
        self.agent = agent
        self.store = store or MemoryEventStore()
        self.runtime = runtime or StubRuntime()
        self.settings = LoopSettings(**settings)
        self.shown: list[str] = []
        self.rests = 0
        self.stream: Any = None
        self._user = user
        self._on_error = on_error or self.shown.append
        self._deadlines = Deadlines(close=close_seconds)
        self._limits = StreamLimits(waiting_appends, event_bytes=event_bytes)

    async def open(self):
        """Make the stream and the loop."""
        reader = PageReader(self.store, page_size=10, cache_bytes=1_000_000)
        self.stream = await EventStream.open("c", self.store, reader, self._limits)
        self.loop = AgentLoop(
            self.stream.claim(),
            self.agent,
            self.runtime,
            self.settings,
            Spending(),
            on_error=self._on_error,
            on_rest=self._rested,
            deadlines=self._deadlines,
            user=self._user,
        )

    async def __aenter__(self):
        if self.stream is None:
            await self.open()
        await self.loop.start()
        return self

    async def __aexit__(self, *error):
        await self.loop.close()
        await self.stream.close()

    def _rested(self):
        self.rests += 1

    async def say(self, text):
        """Append a user's message; its id."""
        return (await self.stream.append(MessageAction(content=text), EventSource.USER)).id

    async def state(self, wanted, after=-1):
        """Follow the log to a state; its event."""
        async with asyncio.timeout(5):
            async for stored in self.stream.follow(after):
                event = decode(orjson.loads(stored.body))
                if getattr(event, "agent_state", None) == wanted and event.kind != (
                    "change_agent_state"
                ):
                    return event
        raise AssertionError(wanted)

    async def errors(self):
        """Id, text and `error_id` of every error that answers no action."""
        found = [decode(orjson.loads(one.body)) async for one in self.stream.search_events()]
        return [
            (one.id, one.content, one.error_id)
            for one in found
            if isinstance(one, ErrorObservation) and one.cause is None
        ]

    async def log(self):
        """Kind and state of every event."""
        found = [decode(orjson.loads(one.body)) async for one in self.stream.search_events()]
        return [(one.kind, getattr(one, "agent_state", None)) for one in found]


class Scripts(Agent):
    """Does one prepared thing per step: an action to give, or an exception to raise."""

    def __init__(self, *things):
        self.things = deque(things)
        self.before_step = None
        self.most_at_once = 0
        self._at_once = 0

    def observe(self, event):
        """See Agent."""

    async def step(self):
        """See Agent."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0)
            if not self.things:
                return None
            if self.before_step is not None:
                self.before_step()
            thing = self.things.popleft()
            if isinstance(thing, BaseException):
                raise thing
            return thing
        finally:
            self._at_once -= 1
