"""The conversation as a model is told it: messages that follow from the events of the log, and from nothing else."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from events.actions import (
    RUNNABLE,
    Action,
    AgentFinishAction,
    AgentRejectAction,
    AgentThinkAction,
    CondensationAction,
    MessageAction,
    RecallAction,
)
from events.event import Event, EventSource, Interruption
from events.observations import (
    CUT_MARK,
    MAX_OUTPUT_CHARACTERS,
    CmdOutputObservation,
    Observation,
)
from runtime_stub.tools import arguments_of
from runtime_stub.turn import History

PICTURE = "[picture]"
"""Stands for a picture that the model cannot see."""
NO_ANSWER = "This call was interrupted before it had a result."
DONE = "Done."
CUT_SHORT = {
    Interruption.STOPPED: "[The user stopped your answer here.]",
    Interruption.MESSAGE: "[Your answer was interrupted here by the next message.]",
    Interruption.FAILED: "[Your answer broke off here.]",
    Interruption.TIMED_OUT: "[Your answer took too long and was ended here.]",
    Interruption.CRASHED: "[Your answer was cut off here by a restart of the server.]",
}
GO_ON = "[Please go on.]"
SUMMARY = "[The beginning of the conversation, in short:]\n\n{summary}"
SIGNATURE = "thinking"
"""The key in `tool_call_metadata` of a thought that the provider wants to see again."""
LONGEST_PICTURES = 20
"""Pictures that a model is shown, the newest."""

_DATA_ADDRESS = re.compile(r"data:(image/[\w.+-]+);base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that no tool takes, and what the model is told about it; it is no event."""

    response: str
    id: str
    name: str
    arguments: dict[str, Any]
    told: str


@dataclass(frozen=True, slots=True)
class Note:
    """A word to the model that nobody has said; it is no event."""

    text: str


Entry: TypeAlias = Event | BadCall | Note


@dataclass(slots=True)
class Transcript:
    """The conversation as a model is told it: events in the order in which they were taken up."""

    entries: list[Entry] = field(default_factory=list)
    summary: str = ""
    """The summary of what is not told any more."""

    def messages(self, instructions: str, *, vision: bool) -> list[ModelMessage]:
        """Return the messages of the next request."""
        return messages_of(self.entries, self.summary, instructions, vision=vision)


async def read_transcript(
    history: History, waiting: Sequence[MessageAction], characters: int
) -> Transcript:
    """Read what is to be told of a conversation, the newest of at most about so many characters.

    `waiting` are the messages that the turn takes up: those which have not been taken up before
    stand at the end.
    """
    found: list[Event] = []
    gone = _Forgotten()
    size = 0
    async for event in history.events(reverse=True):
        if gone.reaches(event):
            break
        if isinstance(event, CondensationAction):
            gone.add(event)
        elif _is_told(event) and not gone.has(event):
            found.append(event)
            size += size_of(event)
            if size > characters and _is_asked(event):
                break
    found.reverse()
    return Transcript([*_in_order(found, waiting)], gone.summary)


def size_of(entry: Entry) -> int:
    """Return about how many characters an entry takes."""
    if isinstance(entry, BadCall):
        return len(entry.told) + len(str(entry.arguments))
    if isinstance(entry, Note):
        return len(entry.text)
    if isinstance(entry, Observation):
        return min(len(entry.content), MAX_OUTPUT_CHARACTERS)
    if isinstance(entry, MessageAction):
        return len(entry.content)
    if isinstance(entry, AgentThinkAction):
        return len(entry.thought)
    return len(str(arguments_of(entry))) if isinstance(entry, Action) else 0


class _Forgotten:
    """The events that condensations have taken out of what a model is told."""

    def __init__(self) -> None:
        self.summary = ""
        self._ids: set[int] = set()
        self._ranges: list[tuple[int, int]] = []
        self._floor = -1
        self._any = False

    def add(self, condensation: CondensationAction) -> None:
        """Take note of a condensation; they come newest first."""
        if not self._any:
            self._any, self.summary = True, condensation.summary or ""
        self._ids.update(condensation.forgotten_event_ids or ())
        start, end = (
            condensation.forgotten_events_start_id,
            condensation.forgotten_events_end_id,
        )
        if start is not None and end is not None:
            self._ranges.append((start, end))
            if start <= 0:
                self._floor = max(self._floor, end)

    def has(self, event: Event) -> bool:
        """Return whether an event is forgotten."""
        key = -1 if event.id is None else event.id
        return key in self._ids or any(start <= key <= end for start, end in self._ranges)

    def reaches(self, event: Event) -> bool:
        """Return whether everything from that event back is forgotten."""
        return event.id is not None and event.id <= self._floor


