"""The Turn contract: what an agent works with from the messages it answers to the end of its work."""

from abc import ABC, abstractmethod
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard

from pydantic import SecretStr

from events.actions import (
    Action,
    AgentFinishAction,
    AgentRejectAction,
    AgentThinkAction,
    CmdRunAction,
    MCPAction,
    MessageAction,
    RecallAction,
)
from events.event import Event, EventSource
from events.observations import (
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    MCPObservation,
    Observation,
    SuccessObservation,
)
from runtime_stub.errors import RuntimeFloorError
from runtime_stub.tools import JsonSchema, Tool

MEMORY_BYTES = 1024 * 1024
"""The most bytes that `Turn.keep` takes."""
NOTICE = "notice"
"""The key in a text's metadata that says that the agent speaks and not its model, which is not told it again."""
MODEL_FAMILIES: Mapping[str, str] = MappingProxyType({"claude": "anthropic", "gemini": "google"})
"""Providers by the beginnings of models' names that have no provider before them."""
MOST_TOKENS = 2**40
"""Tokens of one call of a model; a larger number is a mistake."""


class TurnOver(BaseException):
    """The turn is over: nothing that its agent does has an effect any more.

    No Exception, so that code which handles those of its own ends as well.
    """


class Reason(StrEnum):
    """The reasons that people are given for a turn that failed: a closed list."""

    SILENT = "AGENT_ERROR$SILENT"
    TIMED_OUT = "AGENT_ERROR$TIMED_OUT"
    MODEL_REFUSED_KEY = "AGENT_ERROR$MODEL_REFUSED_KEY"
    MODEL_BUSY = "AGENT_ERROR$MODEL_BUSY"
    MODEL_UNREACHABLE = "AGENT_ERROR$MODEL_UNREACHABLE"
    MODEL_FAILED = "AGENT_ERROR$MODEL_FAILED"
    CONTEXT_TOO_LONG = "AGENT_ERROR$CONTEXT_TOO_LONG"
    TURN_LOST = "AGENT_ERROR$TURN_LOST"
    FAILED = "AGENT_ERROR$FAILED"


class TurnFailed(RuntimeFloorError):
    """Raised by an agent that cannot go on; people read its text, with their secrets masked."""

    def __init__(self, message: str, reason: Reason = Reason.FAILED) -> None:
        super().__init__(message)
        self.reason = reason


class LimitReached(RuntimeFloorError):
    """The limit of iterations is reached; people read its text."""


class BudgetReached(LimitReached):
    """The conversation has spent what it may."""


