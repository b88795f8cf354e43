"""The texts of an answer while they come: shown as they are written, or only gathered."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from events.event import Event, EventSource
from runtime_stub.llm.drafts import CallDrafts
from runtime_stub.llm.transcript import SIGNATURE, UNSHOWN, WORDS
from runtime_stub.turn import TextKind, Turn, Writing, text_event

MOST_HELD = 6
"""Ended parts of an answer that can be taken back; of more the first becomes an event."""


@dataclass(slots=True)
class Part:
    """A thought or a text of an answer, as far as it has come."""

    kind: TextKind
    writing: Writing
    text: str = ""


class Gathered:
    """Takes the texts of an answer, and shows them to nobody."""

    def __init__(self) -> None:
        self.text = ""
        self.begun = False
        """Whether something of the answer is shown."""
        self.ended = False
        """Whether a part of the answer is an event already, which nothing can take back."""

    async def say(self, piece: str) -> None:
        """Add to the answer."""
        self.text += piece

    async def think(self, piece: str) -> None:
        """Add to the thoughts."""

    def keep(self, metadata: dict[str, Any]) -> None:
        """Note that the provider wants to see the next thought again although it does not sign it."""

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

    async def begin_anew(self, why: str) -> None:  # noqa: ARG002 - see Speech
        """Take back what there is."""
        self.text = ""


class Speech(Gathered, AbstractAsyncContextManager["Speech"]):
    """Shows the texts of an answer as they come.

    They become events at the end of the block, in the order in which they ended: until then all of
    the answer can be taken back. `events` are what the log has of them, `drafts` what is shown of
    calls. Thoughts without words, of which the provider shows a signature alone, go with what
    follows them.
    """

    def __init__(self, turn: Turn, *, show_reasoning: bool) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.drafts = CallDrafts(turn)
        self._turn = turn
        self._show_reasoning = show_reasoning
        self._held: list[Part] = []
        """The parts that are whole."""
        self._thinking: Part | None = None
        self._saying: Part | None = None
        self._unshown: list[dict[str, Any]] = []
        self._signed_text: dict[str, Any] | None = None
        self._kept: dict[str, Any] | None = None
        """The part of the next thought that is to be seen again, which is not signed."""
        self._words: list[str] = []
        """The words of such a thought, where nobody is shown them."""

    async def __aenter__(self) -> Self:
        """Begin; nothing is shown before the first piece."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the texts: they are durable then, and what is not whole is cut short by an exception."""
        if error is None:
            await self.thought()
            await self.said()
        else:
            self.drafts.drop()
        held, cut = self._held, [one for one in (self._thinking, self._saying) if one is not None]
        self._held, self._thinking, self._saying = [], None, None
        # The last one first: whatever comes of a text, those behind it end as well.
        ending = AsyncExitStack()
        for part in reversed(cut):
            ending.push_async_exit(part.writing)
        for part in reversed(held):
            ending.push_async_callback(self._end, part)
        await ending.__aexit__(kind, error, trace)

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
        if not piece:
            return
        if not self._show_reasoning:
            if self._kept is not None:
                self._words.append(piece)
            return
        if self._thinking is None:
            self._thinking = await self._begin("think")
            if self._kept is not None:
                self._thinking.writing.metadata[SIGNATURE] = self._kept
        await self._write(self._thinking, piece)

    def keep(self, metadata: dict[str, Any]) -> None:
        """See Gathered."""
        self._kept = metadata

    async def sign(self, metadata: dict[str, Any]) -> None:
        """See Gathered."""
        if self._thinking is None:
            await self.said()
            self._unshown.append(metadata)
        else:
            self._thinking.writing.metadata[SIGNATURE] = metadata

    def sign_text(self, metadata: dict[str, Any]) -> None:
        """See Gathered."""
        self._signed_text = metadata

    async def thought(self) -> None:
        """See Gathered."""
        thinking, self._thinking = self._thinking, None
        if self._kept is not None and self._words:
            self._unshown.append({**self._kept, WORDS: "".join(self._words)})
        self._kept, self._words = None, []
        if thinking is not None:
            await self._hold(thinking)

    async def said(self) -> None:
        """See Gathered."""
        saying, self._saying = self._saying, None
        if saying is None:
            return
        if self._signed_text is not None:
            saying.writing.metadata[SIGNATURE], self._signed_text = self._signed_text, None
        await self._hold(saying)

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

    async def begin_anew(self, why: str) -> None:
        """Take back, visibly, all that is no event yet."""
        parts = [*self._held, *(one for one in (self._thinking, self._saying) if one is not None)]
        self._held, self._thinking, self._saying = [], None, None
        self.text = ""
        self._unshown, self._signed_text = [], None
        self._kept, self._words = None, []
        self.begun = False
        self.drafts.drop()
        for part in parts:
            part.writing.begin_anew(why)
            await part.writing.__aexit__(None, None, None)

    async def _begin(self, kind: TextKind) -> Part:
        writing = self._turn.say(kind=kind)
        await writing.__aenter__()
        unshown = self.take_unshown()
        if unshown:
            writing.metadata[UNSHOWN] = unshown
        return Part(kind, writing)

    async def _write(self, part: Part, piece: str) -> None:
        self.begun = True
        part.text += piece
        part.writing.write(piece)
        await part.writing.flush()

    async def _hold(self, part: Part) -> None:
        self._held.append(part)
        if len(self._held) > MOST_HELD:
            self.ended = True
            await self._end(self._held.pop(0))

    async def _end(self, part: Part) -> None:
        """Make an event of a part that is whole."""
        await part.writing.__aexit__(None, None, None)
        metadata = dict(part.writing.metadata) or None
        fields = {"source": EventSource.AGENT, "tool_call_metadata": metadata}
        if part.text.strip() and (part.kind == "message" or metadata):
            self.events.append(text_event(part.kind, part.text).model_copy(update=fields))
