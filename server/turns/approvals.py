"""The questions whether an action may be carried out: which are open, and who has decided them.

The log is the record: a question is an action that stands there as `awaiting_confirmation`, and its
id names it. It is open until a decision follows, or something answers the action. Of two decisions
the first in the log counts.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from time import time
from typing import Any

import orjson

from events.actions import Action, ChangeAgentStateAction
from events.batch import Appended, Settled
from events.errors import BadEvent
from events.event import AgentState, StoredEvent
from events.observations import AgentStateChangedObservation
from events.redaction import MASK
from events.stream import EventStream
from server.errors import AlreadyDecided, ApprovalExpired, ApprovalNotFound, BadEdit
from server.turns.approval_events import (
    BY_USER,
    RESTING,
    LogEnd,
    asking_again,
    asks,
    decides,
    read_end,
    state_in,
)
from server.turns.edits import edited
from server.turns.expiry import Expiry, posix_of, timestamp_of

ENDED_HELD = 100
"""Questions that are over and of which the end is remembered."""
APPROVED, REJECTED, WITHDRAWN = "approved", "rejected", "withdrawn"
OUTCOMES = {AgentState.USER_CONFIRMED: APPROVED, AgentState.USER_REJECTED: REJECTED}


class Decided:
    """The end of a question: `approved`, `rejected` or `withdrawn`, by whom and when."""

    __slots__ = ("action", "at", "by", "client_id", "edit", "event_id", "outcome", "reason")

    def __init__(
        self,
        outcome: str,
        by: str,
        at: str,
        client_id: str | None = None,
        reason: str = "",
        edit: Mapping[str, Any] | None = None,
    ) -> None:
        self.outcome = outcome
        self.by = by
        self.at = at
        """ISO 8601 in UTC."""
        self.client_id = client_id
        self.reason = reason
        self.edit = edit
        """The arguments that were changed; None where it was decided about the action as it was asked."""
        self.action: Action | None = None
        """The action with these changes; None while there are none, or their text is not known."""
        self.event_id = -1
        """The id of the deciding command; -1 while it is not durable, or if there is none."""

    @property
    def words(self) -> str:
        """The outcome in words for people."""
        return self.outcome if self.edit is None else f"{self.outcome} with changes"

    def refusal(self, question_id: int) -> AlreadyDecided:
        """Return the refusal of another decision about the question."""
        text = f"The approval {question_id} was {self.words} by {self.by} at {self.at}"
        return AlreadyDecided(text)


class Question:
    """An action of the agent that waits for a person."""

    __slots__ = ("_from_log", "action", "decided", "id")

    def __init__(self, action: Action, asked_id: int, *, from_log: bool) -> None:
        self.action = action
        self.id = asked_id
        self._from_log = from_log
        self.decided: Decided | None = None

    @property
    def is_agents(self) -> bool:
        """Whether the agent itself would carry the action out: it was recorded before it was asked."""
        return self.action.cause is not None

    @property
    def is_approved(self) -> bool:
        """Whether a person has approved the action, as it was asked or with changes."""
        return self.decided is not None and self.decided.outcome == APPROVED

    @property
    def agreed(self) -> Action:
        """The action that is to be carried out: as it was asked, or with a person's changes."""
        changed = None if self.decided is None else self.decided.action
        return self.action if changed is None else changed

    @property
    def is_known(self) -> bool:
        """Whether the texts of `agreed` are known: a log has masks in the place of secrets."""
        decided = self.decided
        if decided is not None and decided.edit is not None and decided.action is None:
            return False
        return not self._from_log or MASK not in self.agreed.model_dump_json()

    def changed(self, decided: Decided) -> Action | None:
        """Return the action with the changes of a decision, None if it has none. Raises BadEdit."""
        if decided.edit is None:
            return None
        if decided.outcome != APPROVED:
            raise BadEdit("Only an action that is approved can be changed")
        if self.is_agents:
            raise BadEdit("The agent carries the action out by itself, and only as it was asked")
        return edited(self.action, decided.edit, decided.by)


