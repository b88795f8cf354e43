"""The turns of a conversation's agent: list them, begin one, stop one."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from events.errors import DamagedRecord
from events.event import AgentState
from events.filter import EventFilter
from events.stream import EventStream
from server.errors import NotAvailable
from server.routes.answers import TURN_ENDED
from server.routes.endpoint import Tag, described
from server.routes.events import APPENDING, SLICE, EventAccepted, keyed
from server.routes.request import (
    JsonResponse,
    Query,
    RequestBody,
    ResponseBody,
    owner_of,
    read_body,
    read_query,
    visible_id,
)
from server.routes.services import Services

MAX_LIMIT = 100
STOP_SECONDS = 5.0
"""Seconds a turn may take to end once it was stopped; after that the answer is 503."""
BOUNDARIES = EventFilter(include_kinds=("recall", "turn_ended"))


class TurnQuery(Query):
    """Which turns: the newest first, those that began before `before`."""

    before: int | None = Field(default=None, ge=0)
    limit: int = Field(default=20, ge=1, le=MAX_LIMIT)


class TurnUsage(ResponseBody):
    """The use of all calls of models of one turn."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None = Field(description="US dollars; null where no price is known.")


class TurnInfo(ResponseBody):
    """One turn; what is null has not ended, as far as the log knows."""

    id: int
    cause: list[int] = Field(description="Ids of the messages that it took up, ascending.")
    begun: str
    ended: str | None = None
    outcome: str | None = None
    reason: str | None = None
    usage: TurnUsage | None = Field(
        default=None, description="Null also where the agent reported nothing, and after a crash."
    )


class TurnPage(ResponseBody):
    """Turns, from the newest back."""

    turns: list[TurnInfo]
    has_more: bool


class Continuation(RequestBody):
    """A turn without a message; nothing more can be said of it yet."""


class TurnToStop(RequestBody):
    """The turn that is meant: no other is stopped."""

    turn: int = Field(ge=0)


class TurnStopped(ResponseBody):
    """Whether the turn was stopped; false if it had ended by itself, or never was."""

    stopped: bool


class TurnRoutes:
    """`/turns` and `/stop-turn` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.CONVERSATIONS, query=TurnQuery, answer=TurnPage, raises=(DamagedRecord,))
    async def search(self, request: Request) -> Response:
        """List the turns of the agent, the newest first."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        query = read_query(request, TurnQuery)
        head = await self._services.event_store.head(conversation_id)
        found = _Turns(query.limit, query.before)
        for last_id in range(head.next_id - 1, -1, -SLICE):
            async for event in self._services.page_reader.search(
                conversation_id,
                head.next_id,
                start_id=max(0, last_id - SLICE + 1),
                end_id=last_id,
                reverse=True,
                filter=BOUNDARIES,
            ):
                found.take(orjson.loads(event.body))
                if found.has_more:
                    break
            if found.has_more:
                break
            await asyncio.sleep(0)
        return JsonResponse(TurnPage(turns=found.turns, has_more=found.has_more))

    @described(
        Tag.CONVERSATIONS,
        body=Continuation,
        answer=EventAccepted,
        takes_key=True,
        raises=APPENDING,
    )
    async def begin(self, request: Request) -> Response:
        """Let the agent go on without a message; the response follows when that is durable."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        await read_body(request, Continuation)
        command = keyed(request, _command(AgentState.RUNNING))
        self._services.check_intake()
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            accepted = await manager.accept(conversation, command)
        return JsonResponse({"success": True, **accepted.body()})

    @described(Tag.CONVERSATIONS, body=TurnToStop, answer=TurnStopped, raises=APPENDING)
    async def stop(self, request: Request) -> Response:
        """Stop one turn and wait until it has ended; what was shown of a text is kept."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        turn = (await read_body(request, TurnToStop)).turn
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            stream = conversation.stream
            # With no loop there is no turn under way, and none must be started for this.
            if conversation.loop is None or not conversation.loop.has_turn(turn):
                return JsonResponse(TurnStopped(stopped=False))
            command = _command(AgentState.STOPPED)
            command["args"]["of"] = turn
            await manager.accept(conversation, command)
            outcome = await _outcome(stream, turn)
        return JsonResponse(TurnStopped(stopped=outcome == "stopped"))


class _Turns:
    """Turns made of the events that bound them, read from the newest back."""

    def __init__(self, limit: int, before: int | None) -> None:
        self.turns: list[TurnInfo] = []
        self.has_more = False
        self._limit = limit
        self._before = before
        self._ends: dict[int, Mapping[str, Any]] = {}
        self._causes: dict[int, list[int]] = {}

    def take(self, payload: Mapping[str, Any]) -> None:
        """Take note of the next older event."""
        if payload.get("observation") == "turn_ended":
            self._ends.setdefault(payload.get("turn", -1), payload)
        elif payload.get("action") == "recall":
            turn = payload.get("turn", payload["id"])
            if payload.get("cause") is not None:
                self._causes.setdefault(turn, []).append(payload["cause"])
            if turn == payload["id"] and (self._before is None or turn < self._before):
                self._add(payload)

    def _add(self, recall: Mapping[str, Any]) -> None:
        if len(self.turns) == self._limit:
            self.has_more = True
            return
        end = self._ends.get(recall["id"])
        extras = {} if end is None else end["extras"]
        self.turns.append(
            TurnInfo(
                id=recall["id"],
                cause=sorted(self._causes.get(recall["id"], [])),
                begun=recall["timestamp"],
                ended=None if end is None else end["timestamp"],
                outcome=extras.get("outcome"),
                reason=extras.get("reason") or None,
                usage=extras.get("usage"),
            )
        )


def _command(state: Literal[AgentState.RUNNING, AgentState.STOPPED]) -> dict[str, Any]:
    return {"action": "change_agent_state", "args": {"agent_state": state.value}}


async def _outcome(stream: EventStream, turn: int) -> str | None:
    """Wait for a turn's end, and return its outcome; None if the stream ends before it.

    Raises NotAvailable when the turn does not end in time.
    """
    try:
        async with asyncio.timeout(STOP_SECONDS):
            async for event in stream.follow(turn):
                if TURN_ENDED not in event.body:
                    continue
                payload = orjson.loads(event.body)
                if payload.get("turn") == turn and payload.get("observation") == "turn_ended":
                    outcome: str = payload["extras"]["outcome"]
                    return outcome
    except TimeoutError as error:
        raise NotAvailable(f"Turn {turn} did not end in time") from error
    return None
