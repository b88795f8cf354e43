"""Work that an earlier loop left open: found by reading the log's tail backwards, and ended in the log."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import orjson

from events.actions import (
    RUNNABLE,
    Action,
    ChangeAgentStateAction,
    MCPAction,
    MessageAction,
    RecallAction,
)
from events.damage import is_marker
from events.event import AgentState, Event, EventFlag, EventSource, StoredEvent
from events.filter import EventFilter
from events.observations import (
    AgentStateChangedObservation,
    ErrorObservation,
    Observation,
    TurnEndedObservation,
)
from events.stream import EventStream
from runtime_stub.turn import Reason
from server.agent.askers import asked_for
from server.agent.contained import ContainedAgent, ContainedRuntime
from server.agent.journal import LoopJournal
from server.agent.reasons import SENTENCES
from server.agent.states import LoopSettings
from server.turns.actions import FAILED_ID, NOT_EXECUTED, STOPPED_ID, perform_in_time
from server.turns.approval_events import RESTING
from server.turns.approvals import Approvals

logger = logging.getLogger(__name__)

USER_MARK = b'"source":"user"'
FRONT_BYTES = 120
ALWAYS_READ = frozenset(
    (
        AgentStateChangedObservation.kind,
        ErrorObservation.kind,
        RecallAction.kind,
        TurnEndedObservation.kind,
    )
)
READ_BY_USER = frozenset((MessageAction.kind, ChangeAgentStateAction.kind))
OPENING_EVENTS = 200
"""Events from the start of a log searched for its `system` message."""
INTERRUPTED = "interrupted"
"""The outcome of a turn that the end of its loop cut short."""


@dataclass(frozen=True, slots=True)
class LostTurn:
    """A turn that began and of which no end is known, or one to be begun again.

    `messages` are those it had taken up, ascending; `tries` is how often they, or its decision, were.
    """

    id: int
    messages: list[MessageAction]
    tries: int
    has_ended: bool
    """Whether its `turn_ended` is in the log."""
    decision: int | None = None
    """The id of the command that began it, where that was a person's decision."""

    @property
    def causes(self) -> list[int]:
        """The ids of what it was begun for, ascending."""
        decisions = [] if self.decision is None else [self.decision]
        return [*decisions, *(_id(one) for one in self.messages)]


@dataclass(slots=True)
class OpenWork:
    """User messages that no turn has taken up, and actions without an observation; both ascending."""

    messages: list[MessageAction] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    damaged: list[ErrorObservation] = field(default_factory=list)
    """Markers of damaged events among those read, ascending."""
    taken_up_before: bool = False
    lost: LostTurn | None = None
    go_on: bool = False
    """Whether the user has asked the agent to go on, and no turn followed."""


async def find_open_work(stream: EventStream, last_id: int) -> OpenWork:
    """Read back from `last_id` to where nothing can be open.

    The end of a turn says from which message on some may be open. Where a log has none, messages
    are taken up in order, by a `recall` action whose cause is the message: no message before the
    newest such one is open. No action before a state of rest or the end of a turn is.
    """
    tail = _Tail()
    async for stored in stream.search_events(0, max(last_id, 0), reverse=True):
        if stored.id > last_id:
            continue
        if tail.reaches(stored.id):
            break
        if tail.rests and not _matters_at_rest(stored):
            continue
        payload = orjson.loads(stored.body)
        tail.answered.add(payload.get("cause"))
        if _may_matter(payload):
            tail.take(stream.unmasked(stored))
    return tail.open_work()