class Claim:
    """A decision on its way into the log; to be told the outcome of its append."""

    __slots__ = ("_allow", "_decided", "_question", "_settled")

    def __init__(
        self,
        question: Question,
        decided: Decided,
        settled: Settled,
        allow: Callable[[bool], None] | None,
    ) -> None:
        self._question = question
        self._decided = decided
        self._settled = settled
        self._allow = allow

    def __call__(self, outcome: Appended | Exception) -> None:
        """Take the outcome, and pass it on; a decision that was not stored is none."""
        if isinstance(outcome, Exception) or outcome.duplicate:
            self.undo()
        else:
            self._decided.event_id = outcome.id
            if self._allow is not None:
                self._allow(True)  # noqa: FBT003
        self._settled(outcome)

    def undo(self) -> None:
        """Open the question again: the decision was not taken."""
        if self._question.decided is self._decided:
            self._question.decided = None
        if self._allow is not None:
            self._allow(False)  # noqa: FBT003


class Approvals:
    """The open questions of one conversation, how the latest others ended, and what needs no asking.

    Whoever accepts a command calls `claim` in the step that enqueues it, so that of two decisions
    one is refused; a loop calls `decide` with every command as it reads the log. A question that
    has expired stays open, and can be decided once it was asked again.
    """

    def __init__(
        self, owner: str | None = None, expiry: Expiry | None = None, *, is_read: bool = False
    ) -> None:
        self._owner = owner or "the user"
        self._expiry = expiry or Expiry(None, lambda _: None)
        self._questions: dict[int, Question] = {}
        self._ended: OrderedDict[int, Decided] = OrderedDict()
        self._allowed: dict[str, bool] = {}
        """Kinds of action that need no agreement, and whether that is durable."""
        self._is_read = is_read
        self._state = ""
        """The newest state that was read in the log."""

    @property
    def is_empty(self) -> bool:
        """Whether no question is known, neither an open one nor one that is over, and nothing allowed."""
        return not self._questions and not self._ended and not self._allowed

    @property
    def open_ids(self) -> list[int]:
        """The questions that nobody has decided, ascending."""
        return sorted(key for key, one in self._questions.items() if one.decided is None)

    @property
    def allowed(self) -> list[str]:
        """The kinds of action that need no agreement in this conversation, sorted."""
        return sorted(self._allowed)

    def allows(self, kind: str) -> bool:
        """Return whether actions of a kind need no agreement."""
        return self._allowed.get(kind, False)

    def allow(self, kind: str) -> None:
        """Have actions of a kind need no agreement: the log says so."""
        self._allowed[kind] = True

    def revoke(self, kind: str) -> None:
        """Have people asked about actions of a kind again."""
        self._allowed.pop(kind, None)

    def named_in(self, state: AgentStateChangedObservation) -> AgentStateChangedObservation:
        """Return a state that names the open questions and what is allowed, to be read by `read`.

        A settled one names those as well that are decided and not carried out, for nothing before it
        is read but what it names.
        """
        asked = sorted(self._questions) if state.agent_state in RESTING else self.open_ids
        changes = {"approvals": asked or None, "allowed": self.allowed or None}
        return state.model_copy(update=changes)

    def __contains__(self, action_id: object) -> bool:
        return action_id in self._questions

    def of_turn(self, turn_id: int) -> bool:
        """Return whether the turn, the newest there is, has asked about something."""
        return any(
            one.id > turn_id if one.action.turn is None else one.action.turn == turn_id
            for one in self._questions.values()
        )

    def undecided(self) -> list[Question]:
        """Return the questions that nobody has decided, ascending."""
        return [self._questions[key] for key in self.open_ids]

    def due(self, until: int) -> list[Question]:
        """Return the questions that a command up to an id has decided, in the order of these."""
        found = [
            one
            for one in self._questions.values()
            if one.decided is not None and 0 <= one.decided.event_id <= until
        ]
        return sorted(found, key=lambda one: one.decided.event_id if one.decided else -1)

    def get(self, question_id: int) -> Question | None:
        """Return a question that is open, or decided and not yet carried out."""
        return self._questions.get(question_id)

    def expires_at(self, question_id: int) -> str | None:
        """Return when a question expires or has expired, ISO 8601 in UTC; None if it never does."""
        due = self._expiry.due(question_id)
        return None if due is None else timestamp_of(due)

    def is_expired(self, question_id: int) -> bool:
        """Return whether a question has expired, and was not asked again since."""
        return self._expiry.is_over(question_id)

    def ask_again(self, question_id: int, moment: float) -> None:
        """Have a question that is open expire so long after that moment, in POSIX seconds."""
        if question_id in self._questions:
            self._expiry.begin(question_id, moment)

    def close(self) -> None:
        """Watch no longer whether questions expire."""
        self._expiry.close()

    def ended(self, question_id: int) -> Decided | None:
        """Return how a question ended, or was decided; None for one that is open or not known."""
        question = self._questions.get(question_id)
        return self._ended.get(question_id) if question is None else question.decided

    async def read(self, stream: EventStream) -> None:
        """Read from the log what is open, once. Raises what the storage raises."""
        if self._is_read:
            return
        tail = await read_end(stream)
        if tail.asked:
            await self._read_named(stream, tail)
        self._allowed = dict.fromkeys(tail.allowed, True)
        for payload, stored in tail.later:
            self._read_on(stream, payload, stored)
        self._is_read = True

    def follow(self, stream: EventStream, stored: StoredEvent) -> None:
        """Take in the next event of the log, of a loop that runs in another process."""
        self._read_on(stream, orjson.loads(stored.body), stored)

    async def end_in_log(self, stream: EventStream, question_id: int) -> Decided:
        """Return how a question ended that may have done so long ago.

        Raises ApprovalNotFound where the agent asked nothing of that id, and what the storage raises.
        """
        known = self.ended(question_id)
        if known is not None:
            return known
        asked = False
        async for stored in stream.search_events(question_id):
            payload = orjson.loads(stored.body)
            if stored.id == question_id:
                asked = asks(payload, AgentState.AWAITING_USER_CONFIRMATION)
                if not asked:
                    break
            elif decides(payload) and (payload["args"].get("of") in (None, question_id)):
                event = stream.unmasked(stored)
                if isinstance(event, ChangeAgentStateAction):
                    return self._decided(event, self._owner, event.timestamp or "")
            elif payload.get("cause") == question_id:
                return Decided(WITHDRAWN, "the agent", str(payload.get("timestamp", "")))
        raise ApprovalNotFound(f"There is no approval {question_id}")

    def ask(self, action: Action, asked_id: int) -> None:
        """Note that an action waits for a person."""
        if asked_id not in self._questions:
            self._questions[asked_id] = Question(action, asked_id, from_log=False)
            self._expiry.begin(asked_id, time())

    def end(self, question_id: int, outcome: str = WITHDRAWN) -> None:
        """Note that a question is over: its action stands in the log again, or is answered."""
        question = self._questions.pop(question_id, None)
        self._expiry.end(question_id)
        if question is not None:
            self._remember(question_id, question.decided or Decided(outcome, "the agent", _now()))

    def claim(
        self, command: ChangeAgentStateAction, client_id: str | None, settled: Settled
    ) -> "Claim | None":
        """Take a decision that is about to be appended.

        Raises AlreadyDecided, ApprovalExpired, BadEdit, and BadEvent for an `always` that is not the
        kind of the action that is approved.

        A command without `of` decides the newest open question; None where there is none, or where
        the client repeats its own decision.
        """
        question = self._asked(command)
        if question is not None and question.decided is None:
            if self.is_expired(question.id):
                when = self.expires_at(question.id)
                raise ApprovalExpired(
                    f"The approval {question.id} expired at {when}; it has to be asked again first"
                )
            decided = self._decided(command, self._owner, _now(), client_id)
            decided.action = question.changed(decided)
            kind = command.always
            if kind is not None and not _fits(command, question):
                raise BadEvent(
                    "`always` is the kind of an action that is approved", code="bad_value"
                )
            question.decided = decided
            if kind is None:
                return Claim(question, decided, settled, None)
            # Allowed in the step in which the command gets its place: every later state says so.
            self._allowed.setdefault(kind, False)
            return Claim(question, decided, settled, partial(self._settle_allowed, kind))
        if command.of is None:
            return None
        known = self.ended(command.of)
        if known is not None and client_id is not None and known.client_id == client_id:
            return None
        if known is None:
            raise AlreadyDecided(f"The approval {command.of} is not open")
        raise known.refusal(command.of)

    def decide(self, command: ChangeAgentStateAction) -> Question | None:
        """Return the question that a command of the log decides; None if another came first."""
        for one in self._questions.values():
            if one.decided is not None and one.decided.event_id == command.id:
                return one
        question = self._asked(command)
        if question is None or question.decided is not None:
            return None
        decided = self._decided(command, self._owner, command.timestamp or _now())
        decided.event_id = -1 if command.id is None else command.id
        with suppress(BadEdit):  # changes with masks in them are not known: see `is_known`
            decided.action = question.changed(decided)
        question.decided = decided
        if command.always is not None and _fits(command, question):
            self.allow(command.always)
        return question

    def _settle_allowed(self, kind: str, stored: bool) -> None:  # noqa: FBT001
        if stored and kind in self._allowed:
            self._allowed[kind] = True
        elif not stored and not self.allows(kind):
            self.revoke(kind)

    def _asked(self, command: ChangeAgentStateAction) -> Question | None:
        if command.of is not None:
            return self._questions.get(command.of)
        return self._questions.get(max(self.open_ids, default=-1))

    def _decided(
        self, command: ChangeAgentStateAction, by: str, at: str, client_id: str | None = None
    ) -> Decided:
        outcome = OUTCOMES[AgentState(command.agent_state)]
        key = client_id or command.client_id
        return Decided(outcome, by, at, key, command.thought, command.edit)

    def _remember(self, question_id: int, decided: Decided) -> None:
        self._ended[question_id] = decided
        if len(self._ended) > ENDED_HELD:
            self._ended.popitem(last=False)

    def _read_on(
        self, stream: EventStream, payload: Mapping[str, Any], stored: StoredEvent
    ) -> None:
        changed = state_in(payload)
        if changed is None:
            self._fold(stream, payload, stored, self._state)
        else:
            self._state = changed

    def _fold(
        self, stream: EventStream, payload: Mapping[str, Any], stored: StoredEvent, state: str
    ) -> None:
        cause = payload.get("cause")
        if isinstance(cause, int) and (cause in self._questions or cause in self._ended):
            self.end(cause)
        elif asks(payload, state):
            self._put(stream, stored)
        elif decides(payload):
            self._take_decision(stream, stored)
        else:
            self._take_renewal(payload)
            kind = asking_again(payload).get("always")
            if isinstance(kind, str):
                self.revoke(kind)

    async def _read_named(self, stream: EventStream, tail: LogEnd) -> None:
        """Read what people said, until the newest settled state, of the questions that it names."""
        first, named = tail.asked[0].id, {one.id for one in tail.asked}
        by_user = [one async for one in stream.search_events(first, tail.rest_id, filter=BY_USER)]
        commands = [(orjson.loads(stored.body), stored) for stored in by_user]
        decisions = [payload["args"].get("of") for payload, _ in commands if decides(payload)]
        if None in decisions:
            # Such a one was about the newest question of its moment, which may be over.
            state = ""
            async for stored in stream.search_events(first, tail.rest_id):
                payload = orjson.loads(stored.body)
                state = state_in(payload) or state
                if stored.id in named:
                    self._put(stream, stored)
                else:
                    self._fold(stream, payload, stored, state)
            for question_id in self._questions.keys() - named:
                self.end(question_id)
            return
        for stored in tail.asked:
            self._put(stream, stored)
        for payload, stored in commands:
            self._take_renewal(payload)
            if decides(payload) and payload["args"].get("of") in named:
                self._take_decision(stream, stored)

    def _take_decision(self, stream: EventStream, stored: StoredEvent) -> None:
        event = stream.unmasked(stored)
        if isinstance(event, ChangeAgentStateAction):
            self.decide(event)

    def _take_renewal(self, payload: Mapping[str, Any]) -> None:
        renewed = asking_again(payload).get("of")
        if isinstance(renewed, int):
            self.ask_again(renewed, posix_of(payload.get("timestamp")))

    def _put(self, stream: EventStream, stored: StoredEvent) -> None:
        event = stream.unmasked(stored)
        if isinstance(event, Action):
            self._questions[stored.id] = Question(event, stored.id, from_log=True)
            self._expiry.begin(stored.id, posix_of(event.timestamp))


def _fits(command: ChangeAgentStateAction, question: Question) -> bool:
    """Return whether a command approves a question and allows actions of its kind."""
    approved = OUTCOMES.get(AgentState(command.agent_state)) == APPROVED
    return approved and command.always == question.action.kind


def _now() -> str:
    return timestamp_of(time())
