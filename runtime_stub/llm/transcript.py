"""The conversation as a model is told it: messages that follow from the events of the log, and from nothing else."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import blake2b
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
)
from events.event import Event, EventSource, Interruption
from events.observations import (
    CUT_MARK,
    MAX_OUTPUT_CHARACTERS,
    CmdOutputObservation,
    LoopDetectionObservation,
    Observation,
)
from runtime_stub.tools import arguments_of
from runtime_stub.turn import History, as_taken_up, is_asked, is_notice, marked_by, spoken

PICTURE = "[picture]"
"""Stands for a picture that the model cannot see."""
NO_WORDS = "[A message without words.]"
BEGINNING = "[The conversation begins with your words.]"
NO_ANSWER = "This call was interrupted before it had a result."
DONE = "Done."
CUT_SHORT = {
    Interruption.STOPPED: "[The user stopped your answer here.]",
    Interruption.MESSAGE: "[Your answer was interrupted here by the next message.]",
    Interruption.FAILED: "[Your answer broke off here.]",
    Interruption.TIMED_OUT: "[Your answer took too long and was ended here.]",
    Interruption.CRASHED: "[Your answer was cut off here by a restart of the server.]",
}
ENDED_LOOP = (
    "[You had done the same thing several times with the same result. So the turn was ended.]"
)
SEEN = "OK."
"""Said for a model whose provider wants it to have spoken there."""
GO_ON = "[Please go on.]"
SUMMARY = "[The beginning of the conversation, in short:]\n\n{summary}"
SIGNATURE = "thinking"
"""The key in the metadata of what its provider has signed: a thought, a text, a call."""
UNSHOWN = "thoughts"
"""The key in the metadata of what follows signed thoughts whose words the provider keeps to itself."""
MODEL = "model"
"""The key of the model that wants a thought again which nobody has signed, in the place of a signature."""
WORDS = "content"
"""The key of the words of such a thought, where people are not shown them."""
SIGNED = ("id", "provider_name", "provider_details")
"""The parts of a signature that are kept: fields of pydantic-ai's parts. Those of thoughts have `signature` besides."""
LONGEST_PICTURES = 20
"""Pictures that a model is shown, the newest."""
PICTURES = frozenset(("image/png", "image/jpeg", "image/webp", "image/gif"))
"""Media types of pictures that a model may see."""

