"""The window: how much of a conversation a model is told, and the summary of what it is not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeGuard

from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart

from events.actions import (
    Action,
    AgentFinishAction,
    AgentRejectAction,
    AgentThinkAction,
    CondensationAction,
    MessageAction,
)
from events.event import Event
from events.observations import Observation
from runtime_stub.llm.requests import Requests, tokens_of
from runtime_stub.llm.speech import Gathered
from runtime_stub.llm.transcript import BadCall, Entry, Transcript, bytes_of, size_of, text_of
from runtime_stub.tools import arguments_of
from runtime_stub.turn import Reason, Turn, TurnFailed, is_asked, spoken

FULL = 0.8
"""The part of the context from which on the oldest exchanges are summarised."""
KEPT = 0.4
"""The part of the context that what is told as it was may take after that."""
LONGEST_TOLD = 4000
"""Characters of one entry that the summary is made of."""
SUMMARISE = """\
Summarise the conversation below for yourself: you will go on with it and see nothing but your summary.
Keep what the user wants and has decided, what was done and found out, names of files, values, and what
is still to be done. Write plain text, at most 400 words, and nothing else.

"""


@dataclass(slots=True)
class Window:
    """Keeps what a model is told within what it takes."""

    turn: Turn
    transcript: Transcript
    requests: Requests
    overhead: int = 0
    """Bytes that every request has besides: instructions and tools."""
    _measured: int = field(default=0, init=False)
    _measured_entries: int = field(default=0, init=False)
    _asked: MessageAction | None = field(default=None, init=False)
    """The newest message of the user that is summarised, or else is to be answered."""

    @property
    def tokens(self) -> int:
        """About how many tokens the next request has."""
        entries = self.transcript.entries
        if self._measured:
            return self._measured + _tokens_of(entries[self._measured_entries :])
        return _tokens_of(entries) + tokens_of(bytes_of(self.transcript.summary) + self.overhead)

    def measure(self, tokens: int) -> None:
        """Take note of what the provider has counted for all there is so far."""
        self._measured, self._measured_entries = tokens, len(self.transcript.entries)

    async def fit(self) -> None:
        """Summarise the oldest entries if the next request would nearly fill the context."""
        room = self.requests.context_tokens
        reserve = self.requests.options.reserve_tokens
        if self.tokens > min(int(room * FULL), max(room - reserve, room // 2)):
            await self._condense(int(room * KEPT))

    async def halve(self) -> bool:
        """Summarise half of all, whatever the context is said to be; see `_condense`."""
        return await self._condense(_tokens_of(self.transcript.entries) // 2)

    async def _condense(self, kept: int) -> bool:
        """Summarise, durably, all but about so many tokens; False where there is nothing to summarise."""
        entries = self.transcript.entries
        place = self._cut(kept)
        end = self._last_before(place)
        if end is None:
            return False
        self.turn.status("Summarising the beginning of the conversation.")
        summary = await self._summary_of(entries[:place])
        await self.turn.act(
            CondensationAction(
                forgotten_events_start_id=0,
                forgotten_events_end_id=end,
                summary=summary,
                summary_offset=0,
            )
        )
        self.transcript.summary = summary
        del entries[:place]
        self._measured = 0
        return True

    async def _summary_of(self, entries: Sequence[Entry]) -> str:
        room = int(self.requests.context_tokens * FULL * 3)
        told = "\n\n".join(filter(None, map(_told, entries)))
        before = self.transcript.summary
        newest = told.encode(errors="replace")[-room:].decode(errors="ignore")
        text = f"{SUMMARISE}{f'In short, before: {before}' if before else ''}\n\n{newest}"
        messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(content=text)])]
        heard = Gathered()
        tools, self.requests.tools = self.requests.tools, ()
        try:
            answer = await self.requests.answer(messages, heard)
        finally:
            self.requests.tools = tools
        if answer.limit is not None:
            raise answer.limit
        if not heard.text.strip():
            raise TurnFailed("The model gave no summary.", Reason.CONTEXT_TOO_LONG)
        # The message may be part of an earlier summary of this turn.
        earlier = self.turn.cause if self._asked is None else (self._asked,)
        asked = [one for one in (*earlier, *entries) if _is_asked(one)]
        self._asked = asked[-1] if asked else None
        if asked and not any(_is_asked(one) for one in self.transcript.entries[len(entries) :]):
            # What is being worked on must not be lost to a summary.
            return f"{heard.text.strip()}\n\nThe user's last message was: {_told(asked[-1])}"
        return heard.text.strip()

    def _cut(self, tokens: int) -> int:
        """Return how many entries to summarise, so that the rest takes at most so many tokens.

        The rest begins where `_last_before` is known; it is never empty.
        """
        entries = self.transcript.entries
        size, place, found = 0, len(entries), 0
        while place > 0:
            place -= 1
            size += tokens_of(size_of(entries[place]))
            if size > tokens and found:
                break
            if self._last_before(place) is not None:
                found = place
        return found

    def _last_before(self, place: int) -> int | None:
        """Return the id in the log up to which all is told by the entries before that one, and nothing else.

        None where there is none, or it is not known: such as between a call and what came of it.
        """
        entries = self.transcript.entries
        if not 0 < place < len(entries):
            return None
        entry = entries[place]
        if _is_call(entry) and not _is_call(entries[place - 1]):
            behind = (entries[one] for one in range(place, len(entries)))
            at_once = takewhile(_is_call, behind)
            known = [self.transcript.place(one) for one in at_once]
            return None if None in known else min(one for one in known if one is not None) - 1
        if not _is_asked(entry):
            return None
        taken_up = self.transcript.place(entry)
        if taken_up is not None:
            return taken_up - 1
        # It is marked as taken up behind all that came of the calls before it.
        before = [self.transcript.place(one) for one in entries[:place] if isinstance(one, Event)]
        if not before or before[-1] is None:
            return None
        return max(one for one in before if one is not None)


def _is_asked(entry: Entry) -> TypeGuard[MessageAction]:
    return isinstance(entry, Event) and is_asked(entry)


def _tokens_of(entries: Sequence[Entry]) -> int:
    return tokens_of(sum(size_of(entry) for entry in entries))


def _is_call(entry: Entry) -> bool:
    is_text = isinstance(entry, MessageAction | AgentThinkAction)
    return isinstance(entry, Action) and not is_text


def _told(entry: Entry) -> str:
    match entry:
        case BadCall():
            return f"CALL {entry.name}: {entry.told}"
        case Observation():
            return f"RESULT: {text_of(entry)[:LONGEST_TOLD]}"
        case MessageAction() | AgentFinishAction() | AgentRejectAction():
            who = "USER" if _is_asked(entry) else "YOU"
            return f"{who}: {spoken(entry)[:LONGEST_TOLD]}"
        case Action() if not isinstance(entry, AgentThinkAction):
            return f"CALL {entry.kind}: {str(arguments_of(entry))[:LONGEST_TOLD]}"
        case _:
            return ""