class _Tail:
    """The events of a log's end, as far as they matter, read from the newest back."""

    def __init__(self) -> None:
        self.answered: set[int | None] = set()
        self._ended: TurnEndedObservation | None = None
        self._rested_id = -1
        self._taken_up = -1
        self._recalls: list[RecallAction] = []
        self._messages: dict[int, MessageAction] = {}
        self._actions: list[Action] = []
        self._damaged: list[ErrorObservation] = []
        self._command_id = -1

    @property
    def rests(self) -> bool:
        """Whether no action that is open can follow."""
        return self._rested_id >= 0 or self._ended is not None

    def reaches(self, event_id: int) -> bool:
        """Whether nothing from this event back can be open, nor is news to an agent.

        The newest message taken up is read again: an agent is told where it is damaged.
        """
        first = event_id + 1 if self._ended is None else self._ended.open_from
        return self.rests and event_id < min(first, self._taken_up)

    def take(self, event: Event) -> None:
        """Take note of the next older event that may matter."""
        match event:
            case AgentStateChangedObservation() if event.agent_state in RESTING:
                self._rested_id = max(self._rested_id, _id(event))
            case TurnEndedObservation():
                self._ended = self._ended or event
            case RecallAction():
                self._recalls.append(event)
                if event.source == EventSource.USER and event.cause is not None:
                    self._taken_up = max(self._taken_up, event.cause)
            case ErrorObservation() if is_marker(event):
                self._damaged.append(event)
            case MessageAction(source=EventSource.USER):
                self._messages[_id(event)] = event
            case ChangeAgentStateAction(agent_state=AgentState.RUNNING, source=EventSource.USER):
                self._command_id = max(self._command_id, _id(event))
            case Action() if event.kind in RUNNABLE and not self.rests:
                if event.id not in self.answered:
                    self._actions.append(event)
            case _:
                pass

    def open_work(self) -> OpenWork:
        """Say what is open."""
        recalled = {one.cause for one in self._recalls}
        first = self._taken_up + 1 if self._ended is None else self._ended.open_from
        waiting = [
            message
            for key, message in sorted(self._messages.items())
            if key >= first and key not in recalled
        ]
        ended_id = -1 if self._ended is None else _id(self._ended)
        newest = max((_id(one) for one in self._recalls), default=-1)
        return OpenWork(
            messages=waiting,
            actions=self._actions[::-1],
            damaged=self._damaged[::-1],
            taken_up_before=bool(self._recalls),
            lost=self._lost(),
            go_on=self._command_id > max(ended_id, newest, self._rested_id),
        )

    def _lost(self) -> LostTurn | None:
        cut_short = [one for one in self._recalls if self._is_cut_short(one)]
        lost = cut_short or [one for one in self._recalls if self._has_no_end(one)]
        if not lost:
            return None
        causes = {one.cause for one in lost}
        counts = [sum(one.cause == cause for one in self._recalls) for cause in causes]
        messages = [one for key, one in sorted(self._messages.items()) if key in causes]
        decisions = [one.cause for one in lost if one.source != EventSource.USER]
        return LostTurn(
            id=max(_turn_of(one) for one in lost),
            messages=messages,
            tries=max(counts),
            has_ended=bool(cut_short),
            decision=next((one for one in decisions if one is not None), None),
        )

    def _has_no_end(self, recall: RecallAction) -> bool:
        ended = -1 if self._ended is None or self._ended.turn is None else self._ended.turn
        return _id(recall) > self._rested_id and _turn_of(recall) > ended

    def _is_cut_short(self, recall: RecallAction) -> bool:
        ended = self._ended
        return (
            ended is not None
            and ended.outcome == INTERRUPTED
            and not ended.reason
            and _turn_of(recall) == ended.turn
            and (recall.cause is None or recall.cause >= ended.open_from)
        )


def _id(event: Event) -> int:
    return -1 if event.id is None else event.id


def _turn_of(recall: RecallAction) -> int:
    return _id(recall) if recall.turn is None else recall.turn


def _may_matter(payload: Mapping[str, Any]) -> bool:
    # Decoding a page of events takes the loop for milliseconds, at a moment when a client waits.
    kind = payload.get("action") or payload.get("observation")
    by_user = payload.get("source") == EventSource.USER
    return kind in ALWAYS_READ or kind in RUNNABLE or (by_user and kind in READ_BY_USER)


def _matters_at_rest(stored: StoredEvent) -> bool:
    # The source stands near the front of every record: a long turn is passed over unparsed.
    return USER_MARK in stored.body[:FRONT_BYTES] or stored.flag == EventFlag.SPECIAL


async def has_system_message(stream: EventStream) -> bool:
    """Return whether an earlier loop opened the conversation, by a `system` event near its start."""
    opening = EventFilter(include_kinds=("system",))
    return bool([one async for one in stream.search_events(0, OPENING_EVENTS, filter=opening)])


async def user_messages(stream: EventStream, first_id: int, last_id: int) -> list[MessageAction]:
    """Return the messages of the user from one id to another, both included."""
    found: list[MessageAction] = []
    async for stored in stream.search_events(first_id, max(last_id, 0)):
        event = stream.unmasked(stored)
        if isinstance(event, MessageAction) and event.source == EventSource.USER:
            found.append(event)
    return found