def _is_asked(event: Event) -> bool:
    return isinstance(event, MessageAction) and event.source == EventSource.USER


def _is_told(event: Event) -> bool:
    match event:
        case MessageAction() | RecallAction() | AgentFinishAction() | AgentRejectAction():
            return True
        case AgentThinkAction():
            return SIGNATURE in (event.tool_call_metadata or {})
        case Action():
            return event.kind in RUNNABLE and event.source == EventSource.AGENT
        case Observation():
            return event.cause is not None and event.source == EventSource.AGENT
        case _:
            return False


def _in_order(events: Sequence[Event], waiting: Sequence[MessageAction]) -> Iterator[Event]:
    """Give the events with each message of the user where it was taken up, and without the marks of that."""
    taken = {event.cause for event in events if isinstance(event, RecallAction)}
    last = {message.id for message in waiting} - taken
    asked = {event.id: event for event in events if _is_asked(event)}
    for event in events:
        if isinstance(event, RecallAction):
            message = asked.pop(event.cause, None)
            if message is not None and event.cause not in last:
                yield message
        elif not _is_asked(event) or (event.id not in taken and event.id not in last):
            yield event
    for message in waiting:
        if message.id in last:
            yield message


class _Call(NamedTuple):
    """A call that is not answered yet, with the place of its part in the response."""

    place: int
    part: ToolCallPart


class _Messages:
    """Gathers messages: requests and responses in turn, every call with its answer."""

    def __init__(self, instructions: str, *, vision: bool, pictures: int) -> None:
        self.made: list[ModelMessage] = []
        self._instructions = instructions
        self._vision = vision
        self._pictures_left_out = max(0, pictures - LONGEST_PICTURES)
        self._response: list[ModelResponsePart] = []
        self._response_id: str | None = None
        self._open: dict[int | str, _Call] = {}
        self._answers: dict[int, ToolReturnPart] = {}
        self._request: list[ModelRequestPart] = []
        self._later: list[ModelRequestPart] = []

    def user(self, content: str | Sequence[UserContent]) -> None:
        """Add words of the user; those that come while calls are open follow their answers."""
        part = UserPromptPart(content=content)
        if self._response and self._open:
            self._later.append(part)
            return
        self._end_response()
        self._request.append(part)

    def message(self, event: MessageAction) -> None:
        """Add a message of the user, with its pictures."""
        shown: list[UserContent] = [event.content] if event.content.strip() else []
        for address in event.image_urls or ():
            if self._pictures_left_out > 0:
                self._pictures_left_out -= 1
                shown.append(PICTURE)
            else:
                shown.append(_picture(address) if self._vision else PICTURE)
        if all(isinstance(one, str) for one in shown):
            self.user("\n".join(str(one) for one in shown) or " ")
        else:
            self.user(shown)

    def say(self, part: ModelResponsePart) -> None:
        """Add a text or a thought of the model."""
        if self._open or self._answers:
            self._end_response()
        self._begin_response(None)
        self._response.append(part)

    def call(self, key: int | str, part: ToolCallPart, response: str | None) -> None:
        """Add a call; those of one response stand together."""
        fits = not self._answers if response is None else response == self._response_id
        if (self._open or self._answers) and not fits:
            self._end_response()
        self._begin_response(response)
        self._open[key] = _Call(len(self._response), part)
        self._response.append(part)

    def call_again(self, key: int | str, old: int | str, part: ToolCallPart) -> bool:
        """Put a call in the place of one that is open; whether there was one."""
        call = self._open.pop(old, None)
        if call is None:
            return False
        part.tool_call_id = call.part.tool_call_id
        self._open[key] = _Call(call.place, part)
        self._response[call.place] = part
        return True

    def answer(self, key: int | str, content: str) -> None:
        """Answer a call; an answer to a call that is not open is left out."""
        call = self._open.pop(key, None)
        if call is not None:
            self._answers[call.place] = _answer(call.part, content)

    def end(self) -> list[ModelMessage]:
        """Return the messages; the last is a request."""
        self._end_response()
        if not self._request:
            self._request.append(UserPromptPart(content=GO_ON))
        self._end_request()
        return self.made

    def _begin_response(self, response: str | None) -> None:
        if not self._response:
            self._end_request()
        if response is not None:
            self._response_id = response

    def _end_request(self) -> None:
        if self._request:
            self.made.append(ModelRequest(parts=self._request, instructions=self._instructions))
            self._request = []

    def _end_response(self) -> None:
        if not self._response:
            return
        for call in self._open.values():
            self._answers[call.place] = _answer(call.part, NO_ANSWER)
        self.made.append(ModelResponse(parts=self._response))
        self._request = [self._answers[index] for index in sorted(self._answers)]
        self._request += self._later
        self._response, self._response_id = [], None
        self._open, self._answers, self._later = {}, {}, []