class SecretMissing(RuntimeFloorError):
    """The user has stored no secret of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no secret of that name: {name}")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The call of a tool, as the model made it, that led to an action.

    `calls` is the number of calls in the model's response.
    """

    id: str
    name: str
    calls: int = 1
    response: Mapping[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return the event's `tool_call_metadata`."""
        return {
            "function_name": self.name,
            "tool_call_id": self.id,
            "model_response": dict(self.response),
            "total_calls_in_response": self.calls,
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of one call of a model: tokens, and USD or None where the price is not known.

    `estimated` says that the tokens were not reported by the provider; `context_window` is what the
    model takes in all, 0 where that is not known.
    """

    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    estimated: bool = False
    context_window: int = 0


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The server's choices for agents that call a model: tokens, and seconds.

    `context_tokens` is what the model takes in all, None where it is to be looked up, and
    `reserve_tokens` what is left of it for the answer. `tries` counts requests whose answer has not
    begun.
    """

    instructions: str = ""
    vision: bool = False
    show_reasoning: bool = True
    context_tokens: int | None = None
    reserve_tokens: int = 4096
    first_token_seconds: float = 60.0
    token_seconds: float = 30.0
    tries: int = 4


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The settings that the user has chosen; None is the server's default."""

    llm_model: str | None = None
    llm_base_url: str | None = None
    llm_api_key: SecretStr | None = None
    search_api_key: SecretStr | None = None
    language: str | None = None
    max_iterations: int | None = None
    max_budget_per_task: float | None = None
    turn_seconds: float | None = None
    confirmation_mode: bool | None = None
    mcp_config: Mapping[str, Any] | None = field(default=None, repr=False)
    """The user's tool servers, keys included."""
    model_options: ModelOptions = ModelOptions()
    """The server's."""


@dataclass(frozen=True, slots=True)
class Window:
    """The extent of a history that is wanted: the newest exchanges within both bounds, at least one."""

    exchanges: int = 50
    characters: int = 200_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """Messages of the user, and what the agent did behind them, each in log order."""

    asked: Sequence[MessageAction]
    done: Sequence[Event]
    taken_up: Mapping[int, int] = field(default_factory=dict)
    """The places in the log at which its messages were first taken up, by their ids."""


LEFT_OUT = frozenset(("recall", "system", "agent_state_changed", "change_agent_state", "null"))
"""Kinds of event that are no part of an exchange."""


class History(Protocol):
    """The conversation up to the event `position`: it does not change."""

    @property
    def position(self) -> int:
        """The id of the last event in it, -1 for none."""

    def events(self, *, after: int = -1, reverse: bool = False) -> AsyncIterator[Event]:
        """Give the events behind `after`, from the oldest on or from the newest back."""

    async def exchanges(self, window: Window) -> Sequence[Exchange]:
        """Return the newest exchanges that fit the window, from the oldest on."""
        found: list[Exchange] = []
        asked: list[MessageAction] = []
        done: list[Event] = []
        marks: dict[int, int] = {}
        size = 0
        async for event in self.events(reverse=True):
            marked = marked_by(event)
            if marked is not None and event.id is not None:
                marks[marked] = event.id
            if event.kind in LEFT_OUT:
                continue
            if asked and not is_asked(event):
                if found and size > window.characters:
                    break
                found.append(_exchange(asked, done, marks))
                asked, done = [], []
                if len(found) == window.exchanges:
                    break
            size += len(event.message) + len(getattr(event, "content", ""))
            if is_asked(event):
                asked.append(event)
            elif event.source == EventSource.AGENT and isinstance(event, Action | Observation):
                done.append(event)
        else:
            if (asked or done) and not (found and size > window.characters):
                found.append(_exchange(asked, done, marks))
        return tuple(reversed(found))


def _exchange(
    asked: Sequence[MessageAction], done: Sequence[Event], marks: Mapping[int, int]
) -> Exchange:
    keys = [one.id for one in asked if one.id in marks]
    taken_up = {key: marks[key] for key in keys if key is not None}
    return Exchange(tuple(reversed(asked)), tuple(reversed(done)), taken_up)


def is_asked(event: Event) -> TypeGuard[MessageAction]:
    """Return whether an event is a message of the user."""
    return isinstance(event, MessageAction) and event.source == EventSource.USER


def marked_by(event: Event) -> int | None:
    """Return the id of the message that an event marks as taken up; None for any other event."""
    is_mark = isinstance(event, RecallAction) and event.source == EventSource.USER
    return event.cause if is_mark else None


def spoken(action: MessageAction | AgentFinishAction | AgentRejectAction) -> str:
    """Return what an agent has said by an action; empty where people are told a sentence of the server's."""
    match action:
        case MessageAction():
            return action.content
        case AgentFinishAction():
            return action.final_thought or action.thought
        case AgentRejectAction():
            return str(action.outputs.get("reason", ""))


def is_notice(event: Event) -> bool:
    """Return whether an event is a text of the agent that its model has not said; see NOTICE."""
    metadata = event.tool_call_metadata
    return isinstance(metadata, Mapping) and bool(metadata.get(NOTICE))


def as_taken_up(
    events: Iterable[Event], marks: Mapping[int, int], waiting: Sequence[MessageAction]
) -> list[Event]:
    """Return the events of a log with each message of the user where it was first taken up.

    `marks` has those places, by the ids of the messages. The messages that are `waiting` and have no
    such place stand at the end. Any other that came after one with a place waits for another turn,
    and is left out. Where no message has a place, each stands where it came.
    """
    oldest = min(marks, default=None)
    last = {one.id for one in waiting} - marks.keys()

    def is_told(event: Event) -> bool:
        if not is_asked(event) or event.id in marks:
            return True
        came = -1 if event.id is None else event.id
        return event.id not in last and (oldest is None or came < oldest)

    def place(event: Event) -> int:
        key = -1 if event.id is None else event.id
        return marks.get(key, key) if is_asked(event) else key

    told = sorted(filter(is_told, events), key=place)
    return [*told, *(one for one in waiting if one.id in last)]


TextKind: TypeAlias = Literal["message", "think"]
TEXT_FIELDS: Mapping[TextKind, str] = {"message": "content", "think": "thought"}
"""The fields that hold a text, by kind of event."""


def text_event(kind: TextKind, text: str) -> Action:
    """Return the event that holds a text."""
    return AgentThinkAction(thought=text) if kind == "think" else MessageAction(content=text)


class Writing(AbstractAsyncContextManager["Writing"]):
    """A text that is shown while it is written.

    Leaving the block appends the whole text as one event and waits until it is durable. By a
    cancellation or an exception what was shown is appended, `interrupted`; a text of which nothing
    was shown is no event.
    """

    metadata: dict[str, Any]
    """Merged into the event's `tool_call_metadata`."""

    @abstractmethod
    def write(self, piece: str) -> None:
        """Add to the text; never waits. Raises `events.errors.TextTooLong` beyond 2 Mi characters, TurnOver."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait while much of the text is not told yet. Raises TurnOver."""

    @abstractmethod
    def begin_anew(self, why: str) -> None:
        """Take back what was shown, visibly: nothing of it is stored. Raises TurnOver."""


class Draft(ABC):
    """An argument of an action that is shown while it is written; `Turn.act` makes it the action's.

    Until then it is no event. Where the turn ends, or the action's argument does not begin with what
    was written, it is taken back visibly.
    """

    @abstractmethod
    def write(self, piece: str) -> None:
        """Add to the text; never waits. Raises `events.errors.TextTooLong` beyond 2 Mi characters, TurnOver."""

    @abstractmethod
    def drop(self) -> None:
        """Take back what was shown; nothing more may be written. Raises nothing."""


class Doing(AbstractAsyncContextManager["Doing"]):
    """An action that the agent carries out by itself.

    The action is durable before the block begins, its observation when the block has ended. An
    exception in the block is an `error` observation, and passes.
    """

    @abstractmethod
    async def agreed(self) -> bool:
        """Ask a person where `Turn.act` would, and return the answer. Raises TurnOver."""

    @abstractmethod
    def result(self, content: str = "", *, observation: Observation | None = None) -> None:
        """Say what came of it: a text, or an observation of the kind's own. Raises TurnOver."""


def called(action: Action, call: ToolCall | None) -> Action:
    """Return the action with the call that led to it."""
    if call is None:
        return action
    return action.model_copy(update={"tool_call_metadata": call.metadata()})


def result_of(action: Action, content: str = "") -> Observation:
    """Return the observation of an action that an agent has carried out by itself."""
    match action:
        case CmdRunAction(command=command):
            metadata = CmdOutputMetadata(exit_code=0)
            return CmdOutputObservation(content=content, command=command, metadata=metadata)
        case MCPAction(name=name, arguments=arguments):
            return MCPObservation(content=content, name=name, arguments=arguments)
        case _:
            return SuccessObservation(content=content)


def observation_of(
    action: Action, result: Observation | None, error: BaseException | None
) -> Observation | None:
    """Return what is recorded of a Doing whose block is left by that error, or by none.

    None where the turn ends: its end answers the action.
    """
    if isinstance(error, CancelledError | TurnOver):
        return None
    if error is not None:
        return ErrorObservation(content=f"The action failed: {type(error).__name__}.")
    return result or result_of(action)


class Stepwise(Protocol):
    """An agent that returns its actions one by one; see Agent."""

    @property
    def goes_on(self) -> bool:
        """See Agent."""

    async def step(self) -> Action | None:
        """See Agent."""

    def metrics(self) -> dict[str, Any] | None:
        """See Agent."""


def check_usage(usage: Usage) -> None:
    """Raise ValueError for what no log can hold."""
    model: object = usage.model
    tokens: Sequence[object] = (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.context_window,
    )
    if (
        not isinstance(model, str)
        or not all(isinstance(one, int) and 0 <= one <= MOST_TOKENS for one in tokens)
        or not (usage.cost is None or 0 <= usage.cost < float("inf"))
    ):
        raise ValueError("a report has a model, numbers of tokens, and a cost or None")


def check_memory(memory: bytes) -> None:
    """Raise ValueError for more than `Turn.keep` takes."""
    if len(memory) > MEMORY_BYTES:
        raise ValueError(f"an agent may keep {MEMORY_BYTES} bytes, and these are {len(memory)}")


class Turn(Protocol):
    """One stretch of work: begun by messages or a command, ended by a `turn_ended` event.

    Every method raises TurnOver once the turn is over, and RuntimeError in another thread than that
    of its event loop; see BlockingAgent. Coroutines may be called side by side; what they append
    stands in the log in the order of the calls. Actions under way when the turn ends are given up.
    """

    @property
    def id(self) -> int:
        """The id of the `recall` that began the turn; `turn` in every event it appends."""

    @property
    def conversation_id(self) -> str:
        """The conversation."""

    @property
    def user_id(self) -> str | None:
        """Its owner."""

    @property
    def cause(self) -> Sequence[Event]:
        """The events to be answered: messages, a decision, or nothing when it is only to go on."""

    @property
    def attempt(self) -> int:
        """1, or more where a crash or the end of the server cut earlier attempts short."""

    @property
    def settings(self) -> AgentSettings:
        """The settings that the user had chosen when the turn began."""

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools that a model may be offered; `act` carries out what `Tool.action` returns.

        A copy of the turn's own: an agent that changes schemas in it changes them for this turn alone.
        """

    @property
    def history(self) -> History:
        """The conversation up to the beginning of the turn, its cause included."""

    @property
    def memory(self) -> bytes | None:
        """The bytes that `keep` kept last."""

    @property
    def memory_position(self) -> int:
        """The last event there was when `memory` was kept, -1 for none."""

    @property
    def deadline(self) -> float:
        """The time at which the turn times out, on the event loop's clock; waiting for a person moves it on."""

    def say(self, *, kind: TextKind = "message") -> Writing:
        """Return a text to write: `async with turn.say() as answer: answer.write(piece)`.

        At most 16 may be open: the next raises `events.errors.TooManyPartials` as it begins.
        """

    def draft(self, kind: str, field: str) -> Draft:
        """Return the text of an argument that is still being written, of an action of that kind.

        At most 16 texts and drafts may be open: the next raises `events.errors.TooManyPartials`.
        """

    async def act(
        self, action: Action, *, call: ToolCall | None = None, draft: Draft | None = None
    ) -> Observation:
        """Have an action carried out, by the runtime if it is one of its kinds; what came of it.

        Waits for a person where one must agree. A refusal is a UserRejectObservation, a failure an
        ErrorObservation: neither is raised. `draft` is of this turn, and is over then. Raises
        LimitReached, BudgetReached.
        """

    def doing(self, action: Action, *, call: ToolCall | None = None) -> Doing:
        """Record an action that the agent carries out: `async with turn.doing(action) as step`.

        The limits count it, as `act`.
        """

    async def ask(self, question: str, *, schema: JsonSchema | None = None) -> MessageAction:
        """Say a question and wait for the user's answer.

        With a schema, that of a text, a number, yes or no, a choice, or an object of these, an answer
        that does not fit is asked for again; `answer_value` gives the value of one that does. Raises
        ValueError for any other schema. When the server stops meanwhile the answer is the cause of
        another turn, and nobody has checked it.
        """

    def news(self) -> Sequence[MessageAction]:
        """Return the messages that came since the last look, which takes them up."""

    def report(self, usage: Usage) -> None:
        """Add what a call of a model used; it travels with the next event of the turn.

        Counts as an iteration. Raises LimitReached, BudgetReached, and ValueError for a negative or
        infinite number, which is not counted.
        """

    def status(self, text: str) -> None:
        """Tell whoever watches, in a notice that is not stored."""

    async def secret(self, name: str) -> SecretStr:
        """Return a secret of the user. Raises SecretMissing."""

    async def keep(self, memory: bytes) -> None:
        """Keep up to 1 MiB for the turns to come. It may be lost by a crash.

        Raises ValueError for more.
        """

    async def in_thread(self, work: Callable[[], None]) -> None:
        """Run blocking code in one of a bounded number of threads, waiting for a free one.

        Cancelled, it leaves the thread behind. Raises what `work` raises; see BlockingAgent.
        """

    async def drive(self, agent: Stepwise) -> None:
        """Ask an agent for action after action until it waits or ends; the `run` of Agent."""