def lost_errors(
    messages: Sequence[int | None], text: str = SENTENCES[Reason.TURN_LOST]
) -> Sequence[Event]:
    """Return an entry of the log for each message that is not answered, by its id, and why.

    None stands for the command to go on, and for a message whose id is not known.
    """
    return [
        ErrorObservation(content=text, error_id=Reason.TURN_LOST, cause=cause) for cause in messages
    ]


class Recovery:
    """Ends in the log what an earlier loop left open, and says what of it may begin again."""

    def __init__(
        self,
        stream: EventStream,
        agent: ContainedAgent,
        runtime: ContainedRuntime,
        journal: LoopJournal,
        approvals: Approvals,
        settings: LoopSettings,
    ) -> None:
        self._stream = stream
        self._agent = agent
        self._runtime = runtime
        self._journal = journal
        self._approvals = approvals
        self._settings = settings

    def may_begin_again(self, tries: int) -> bool:
        """Return whether a turn that was begun so often may begin once more."""
        return self._agent.starts_again and tries < self._settings.turn_tries

    async def close_action(self, action: Action) -> None:
        """Answer an action: by carrying it out where it may be twice, else with an error."""
        names = {action.kind, action.name} if isinstance(action, MCPAction) else {action.kind}
        if names & (self._agent.may_repeat | self._runtime.may_repeat):
            answer = await self._repeated(action)
        else:
            text = NOT_EXECUTED.format(why="was restarted")
            answer = ErrorObservation(content=text, error_id=STOPPED_ID)
        told = answer.model_copy(update={"cause": action.id, "turn": action.turn})
        self._journal.tell(told, EventSource.AGENT)

    async def end_lost(self, left: OpenWork) -> LostTurn | None:
        """Record the end of the turn that was cut short, and return it if it is to be begun again.

        What a person has decided and nobody has begun is left to another turn. The messages that a
        turn of a decision had taken up wait again, in `left`. Raises what the storage raises.
        """
        lost = left.lost
        if lost is None:
            return None
        if self._approvals.of_turn(lost.id):
            self._end(lost, "waiting", left.messages)
            return None
        due = self._approvals.due(self._stream.next_id - 1)
        is_due = any(one.decided and one.decided.event_id == lost.decision for one in due)
        if is_due or self.may_begin_again(lost.tries):
            if not lost.has_ended:
                self._end(lost, "crashed", left.messages, lost.causes)
            if lost.decision is not None:
                left.messages[:0] = lost.messages
            return None if is_due else lost
        told = lost_errors(await self._unanswered(lost))
        for one in told:
            self._journal.tell(one, EventSource.ENVIRONMENT)
        if told or not lost.has_ended:
            self._end(lost, "crashed", left.messages, reason=Reason.TURN_LOST)
        return None

    async def _unanswered(self, lost: LostTurn) -> Sequence[int | None]:
        """Return the messages that a turn leaves without an answer, by their ids."""
        taken = [_id(one) for one in lost.messages]
        if lost.decision is None:
            return taken or [None]
        asked = await asked_for(self._stream, lost.id)
        if not asked:
            return taken or [None]
        settled = [one for asker, one in asked.items() if not self._approvals.of_turn(asker)]
        return [*chain.from_iterable(settled), *taken]

    async def _repeated(self, action: Action) -> Observation:
        try:
            return await perform_in_time(
                self._runtime, action, self._settings.action_timeout_seconds
            )
        except Exception:
            # Raised, it would keep the loop from coming up, and every later one.
            logger.exception("cannot repeat an action of %s", self._stream.conversation_id)
            return ErrorObservation(content=NOT_EXECUTED.format(why="failed"), error_id=FAILED_ID)

    def _end(
        self,
        lost: LostTurn,
        outcome: str,
        waiting: Sequence[MessageAction],
        causes: Sequence[int] = (),
        reason: str = "",
    ) -> None:
        ids = [*(_id(one) for one in waiting), *causes]
        ended = TurnEndedObservation(
            outcome=outcome,
            reason=reason,
            turn=lost.id,
            open_from=min(ids, default=self._stream.next_id),
        )
        self._journal.tell(ended, EventSource.ENVIRONMENT)
