"""The texts of an answer while they come: shown as they are written, or only gathered."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from events.actions import AgentThinkAction, MessageAction
from events.event import Event, EventSource
from runtime_stub.llm.drafts import CallDrafts
from runtime_stub.llm.transcript import SIGNATURE, UNSHOWN
from runtime_stub.turn import TextKind, Turn, Writing


class Gathered:
    """Takes the texts of an answer, and shows them to nobody."""

    def __init__(self) -> None:
        self.text = ""
        self.begun = False
        """Whether something of the answer is shown."""
        self.ended = False
        """Whether a part of the answer is a message of its own already, which nothing can take back."""

    async def say(self, piece: str) -> None:
        """Add to the answer."""
        self.text += piece

    async def think(self, piece: str) -> None:
        """Add to the thoughts."""

    async def sign(self, metadata: dict[str, Any]) -> None:
        """Note what the provider wants to see again of a thought."""

    def sign_text(self, metadata: dict[str, Any]) -> None:
        """Note what it wants to see again of the text."""

    async def thought(self) -> None:
        """End the thoughts so far."""

    async def said(self) -> None:
        """End the text so far: what comes next is a message of its own."""

    def call(self, place: int, call_id: str, tool: str, json: str) -> None:
        """Note the beginning of a call, which is the part `place` of the answer."""

    def more(self, place: int, json: str) -> None:
        """Note more of its arguments."""

    def begin_anew(self, why: str) -> None:  # noqa: ARG002 - see Speech
        """Take back what there is."""
        self.text = ""


class Speech(Gathered, AbstractAsyncContextManager["Speech"]):
    """Shows the texts of an answer as they come.

    A thought ends where something else follows, the answer with the block: until then it can be
    taken back. `events` are what the log has of both, `drafts` what is shown of calls. Thoughts
    without words, of which the provider shows a signature alone, go with what follows them.
    """

    def __init__(self, turn: Turn, *, show_reasoning: bool) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.drafts = CallDrafts(turn)
        self._turn = turn
        self._show_reasoning = show_reasoning
        self._thinking: Writing | None = None
        self._thoughts = ""
        self._unshown: list[dict[str, Any]] = []
        self._saying: Writing | None = None
        self._message = ""
        self._signed_text: dict[str, Any] | None = None

    async def __aenter__(self) -> Self:
        """Begin; nothing is shown before the first piece."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the texts: they are durable then, or cut short by an exception."""
        if error is None:
            await self.thought()
            await self.said()
            return
        self.drafts.drop()
        writing, self._saying = self._saying, None
        thinking, self._thinking = self._thinking, None
        try:
            if thinking is not None:
                await thinking.__aexit__(kind, error, trace)
        finally:
            if writing is not None:
                await writing.__aexit__(kind, error, trace)

    async def say(self, piece: str) -> None:
        """See Gathered."""
        if not piece:
            return
        await self.thought()
        if self._saying is None:
            self._saying = await self._begin("message")
            self._message = ""
        self.text += piece
        self._message += piece
        await self._write(self._saying, piece)

    async def think(self, piece: str) -> None:
        """See Gathered."""
        if not piece or not self._show_reasoning:
            return
        if self._thinking is None:
            self._thinking = await self._begin("think")
            self._thoughts = ""
        self._thoughts += piece
        await self._write(self._thinking, piece)

    async def sign(self, metadata: dict[str, Any]) -> None:
        """See Gathered."""
        if self._thinking is None:
            await self.said()
            self._unshown.append(metadata)
        else:
            self._thinking.metadata[SIGNATURE] = metadata

    def sign_text(self, metadata: dict[str, Any]) -> None:
        """See Gathered."""
        self._signed_text = metadata

    async def thought(self) -> None:
        """See Gathered."""
        thinking, self._thinking = self._thinking, None
        if thinking is None:
            return
        await thinking.__aexit__(None, None, None)
        if self._thoughts.strip() and thinking.metadata:
            thought = AgentThinkAction(
                thought=self._thoughts,
                source=EventSource.AGENT,
                tool_call_metadata=dict(thinking.metadata),
            )
            self.events.append(thought)

    async def said(self) -> None:
        """See Gathered."""
        saying, self._saying = self._saying, None
        if saying is None:
            return
        if self._signed_text is not None:
            saying.metadata[SIGNATURE], self._signed_text = self._signed_text, None
        await saying.__aexit__(None, None, None)
        if self._message.strip():
            self.ended = True
            said = MessageAction(
                content=self._message,
                source=EventSource.AGENT,
                tool_call_metadata=dict(saying.metadata) or None,
            )
            self.events.append(said)

    def call(self, place: int, call_id: str, tool: str, json: str) -> None:
        """See Gathered."""
        self.drafts.begin(place, call_id, tool, json)
        self.begun = self.begun or self.drafts.begun

    def more(self, place: int, json: str) -> None:
        """See Gathered."""
        self.drafts.add(place, json)
        self.begun = self.begun or self.drafts.begun

    def take_unshown(self) -> list[dict[str, Any]]:
        """Return the thoughts without words that nothing has taken along yet."""
        found, self._unshown = self._unshown, []
        return found

    def begin_anew(self, why: str) -> None:
        """Take back, visibly, what is not ended yet."""
        for writing in (self._thinking, self._saying):
            if writing is not None:
                writing.metadata.clear()
                writing.begin_anew(why)
        self.drafts.drop()
        self.text, self._message, self._thoughts = "", "", ""
        self._unshown, self._signed_text = [], None
        self.begun = False

    async def _begin(self, kind: TextKind) -> Writing:
        writing = self._turn.say(kind=kind)
        await writing.__aenter__()
        unshown = self.take_unshown()
        if unshown:
            writing.metadata[UNSHOWN] = unshown
        return writing

    async def _write(self, writing: Writing, piece: str) -> None:
        self.begun = True
        writing.write(piece)
        await writing.flush()