_DATA_ADDRESS = re.compile(r"data:(image/[\w.+-]+);base64,", re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64


class Reader(NamedTuple):
    """The model that is told, as far as that decides about the form: its provider, whether it sees, its name."""

    provider: str = "openai"
    vision: bool = False
    model: str = ""

    @property
    def pictures(self) -> AbstractSet[str]:
        """The media types of pictures that it sees."""
        if not self.vision:
            return frozenset()
        return PICTURES - {"image/gif"} if self.provider == "google" else PICTURES

    @property
    def loads_addresses(self) -> bool:
        """Whether the provider loads a picture from its address; Google's client would have this server do it."""
        return self.vision and self.provider != "google"

    @property
    def ids(self) -> re.Pattern[str]:
        """The ids of calls that the provider takes."""
        if self.provider != "openai":
            return _PLAIN_IDS if self.provider == "anthropic" else _IDS
        # Kimi calls tools by ids of its own form, and wrongly where it is shown others.
        return _IDS if _KIMI.search(self.model) else _SHORT_IDS

    @property
    def parts_results(self) -> bool:
        """Whether words of the model must stand between what came of its calls and words of the user."""
        return self.provider == "openai" and bool(_MISTRAL.search(self.model))


_PLAIN_IDS = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IDS = re.compile(r".{1,40}")
_SHORT_IDS = re.compile(r"[a-zA-Z0-9]{9}")
"""The form that every server of OpenAI's interface takes; Mistral's models, wherever they run, take no other."""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KIMI = re.compile(r"\bkimi", re.IGNORECASE)
_MISTRAL = re.compile(
    r"\b(mistral|ministral|mixtral|magistral|codestral|devstral|pixtral|voxtral)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that no tool takes, and what the model is told about it; it is no event."""

    response: str
    id: str
    name: str
    arguments: dict[str, Any]
    told: str
    signed: Mapping[str, Any] = field(default_factory=dict)
    """The provider's signature of it, as in the metadata of an action's call."""


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
    taken_up: dict[int, int] = field(default_factory=dict)
    """The places in the log at which messages of the user were taken up, by their ids, where that is known."""

    def messages(self, instructions: str, reader: Reader) -> list[ModelMessage]:
        """Return the messages of the next request."""
        return messages_of(self.entries, self.summary, instructions, reader)

    def place(self, entry: Entry) -> int | None:
        """Return the id of the log at which an entry is told; None where it is none of an event, or not known.

        What came of a call is told with the call, wherever it stands.
        """
        if not isinstance(entry, Event):
            return None
        if is_asked(entry):
            return None if entry.id is None else self.taken_up.get(entry.id)
        return entry.cause if entry.id is None and isinstance(entry, Observation) else entry.id


async def read_transcript(
    history: History, waiting: Sequence[MessageAction], most: int
) -> Transcript:
    """Read what is to be told of a conversation, the newest of at most about so many bytes.

    `waiting` are the messages that the turn takes up: those which have not been taken up before
    stand at the end.
    """
    reading = _Reading(waiting, most)
    async for event in history.events(reverse=True):
        if not reading.take(event):
            break
    return reading.transcript()


def bytes_of(text: str) -> int:
    """Return the length of a text in bytes."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def size_of(entry: Entry) -> int:
    """Return about how many bytes an entry takes."""
    if isinstance(entry, BadCall):
        return bytes_of(entry.told) + bytes_of(str(entry.arguments))
    if isinstance(entry, Note):
        return bytes_of(entry.text)
    if isinstance(entry, Observation):
        return bytes_of(cut(entry.content))
    if isinstance(entry, MessageAction):
        return bytes_of(entry.content)
    if isinstance(entry, AgentThinkAction):
        return bytes_of(entry.thought)
    return bytes_of(str(arguments_of(entry))) if isinstance(entry, Action) else 0


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
            if start <= 0:
                self._floor = max(self._floor, end)
            else:
                self._ranges.append((start, end))

    def has(self, key: int) -> bool:
        """Return whether an event is forgotten that stands behind the floor."""
        return key in self._ids or any(start <= key <= end for start, end in self._ranges)

    def reaches(self, key: int) -> bool:
        """Return whether everything is forgotten that was told at that id and before."""
        return key <= self._floor


class _Reading:
    """The events that are told, gathered from the newest back.

    A message of the user is told where it was taken up. So it may belong to what is told although
    all that stands around it in the log does not: then it alone is looked for.
    """

    def __init__(self, waiting: Sequence[MessageAction], most: int) -> None:
        self._waiting = waiting
        self._most = most
        self._size = 0
        self._is_full = False
        self._found: list[Event] = []
        self._gone = _Forgotten()
        self._marks: dict[int, int] = {}
        self._sought = {one.id for one in waiting if one.id is not None}
        """Messages that are told, and have not been read yet."""
        self._summarised: set[int | None] = set()

    def take(self, event: Event) -> bool:
        """Take the next older event; whether a further one may matter."""
        key = -1 if event.id is None else event.id
        marked = marked_by(event)
        if self._is_full or self._gone.reaches(key):
            self._look_for_sought(event, key, marked)
            return any(one < key for one in self._sought)
        if isinstance(event, CondensationAction):
            self._gone.add(event)
        elif marked is not None:
            self._marks[marked] = key
            self._sought.add(marked)
            self._is_full = self._size > self._most
        elif _is_told(event):
            self._sought.discard(key)
            if not self._gone.has(key):
                self._found.append(event)
                self._size += size_of(event)
            is_unmarked = is_asked(event) and key not in self._marks
            self._is_full = self._size > self._most and is_unmarked
        return True

    def transcript(self) -> Transcript:
        """Return what was found, in the order in which it is told."""
        waiting = [one for one in self._waiting if one.id not in self._summarised]
        entries: list[Entry] = [*as_taken_up(self._found, self._marks, waiting)]
        asked = {one.id for one in self._found if is_asked(one) and one.id is not None}
        unmarked = {one.id for one in waiting} - self._marks.keys()
        taken_up = {key: self._marks.get(key, key) for key in asked - unmarked}
        return Transcript(entries, self._gone.summary, taken_up)

    def _look_for_sought(self, event: Event, key: int, marked: int | None) -> None:
        if marked in self._sought and self._gone.reaches(key):
            # An earlier attempt at it, which the summary tells of.
            self._sought.discard(marked)
            self._summarised.add(marked)
        elif key in self._sought:
            self._sought.discard(key)
            if not self._gone.has(key):
                self._found.append(event)


def _is_told(event: Event) -> bool:
    match event:
        case MessageAction():
            return is_asked(event) or (event.source == EventSource.AGENT and not is_notice(event))
        case AgentFinishAction() | AgentRejectAction():
            return True
        case AgentThinkAction():
            return bool(event.tool_call_metadata)
        case Action():
            return event.kind in RUNNABLE and event.source == EventSource.AGENT
        case Observation():
            return event.cause is not None and event.source == EventSource.AGENT
        case _:
            return False


class _Call(NamedTuple):
    """A call that is not answered yet, with the place of its part in the response."""

    place: int
    part: ToolCallPart


class _Messages:
    """Gathers messages: requests and responses in turn, every call with its answer, no text empty."""

    def __init__(self, instructions: str, reader: Reader, pictures: int) -> None:
        self.made: list[ModelMessage] = []
        self._instructions = instructions
        self._reader = reader
        self._pictures_left_out = max(0, pictures - LONGEST_PICTURES)
        self._response: list[ModelResponsePart] = []
        self._response_id: str | None = None
        self._ids: set[str] = set()
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
                shown.append(_picture(address, self._reader))
        if all(isinstance(one, str) for one in shown):
            self.user("\n".join(str(one) for one in shown) or NO_WORDS)
        else:
            self.user(shown)

    def say(self, text: str, metadata: Mapping[str, Any]) -> None:
        """Add a text of the model, after the thoughts before it that are not shown."""
        self.unshown(metadata)
        if text.strip():
            self._say(TextPart(text, **self._signed(metadata)))

    def think(self, text: str, metadata: Mapping[str, Any]) -> None:
        """Add a thought of the model, if it is to be told again."""
        self.unshown(metadata)
        signed = self._signed(metadata, "signature")
        if signed:
            self._say(ThinkingPart(text, **signed))

    def unshown(self, metadata: Mapping[str, Any]) -> None:
        """Add the thoughts before something that are not shown."""
        found = metadata.get(UNSHOWN)
        for one in found if isinstance(found, list) else ():
            signed = self._signed({SIGNATURE: one}, "signature")
            if signed:
                words = one.get(WORDS, "") if isinstance(one, dict) else ""
                self._say(ThinkingPart(str(words), **signed))

    def call(
        self,
        key: int | str,
        call: ToolCallPart,
        response: str | None,
        metadata: Mapping[str, Any],
    ) -> None:
        """Add a call; those of one response stand together."""
        fits = not self._answers if response is None else response == self._response_id
        if (self._open or self._answers) and not fits:
            self._end_response()
        if not self._open and not self._answers:
            self.unshown(metadata)
        self._begin_response(response)
        part = self._formed(call, metadata)
        self._open[key] = _Call(len(self._response), part)
        self._response.append(part)

    def call_again(
        self, key: int | str, old: int | str, call: ToolCallPart, metadata: Mapping[str, Any]
    ) -> bool:
        """Put a call in the place of one that is open; whether there was one."""
        before = self._open.pop(old, None)
        if before is None:
            return False
        part = self._formed(call, metadata)
        part.tool_call_id = before.part.tool_call_id
        self._open[key] = _Call(before.place, part)
        self._response[before.place] = part
        return True

    def answer(self, key: int | str, content: str) -> None:
        """Answer a call; an answer to a call that is not open is left out."""
        call = self._open.pop(key, None)
        if call is not None:
            self._answers[call.place] = _answer(call.part, content)

    def end(self) -> list[ModelMessage]:
        """Return the messages; the first and the last are requests."""
        self._end_response()
        if not self._request:
            self._request.append(UserPromptPart(content=GO_ON))
        self._end_request()
        return self.made

    def _say(self, part: ModelResponsePart) -> None:
        if self._open or self._answers:
            self._end_response()
        self._begin_response(None)
        self._response.append(part)

    def _signed(self, metadata: Mapping[str, Any], *more: str) -> dict[str, Any]:
        """Return what the provider has signed, where it is that of the reader."""
        found = metadata.get(SIGNATURE)
        if not isinstance(found, dict) or found.get("provider_name") != self._reader.provider:
            return {}
        if found.get(MODEL, self._reader.model) != self._reader.model:
            return {}
        return {name: found[name] for name in (*SIGNED, *more) if name in found}

    def _formed(self, call: ToolCallPart, metadata: Mapping[str, Any]) -> ToolCallPart:
        """Return a call in the form that the provider takes: its name, and an id of its own."""
        name = _NOT_IN_NAMES.sub("_", call.tool_name)[:_LONGEST_NAME] or "tool"
        given = call.tool_call_id
        if not self._reader.ids.fullmatch(given):
            given = _short_id(given)
        while given in self._ids:
            given = _short_id(given)
        self._ids.add(given)
        signed = self._signed(metadata)
        return ToolCallPart(name, call.args, tool_call_id=given, **signed)

    def _begin_response(self, response: str | None) -> None:
        if response is not None:
            self._response_id = response

    def _end_request(self) -> None:
        results = sum(1 for one in self._request if isinstance(one, ToolReturnPart))
        if self._reader.parts_results and 0 < results < len(self._request):
            answers, self._request = self._request[:results], self._request[results:]
            self.made.append(ModelRequest(parts=answers, instructions=self._instructions))
            self.made.append(ModelResponse(parts=[TextPart(SEEN)]))
        if self._request:
            self.made.append(ModelRequest(parts=self._request, instructions=self._instructions))
            self._request = []

    def _end_response(self) -> None:
        while self._response and isinstance(self._response[-1], ThinkingPart):
            self._response.pop()  # nothing came of it, and no answer may end so
        if not self._response:
            return
        if not self.made and not self._request:
            self._request.append(UserPromptPart(content=BEGINNING))
        self._end_request()
        for call in self._open.values():
            self._answers[call.place] = _answer(call.part, NO_ANSWER)
        self.made.append(ModelResponse(parts=self._response))
        self._request = [self._answers[index] for index in sorted(self._answers)]
        self._request += self._later
        self._response, self._response_id = [], None
        self._open, self._answers, self._later = {}, {}, []


def _short_id(text: str) -> str:
    """Return an id that every provider takes; the same for the same text."""
    number = int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest())
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def messages_of(
    entries: Iterable[Entry], summary: str, instructions: str, reader: Reader
) -> list[ModelMessage]:
    """Return the messages that tell a model the entries; the same for the same entries."""
    entries = list(entries)
    pictures = sum(len(one.image_urls or ()) for one in entries if isinstance(one, MessageAction))
    told = _Messages(instructions, reader, pictures)
    if summary:
        told.user(SUMMARY.format(summary=summary))
    for entry in entries:
        _tell(told, entry)
    return told.end()


def _tell(told: _Messages, entry: Entry) -> None:
    match entry:
        case BadCall():
            part = ToolCallPart(entry.name, entry.arguments, tool_call_id=entry.id)
            told.call(entry.id, part, entry.response, entry.signed)
            told.answer(entry.id, entry.told)
        case Note(text=text):
            told.user(text)
        case MessageAction() if is_asked(entry):
            told.message(entry)
        case AgentThinkAction():
            told.think(entry.thought, entry.tool_call_metadata or {})
        case MessageAction() | AgentFinishAction() | AgentRejectAction():
            told.say(spoken(entry), entry.tool_call_metadata or {})
            if entry.interrupted is not None and spoken(entry).strip():
                told.user(CUT_SHORT[entry.interrupted])
        case Action():
            _tell_call(told, entry)
        case LoopDetectionObservation():
            told.user(ENDED_LOOP)
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
    given = metadata.get("model_response")
    response = given if isinstance(given, dict) else {}
    if action.cause is not None and told.call_again(key, action.cause, part, response):
        return  # the form of it that a person has decided about
    told.call(key, part, response.get("id"), response)


def text_of(observation: Observation) -> str:
    """Return what a model is told came of a call."""
    content = cut(observation.content)
    if isinstance(observation, CmdOutputObservation) and observation.metadata.exit_code > 0:
        content += f"\n[exit code {observation.metadata.exit_code}]"
    return content if content.strip() else DONE


def cut(output: str) -> str:
    """Return an output without its middle, if it is too long to be told."""
    if len(output) <= MAX_OUTPUT_CHARACTERS:
        return output
    half = (MAX_OUTPUT_CHARACTERS - len(CUT_MARK)) // 2
    return f"{output[:half]}{CUT_MARK}{output[-half:]}"


def _answer(call: ToolCallPart, content: str) -> ToolReturnPart:
    return ToolReturnPart(tool_name=call.tool_name, content=content, tool_call_id=call.tool_call_id)


def _picture(address: str, reader: Reader) -> UserContent:
    """Return a picture for the model; the word for one where it cannot be shown."""
    if reader.loads_addresses and address.startswith(("http://", "https://")):
        return ImageUrl(url=address)
    found = _DATA_ADDRESS.match(address)
    kind = "" if found is None else found[1].replace("image/jpg", "image/jpeg")
    if found is None or kind not in reader.pictures:
        return PICTURE
    try:
        data = b64decode(address[found.end() :], validate=True)
    except (NotBase64, ValueError):
        return PICTURE
    return BinaryContent(data=data, media_type=kind) if data else PICTURE