def messages_of(
    entries: Iterable[Entry], summary: str, instructions: str, *, vision: bool
) -> list[ModelMessage]:
    """Return the messages that tell a model the entries; the same for the same entries."""
    entries = list(entries)
    pictures = sum(len(one.image_urls or ()) for one in entries if isinstance(one, MessageAction))
    told = _Messages(instructions, vision=vision, pictures=pictures)
    if summary:
        told.user(SUMMARY.format(summary=summary))
    for entry in entries:
        _tell(told, entry)
    return told.end()


def _tell(told: _Messages, entry: Entry) -> None:
    match entry:
        case BadCall():
            part = ToolCallPart(entry.name, entry.arguments, tool_call_id=entry.id)
            told.call(entry.id, part, entry.response)
            told.answer(entry.id, entry.told)
        case Note(text=text):
            told.user(text)
        case MessageAction() if entry.source == EventSource.USER:
            told.message(entry)
        case AgentThinkAction():
            metadata = (entry.tool_call_metadata or {})[SIGNATURE]
            told.say(ThinkingPart(content=entry.thought, **metadata))
        case MessageAction() | AgentFinishAction() | AgentRejectAction():
            told.say(TextPart(content=entry.message))
            if entry.interrupted is not None:
                told.user(CUT_SHORT[entry.interrupted])
        case Action():
            _tell_call(told, entry)
        case Observation() if entry.cause is not None:
            told.answer(entry.cause, text_of(entry))
        case _:
            pass


def _tell_call(told: _Messages, action: Action) -> None:
    metadata = action.tool_call_metadata or {}
    key = -1 if action.id is None else action.id
    name = metadata.get("function_name") or action.kind
    part = ToolCallPart(
        name, arguments_of(action), tool_call_id=metadata.get("tool_call_id") or f"event-{key}"
    )
    if action.cause is not None and told.call_again(key, action.cause, part):
        return  # the form of it that a person has decided about
    told.call(key, part, (metadata.get("model_response") or {}).get("id"))


def text_of(observation: Observation) -> str:
    """Return what a model is told came of a call."""
    content = observation.content
    if len(content) > MAX_OUTPUT_CHARACTERS:
        half = (MAX_OUTPUT_CHARACTERS - len(CUT_MARK)) // 2
        content = f"{content[:half]}{CUT_MARK}{content[-half:]}"
    if isinstance(observation, CmdOutputObservation) and observation.metadata.exit_code > 0:
        content += f"\n[exit code {observation.metadata.exit_code}]"
    return content or DONE


def _answer(call: ToolCallPart, content: str) -> ToolReturnPart:
    return ToolReturnPart(tool_name=call.tool_name, content=content, tool_call_id=call.tool_call_id)


def _picture(address: str) -> UserContent:
    """Return a picture for the model; the word for one where the address is none."""
    found = _DATA_ADDRESS.match(address)
    if found is None:
        return ImageUrl(url=address) if address.startswith(("http://", "https://")) else PICTURE
    try:
        data = b64decode(address[found.end() :], validate=True)
    except (NotBase64, ValueError):
        return PICTURE
    return BinaryContent(data=data, media_type=found[1])
