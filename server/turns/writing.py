"""Texts that are shown while they are written: one that is an event at its end, or an action's argument."""

from types import TracebackType
from typing import Any, Self

from events.actions import Action
from events.batch import Appended
from events.event import Event, EventSource, Interruption
from events.partials import Partial
from runtime_stub.turn import TEXT_FIELDS, Draft, TextKind, Writing, text_event
from server.turns.actions import Actions
from server.turns.context import TurnContext
from server.turns.limits import Clocks
from server.user_code import outside
from storage.promise import Promise


class LoggedWriting(Writing):
    """A text that holds a partial of the stream while it is written; see Writing.

    `open_texts` holds it from its beginning to its end, so that `cut` is called for it when the
    turn is sealed.
    """

    def __init__(
        self,
        open_texts: "dict[LoggedWriting, None]",
        context: TurnContext,
        actions: Actions,
        clocks: Clocks,
        kind: TextKind,
    ) -> None:
        self.metadata: dict[str, Any] = {}
        self.ending = Interruption.FAILED
        self._open_texts = open_texts
        self._held = context.held
        self._actions = actions
        self._clocks = clocks
        self._kind = kind
        self._partial: Partial | None = None

    async def __aenter__(self) -> Self:
        """Begin the text."""
        with outside():
            self._actions.check()
            self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the text: it is durable then, or cut short by an exception."""
        with outside():
            if error is not None:
                self.cut(self.ending)
                return
            self._actions.check()
            appended = self._finish(None)
            if appended is not None:
                await appended

    def write(self, piece: str) -> None:
        """See Writing."""
        with outside():
            self._writable().write(piece)
            self._clocks.touch()

    async def flush(self) -> None:
        """See Writing."""
        with outside():
            await self._writable().flush()

    def begin_anew(self, why: str) -> None:  # noqa: ARG002 - told by a status, not by the log
        """See Writing."""
        with outside():
            self._writable().drop("anew")
            self._begin()
            self._clocks.touch()

    def cut(self, why: Interruption) -> None:
        """End the text early: what was shown is appended, `interrupted`; a text of which nothing was is not."""
        partial = self._partial
        if partial is None:
            return
        if partial.told and partial.text.strip():
            self._finish(why)
        else:
            self._drop(partial)

    def _begin(self) -> None:
        turn_id = self._actions.turn_id()
        begun = self._held.stream.partials.begin(self._kind, TEXT_FIELDS[self._kind], turn_id)
        self._partial = begun
        self._open_texts[self] = None

    def _writable(self) -> Partial:
        self._actions.check()
        if self._partial is None:
            raise RuntimeError("a text is written in its `async with` block only")
        return self._partial

    def _drop(self, partial: Partial) -> None:
        self._partial = None
        self._open_texts.pop(self, None)
        partial.drop("empty")

    def _finish(self, interrupted: Interruption | None) -> Promise[Appended] | None:
        partial = self._partial
        if partial is None:
            return None
        if not partial.text.strip():
            self._drop(partial)
            return None
        self._partial = None
        self._open_texts.pop(self, None)
        changes = self._actions.carried()
        if self.metadata:
            changes["tool_call_metadata"] = dict(self.metadata)
        if interrupted is not None:
            changes["interrupted"] = interrupted
        event = text_event(self._kind, partial.text).model_copy(update=changes)
        appended: Promise[Appended] = Promise()
        partial.finish(event, EventSource.AGENT, self._append, appended.settle)
        return appended

    def _append(self, event: Event, source: EventSource, settled: Any) -> None:
        self._held.submit(event, source, settled, own=True)


class LoggedDraft(Draft):
    """An argument of an action that holds a partial of the stream while it is written; see Draft.

    `open_drafts` holds it while it is open, so that it is dropped when the turn is sealed.
    """

    def __init__(
        self,
        open_drafts: "dict[LoggedDraft, None]",
        context: TurnContext,
        actions: Actions,
        clocks: Clocks,
        kind: str,
        field: str,
    ) -> None:
        self._open_drafts = open_drafts
        self._actions = actions
        self._clocks = clocks
        self._partial = context.held.stream.partials.begin(kind, field, actions.turn_id())
        open_drafts[self] = None

    def write(self, piece: str) -> None:
        """See Draft."""
        with outside():
            self._actions.check()
            self._partial.write(piece)
            self._clocks.touch()

    def drop(self) -> None:
        """See Draft."""
        with outside():
            self._open_drafts.pop(self, None)
            self._partial.drop("anew")

    def taken(self, action: Action) -> Partial | None:
        """Return the partial as the action's, with the whole argument; None where it is not."""
        partial = self._partial
        self._open_drafts.pop(self, None)
        whole = getattr(action, partial.field, None) if action.kind == partial.kind else None
        if partial.over or not isinstance(whole, str) or not whole.startswith(partial.text):
            partial.drop("anew")
            return None
        partial.write(whole[len(partial.text) :])
        return partial
