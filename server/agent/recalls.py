"""The `recall` events of a loop: each marks a message as taken up, or begins a turn without one."""

from asyncio import Future, shield
from typing import NamedTuple

from events.actions import MessageAction, RecallAction
from events.batch import Appended
from events.event import EventSource, RecallType
from events.observations import RecallObservation
from events.stream import HeldStream
from server.agent.journal import LoopJournal
from storage.failpoints import failpoint


class Recalled(NamedTuple):
    """The mark of a message that is taken up, with its append, and the turn it belongs to."""

    kind: RecallType
    appending: "Future[Appended]"
    turn_id: int | None


class Recalls:
    """Appends marks and, once each is durable, its answer. Methods raise what the stream raises."""

    def __init__(self, held: HeldStream, journal: LoopJournal) -> None:
        self.any_before = False
        """Whether a message of this conversation was taken up before."""
        self._held = held
        self._journal = journal

    def mark(self, message: MessageAction, turn_id: int | None) -> Recalled:
        """Mark a message as taken up by a turn; None for the one that begins with it."""
        failpoint("recall.begun")
        kind = RecallType.KNOWLEDGE if self.any_before else RecallType.WORKSPACE_CONTEXT
        self.any_before = True
        recall = RecallAction(
            recall_type=kind, query=message.content, cause=message.id, turn=turn_id
        )
        return Recalled(kind, self._held.enqueue(recall, EventSource.USER), turn_id)

    def mark_soon(self, message: MessageAction, turn_id: int) -> None:
        """Mark a message as taken up by a turn that is under way, without waiting."""
        recalled = self.mark(message, turn_id)

        def answer(done: "Future[Appended]") -> None:
            if not done.cancelled() and done.exception() is None:
                self._answer(recalled, done.result())

        recalled.appending.add_done_callback(answer)

    async def recorded(self, recalled: Recalled) -> int:
        """Wait until a mark is durable, record its answer, and return its id."""
        appended = await shield(recalled.appending)
        self._answer(recalled, appended)
        return appended.id

    def without_message(self, cause: int | None = None) -> "Future[Appended]":
        """Begin a turn that no message begins; `cause` is the id of what does, if anything does."""
        recall = RecallAction(recall_type=RecallType.KNOWLEDGE, cause=cause)
        return self._held.enqueue(recall, EventSource.ENVIRONMENT)

    def _answer(self, recalled: Recalled, appended: Appended) -> None:
        answer = RecallObservation(
            recall_type=recalled.kind, cause=appended.id, turn=recalled.turn_id
        )
        self._journal.tell(answer, EventSource.ENVIRONMENT)
