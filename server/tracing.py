"""Traces: spans of requests, socket events, appends and agent steps, made where they are wanted.

The classes and functions here replace the untraced ones if tracing is on; if it is off, events pass
none of them. No span contains text of users or agents.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.actions import Action
from events.batch import Appended, Settled
from runtime_stub.agent import Agent
from server.conversations.conversation import ServerConversation, Step
from server.conversations.manager import ConversationManager
from server.http.access_log import method_of, route_of
from server.observability.counters import ServerCounters
from server.sockets.handlers import CountedHandlers, HandlerDependencies
from server.sockets.protocol import ClientPacket
from storage.counters import Counters

FAULT = 500
CONVERSATION = "parley.conversation_id"
CONNECTION = "parley.connection_id"

Attributes = Mapping[str, str | int]


class Span(ABC):
    """Something that takes time. `end` comes once, and last."""

    @abstractmethod
    def rename(self, name: str, attributes: Attributes) -> None:
        """Rename the span once its final name is known."""

    @abstractmethod
    def fail(self, kind: str) -> None:
        """Say that it failed, by the kind of the error; its text may quote content."""

    @abstractmethod
    def end(self) -> None:
        """End the span."""


class Tracing(ABC):
    """Makes spans and sends them away without waiting; what does not fit its queue is dropped."""

    @abstractmethod
    def begin(
        self,
        name: str,
        attributes: Attributes,
        *,
        parent: Span | None = None,
        kind: Literal["internal", "server"] = "internal",
        started_ns: int | None = None,
    ) -> Span:
        """Begin a span, now or at a time since the epoch. Never raises."""

    @abstractmethod
    async def close(self) -> None:
        """Send the remaining spans, for a bounded time."""


@dataclass(slots=True)
class Current:
    """The span within which something happens, and whether an append ends it."""

    span: Span
    ended_by_append: bool = False
    taken: bool = False
    """Whether an append that will end the span has begun."""


_current: ContextVar[Current | None] = ContextVar("current", default=None)


class TracedRequests:
    """A span for each request, named by its route."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = method_of(scope)
        span = self._tracing.begin(method, {"http.request.method": method}, kind="server")
        status = FAULT

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = _current.set(Current(span))
        try:
            await self._app(scope, receive, send_watched)
        finally:
            _current.reset(token)
            route = route_of(scope)
            told: Attributes = {"http.route": route, "http.response.status_code": status}
            span.rename(f"{method} {route}", told)
            if status >= FAULT:
                span.fail(str(status))
            span.end()


class TracedHandlers(CountedHandlers):
    """A span for each event of a client, until it is answered."""

    def __init__(
        self, tracing: Tracing, parts: HandlerDependencies, server_counters: ServerCounters
    ) -> None:
        super().__init__(parts, server_counters)
        self._tracing = tracing

    def take(self, sid: str, packet: ClientPacket) -> None:
        """See SocketHandlers."""
        span = self._tracing.begin("socket event", {CONNECTION: sid}, kind="server")
        current = Current(span, ended_by_append=True)
        token = _current.set(current)
        try:
            super().take(sid, packet)
        finally:
            _current.reset(token)
            if not current.taken:
                span.fail("refused")
                span.end()


def traced_manager(
    base: type[ConversationManager], tracing: Tracing, counters: Counters
) -> type[ConversationManager]:
    """Return the manager class with a span for each event it takes: the append and its commit."""

    def take(
        self: ConversationManager,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        current = _current.get()
        span = tracing.begin(
            "append",
            {CONVERSATION: conversation.conversation_id},
            parent=None if current is None else current.span,
        )
        commits = counters.commits

        def told(outcome: Appended | Exception) -> None:
            if isinstance(outcome, Exception):
                span.fail(type(outcome).__name__)
            elif counters.commits > commits:
                # The outcome is reported in the step that records the commit.
                began = time.time_ns() - int(counters.last_commit_seconds * 1e9)
                tracing.begin("commit", {}, parent=span, started_ns=began).end()
            span.end()
            settled(outcome)
            if current is not None and current.taken:
                current.span.end()

        try:
            base.take(self, conversation, data, told, must_wait)
        except Exception as error:
            span.fail(type(error).__name__)
            span.end()
            raise
        if current is not None:
            current.taken = current.ended_by_append

    made: Any = type(f"Traced{base.__name__}", (base,), {"take": take})
    return cast("type[ConversationManager]", made)


def traced_step(tracing: Tracing) -> Step:
    """Return a step that asks an agent for its next action within a span."""

    async def step(agent: Agent, conversation_id: str) -> Action | None:
        span = tracing.begin("agent step", {CONVERSATION: conversation_id})
        token = _current.set(Current(span))
        try:
            action = await agent.step()
        except BaseException as error:
            span.fail(type(error).__name__)
            raise
        else:
            if action is not None:
                span.rename("agent step", {"parley.action": action.kind})
            return action
        finally:
            _current.reset(token)
            span.end()

    def asked(agent: Agent, conversation_id: str) -> Awaitable[Action | None]:
        return step(agent, conversation_id)

    return asked
