"""Agent loops over real streams, and agents that do as they are told."""

import asyncio
from collections import deque
from typing import Any

import orjson

from events.actions import ChangeAgentStateAction, MessageAction
from events.event import EventSource
from events.observations import AgentStateChangedObservation, ErrorObservation
from events.page_reader import PageReader
from events.serialization import decode
from events.stores.memory import MemoryEventStore
from events.stream import EventStream, StreamLimits
from runtime_stub.agent import Agent, Spending
from runtime_stub.stub import StubRuntime
from runtime_stub.tools import McpOptions
from server.agent.contained import Deadlines
from server.agent.loop import AgentLoop
from server.agent.states import LoopSettings
from tests.support.waiting import WAIT_SECONDS


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
        mcp=McpOptions(),  # noqa: B008 - immutable
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
        self._mcp = mcp
        self.statuses: list[str] = []
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
            mcp=self._mcp,
            on_status=self.statuses.append,
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

    async def command(self, state, of=None):
        """Ask for a state as a user; the id of the command."""
        action = ChangeAgentStateAction(agent_state=state, of=of)
        return (await self.stream.append(action, EventSource.USER)).id

    async def event(self, fits, after=-1):
        """Return the first event behind `after` that fits, waiting for it."""
        async with asyncio.timeout(WAIT_SECONDS):
            async for stored in self.stream.follow(after):
                event = decode(orjson.loads(stored.body))
                if fits(event):
                    return event
        raise AssertionError(f"the stream ended behind {after}")

    async def state(self, wanted, after=-1):
        """Return the first event behind `after` that tells a state, waiting for it."""
        return await self.event(
            lambda event: (
                isinstance(event, AgentStateChangedObservation) and event.agent_state == wanted
            ),
            after,
        )

    async def events(self, first=0):
        """Return the events of the log, from the first of these on."""
        found = self.stream.search_events(first)
        return [decode(orjson.loads(stored.body)) async for stored in found]

    async def of_kind(self, kind, source=None):
        """Return the events of one kind."""
        return [
            event
            for event in await self.events()
            if event.kind == kind and (source is None or event.source == source)
        ]

    async def answers(self):
        """Return the texts of the agent's messages."""
        return [said.content for said in await self.of_kind("message", EventSource.AGENT)]

    async def outcomes(self):
        """Return the outcomes of the turns that have ended."""
        return [ended.outcome for ended in await self.of_kind("turn_ended")]

    async def errors(self):
        """Id, text and `error_id` of every error that answers no action."""
        return [
            (one.id, one.content, one.error_id)
            for one in await self.events()
            if isinstance(one, ErrorObservation) and one.cause is None
        ]

    async def log(self):
        """Kind and state of every event."""
        return [(one.kind, getattr(one, "agent_state", None)) for one in await self.events()]


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
