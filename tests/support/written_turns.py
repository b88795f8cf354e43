"""Logs as earlier loops left them, the loop that comes up over one, and what it appended."""

from events.actions import MessageAction, RecallAction, SystemMessageAction
from events.event import AgentState, Event, EventSource, RecallType
from events.observations import (
    AgentStateChangedObservation,
    ErrorObservation,
    TurnEndedObservation,
)
from events.stores.base import EventStore
from events.stores.memory import MemoryEventStore
from runtime_stub.agent import Agent
from runtime_stub.turn import Reason
from tests.support.loops import Running
from tests.support.streams import open_stream

Written = tuple[Event, EventSource]
AWAITING = AgentState.AWAITING_USER_INPUT
AGENT, USER, SERVER = EventSource.AGENT, EventSource.USER, EventSource.ENVIRONMENT
STOPPED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"
FAILED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_ERROR"
SYSTEM = SystemMessageAction(content=""), AGENT


def says(text: str) -> Written:
    """A message of the user."""
    return MessageAction(content=text), USER


def recall(cause: int | None, turn: int | None = None, source: EventSource = USER) -> Written:
    """The mark of a message that was taken up, or the beginning of a turn without one."""
    action = RecallAction(recall_type=RecallType.KNOWLEDGE, cause=cause, turn=turn)
    return action, source


def state(name: str, approvals: list[int] | None = None) -> Written:
    """A state of the agent."""
    return AgentStateChangedObservation(agent_state=name, approvals=approvals), SERVER


def ended(turn: int, outcome: str = "done", *, open_from: int, reason: str = "") -> Written:
    """The end of a turn."""
    fact = TurnEndedObservation(turn=turn, outcome=outcome, open_from=open_from, reason=reason)
    return fact, SERVER


async def log_of(*written: Written) -> MemoryEventStore:
    """A store with these events."""
    store = MemoryEventStore()
    stream = await open_stream(store, "c")
    for event, source in written:
        await stream.append(event, source)
    await stream.close()
    return store


async def come_up(store: EventStore, agent: Agent, **options: object) -> list[Event]:
    """Start a loop over a log; what it appended until it rested."""
    first = (await store.head("c")).next_id
    async with Running(agent, store=store, **options) as one:
        await one.state(AWAITING, first - 1)
        found: list[Event] = await one.events(first)
    return found


def answers(events: list[Event]) -> list[str]:
    """The agent's texts."""
    return [one.content for one in events if isinstance(one, MessageAction) and one.source == AGENT]


def lost(events: list[Event]) -> list[int | None]:
    """The ids of messages of which it is told that they are not answered."""
    return [one.cause for one in events if getattr(one, "error_id", "") == Reason.TURN_LOST]


def closed(events: list[Event]) -> list[tuple[int | None, str]]:
    """The actions that are answered with an error because they were not carried out, and its word."""
    return [
        (one.cause, one.error_id)
        for one in events
        if isinstance(one, ErrorObservation) and one.error_id in (STOPPED_ID, FAILED_ID)
    ]


def ends(events: list[Event]) -> list[tuple[int | None, str]]:
    """Turns that ended, and how."""
    return [(one.turn, one.outcome) for one in events if isinstance(one, TurnEndedObservation)]
