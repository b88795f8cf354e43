"""The texts of an answer while they come: shown as they are written, or only gathered."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from events.actions import AgentThinkAction, MessageAction
from events.event import Event, EventSource
from runtime_stub.llm.drafts import CallDrafts
from runtime_stub.llm.transcript import SIGNATURE
from runtime_stub.turn import TextKind, Turn, Writing


class Gathered:
    """Takes the texts of an answer, and shows them to nobody."""

    def __init__(self) -> None:
        self.text = ""
        self.begun = False
        """Whether something of the answer is shown."""

    async def say(self, piece: str) -> None:
        """Add to the answer."""
        self.text += piece

    async def think(self, piece: str) -> None:
        """Add to the thoughts."""

    def sign(self, metadata: dict[str, Any]) -> None:
        """Note what the provider wants to see again of a thought."""

    async def thought(self) -> None:
        """End the thoughts so far."""

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
    taken back. `events` are what the log has of both, `drafts` what is shown of calls.
    """

    def __init__(self, turn: Turn, *, show_reasoning: bool) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.drafts = CallDrafts(turn)
        self._turn = turn
        self._show_reasoning = show_reasoning
        self._thinking: Writing | None = None
        self._thoughts = ""
        self._signature: dict[str, Any] | None = None
        self._saying: Writing | None = None

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
        else:
            self.drafts.drop()
        writing, self._saying = self._saying, None
        thinking, self._thinking = self._thinking, None
        try:
            if thinking is not None:
                await thinking.__aexit__(kind, error, trace)
        finally:
            if writing is not None:
                await writing.__aexit__(kind, error, trace)
        if error is None and self.text.strip():
            said = MessageAction(content=self.text, source=EventSource.AGENT)
            self.events.append(said)

    async def say(self, piece: str) -> None:
        """See Gathered."""
        if not piece:
            return
        await self.thought()
        if self._saying is None:
            self._saying = await self._begin("message")
        self.text += piece
        await self._write(self._saying, piece)

    async def think(self, piece: str) -> None:
        """See Gathered."""
        if not piece or not self._show_reasoning:
            return
        if self._thinking is None:
            self._thinking = await self._begin("think")
            self._thoughts, self._signature = "", None
        self._thoughts += piece
        await self._write(self._thinking, piece)

    def sign(self, metadata: dict[str, Any]) -> None:
        """See Gathered."""
        if self._thinking is not None:
            self._signature = metadata
            self._thinking.metadata[SIGNATURE] = metadata

    async def thought(self) -> None:
        """See Gathered."""
        thinking, self._thinking = self._thinking, None
        if thinking is None:
            return
        await thinking.__aexit__(None, None, None)
        if self._thoughts.strip() and self._signature is not None:
            thought = AgentThinkAction(
                thought=self._thoughts,
                source=EventSource.AGENT,
                tool_call_metadata={SIGNATURE: self._signature},
            )
            self.events.append(thought)

    def call(self, place: int, call_id: str, tool: str, json: str) -> None:
        """See Gathered."""
        self.drafts.begin(place, call_id, tool, json)
        self.begun = self.begun or self.drafts.begun

    def more(self, place: int, json: str) -> None:
        """See Gathered."""
        self.drafts.add(place, json)
        self.begun = self.begun or self.drafts.begun

    def begin_anew(self, why: str) -> None:
        """Take back, visibly, what is not ended yet."""
        for writing in (self._thinking, self._saying):
            if writing is not None:
                writing.begin_anew(why)
        self.drafts.drop()
        self.text, self._thoughts, self._signature = "", "", None
        self.begun = False

    async def _begin(self, kind: TextKind) -> Writing:
        writing = self._turn.say(kind=kind)
        await writing.__aenter__()
        return writing

    async def _write(self, writing: Writing, piece: str) -> None:
        self.begun = True
        writing.write(piece)
        await writing.flush()
