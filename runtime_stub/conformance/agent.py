"""The conformance suite of an Agent that overrides `run`, and a Turn without a server for its tests."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pytest
from pydantic import SecretStr

from events.actions import RUNNABLE, Action, MessageAction
from events.errors import PartialOver
from events.event import Event, EventSource, Interruption
from events.observations import Observation, SuccessObservation
from runtime_stub.agent import Agent
from runtime_stub.base import Runtime
from runtime_stub.blocking import run_in_thread
from runtime_stub.questions import fault_in, plain_schema
from runtime_stub.tools import JsonSchema, Tool, tools_for
from runtime_stub.turn import (
    AgentSettings,
    Doing,
    Draft,
    History,
    SecretMissing,
    Stepwise,
    TextKind,
    ToolCall,
    Turn,
    TurnOver,
    Usage,
    Writing,
    called,
    check_memory,
    check_usage,
    observation_of,
    result_of,
    text_event,
)

WAIT_SECONDS = 5.0
"""Seconds an agent may take for a turn, and to end once it is cancelled."""
GRACE_SECONDS = 0.5
"""Seconds in which a task must have ended that was on its way to its end."""
MOST_USES = 200
"""Uses of a turn at which a cancellation is tried."""


class HistoryDouble(History):
    """A conversation in memory."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = tuple(events)

    @property
    def position(self) -> int:
        """See History."""
        return len(self._events) - 1

    async def events(self, *, after: int = -1, reverse: bool = False) -> AsyncIterator[Event]:
        """See History."""
        found = self._events[after + 1 :]
        for event in reversed(found) if reverse else found:
            yield event


class TurnDouble(Turn):
    """A Turn in memory, for tests of agents without a server.

    `log` is the conversation, the turn's events included. `said` holds the texts that were
    finished, `acted` the actions, `statuses`, `usages` and `kept` what else the agent did.
    Actions are carried out by `runtime`, and succeed without one. `answers` are given to `ask`, and
    `messages` by `news`. With `stop_at` the turn is stopped at its n-th use, the first being 0: then
    `on_stop` is called, which a test sets to what cancels the agent's task.
    """

    def __init__(
        self,
        message: str = "Hello",
        *,
        before: Sequence[Event] = (),
        runtime: Runtime | None = None,
        settings: AgentSettings | None = None,
        secrets: Mapping[str, str] | None = None,
        memory: bytes | None = None,
        answers: Sequence[str] = (),
        messages: Sequence[str] = (),
        attempt: int = 1,
        stop_at: int | None = None,
    ) -> None:
        self.log: list[Event] = []
        self.said: list[str] = []
        self.interrupted: list[str] = []
        self.acted: list[Action] = []
        self.statuses: list[str] = []
        self.usages: list[Usage] = []
        self.kept: list[bytes] = []
        self.drafts: dict[tuple[str, str], str] = {}
        """The shown part of arguments, by kind of action and field: all of it once an action has it."""
        self.uses = 0
        """Uses of the turn so far."""
        self.over = False
        self.on_stop: Callable[[], object] | None = None
        self._runtime = runtime
        self._settings = settings or AgentSettings()
        self._secrets = dict(secrets or {})
        self._memory = memory
        self._answers = list(answers)
        self._messages = list(messages)
        self._attempt = attempt
        self._stop_at = stop_at
        for event in before:
            self._append(event)
        asked = self._append(MessageAction(content=message, source=EventSource.USER))
        self._cause: Sequence[Event] = (asked,)
        self._id = len(self.log)
        self._history = HistoryDouble(self.log)

    @property
    def id(self) -> int:
        """See Turn."""
        return self._id

    @property
    def conversation_id(self) -> str:
        """See Turn."""
        return "conversation"

    @property
    def user_id(self) -> str | None:
        """See Turn."""
        return None

    @property
    def cause(self) -> Sequence[Event]:
        """See Turn."""
        return self._cause

    @property
    def attempt(self) -> int:
        """See Turn."""
        return self._attempt

    @property
    def settings(self) -> AgentSettings:
        """See Turn."""
        return self._settings

    @property
    def tools(self) -> Sequence[Tool]:
        """See Turn; every tool where there is no runtime, as any action then succeeds."""
        return tools_for(RUNNABLE if self._runtime is None else self._runtime.performs)

    @property
    def history(self) -> History:
        """See Turn."""
        return self._history

    @property
    def memory(self) -> bytes | None:
        """See Turn."""
        return self._memory

    @property
    def memory_position(self) -> int:
        """See Turn."""
        return -1 if self._memory is None else self._history.position

    @property
    def deadline(self) -> float:
        """See Turn."""
        return asyncio.get_running_loop().time() + WAIT_SECONDS

    def say(self, *, kind: TextKind = "message") -> Writing:
        """See Turn."""
        self.use()
        return WritingDouble(self, kind)

    def draft(self, kind: str, field: str) -> Draft:
        """See Turn; what is written is in `drafts`."""
        self.use()
        return DraftDouble(self, kind, field)

    async def act(
        self,
        action: Action,
        *,
        call: ToolCall | None = None,
        draft: Draft | None = None,
    ) -> Observation:
        """See Turn."""
        await self.await_use()
        if isinstance(draft, DraftDouble):
            draft.taken(action)
        recorded = self.record(called(action, call))
        if self._runtime is None:
            observation: Observation = SuccessObservation()
        else:
            observation = await self._runtime.perform(action)
        answer = observation.model_copy(update={"cause": recorded.id, "source": EventSource.AGENT})
        self._append(answer)
        return answer

    def doing(self, action: Action, *, call: ToolCall | None = None) -> Doing:
        """See Turn."""
        self.use()
        return DoingDouble(self, called(action, call))

    async def ask(self, question: str, *, schema: JsonSchema | None = None) -> MessageAction:
        """See Turn. Raises AssertionError where the test has given no answer."""
        held_to = None if schema is None else plain_schema(schema)
        said = question
        while True:
            await self.await_use()
            asked = MessageAction(content=said, wait_for_response=True, answer_schema=held_to)
            self.record(asked)
            assert self._answers, f"the agent asks {said!r}, and the test has no answer"
            answer = MessageAction(content=self._answers.pop(0), source=EventSource.USER)
            self._append(answer)
            wrong = fault_in(answer, held_to)
            if wrong is None:
                return answer
            said = f"{wrong} {question}"

    def news(self) -> Sequence[MessageAction]:
        """See Turn."""
        self.use()
        found = [MessageAction(content=one, source=EventSource.USER) for one in self._messages]
        self._messages.clear()
        for message in found:
            self._append(message)
        return found

    def report(self, usage: Usage) -> None:
        """See Turn."""
        self.use()
        check_usage(usage)
        self.usages.append(usage)

    def status(self, text: str) -> None:
        """See Turn."""
        self.use()
        self.statuses.append(text)

    async def secret(self, name: str) -> SecretStr:
        """See Turn."""
        await self.await_use()
        if name not in self._secrets:
            raise SecretMissing(name)
        return SecretStr(self._secrets[name])

    async def keep(self, memory: bytes) -> None:
        """See Turn."""
        check_memory(memory)
        await self.await_use()
        self.kept.append(memory)

    async def in_thread(self, work: Callable[[], None]) -> None:
        """See Turn."""
        await self.await_use()
        await run_in_thread(work, "agent of a double")

    async def drive(self, agent: Stepwise) -> None:
        """See Turn; an agent that observes is shown its own actions by the test."""
        while (action := await agent.step()) is not None:
            await self.act(action)

    def use(self) -> None:
        """Count a use of the turn. Raises TurnOver once it is over."""
        if self.over:
            raise TurnOver
        place, self.uses = self.uses, self.uses + 1
        if place == self._stop_at and self.on_stop is not None:
            self.on_stop()

    async def await_use(self) -> None:
        """Count a use that waits: where the turn is stopped, the cancellation comes here."""
        self.use()
        await asyncio.sleep(0)

    def record(self, action: Action) -> Event:
        """Take an action of the agent into the log."""
        recorded = action.model_copy(update={"source": EventSource.AGENT})
        self.acted.append(recorded)
        stored: Event = self._append(recorded)
        return stored

    def told(
        self,
        text: str,
        kind: TextKind,
        interrupted: Interruption | None,
        metadata: Mapping[str, Any],
    ) -> None:
        """Take a text of the agent into the log."""
        (self.said if interrupted is None else self.interrupted).append(text)
        changes: dict[str, Any] = {"source": EventSource.AGENT, "interrupted": interrupted}
        if metadata:
            changes["tool_call_metadata"] = dict(metadata)
        self._append(text_event(kind, text).model_copy(update=changes))

    def observed(self, observation: Observation, cause: int | None) -> None:
        """Take what came of an action into the log."""
        changes = {"source": EventSource.AGENT, "cause": cause}
        self._append(observation.model_copy(update=changes))

    def _append(self, event: Event) -> Any:
        stored = event.model_copy(update={"id": len(self.log)})
        self.log.append(stored)
        return stored


class WritingDouble(Writing):
    """A text in memory."""

    def __init__(self, turn: TurnDouble, kind: TextKind) -> None:
        self.metadata: dict[str, Any] = {}
        self._turn = turn
        self._kind = kind
        self._pieces: list[str] = []

    async def __aenter__(self) -> Self:
        """Begin the text."""
        await self._turn.await_use()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the text."""
        text = "".join(self._pieces)
        if error is not None:
            if text.strip() and not self._turn.over:
                stopped = isinstance(error, asyncio.CancelledError)
                why = Interruption.STOPPED if stopped else Interruption.FAILED
                self._turn.told(text, self._kind, why, self.metadata)
            return
        await self._turn.await_use()
        if text.strip():
            self._turn.told(text, self._kind, None, self.metadata)

    def write(self, piece: str) -> None:
        """See Writing."""
        self._turn.use()
        self._pieces.append(piece)

    async def flush(self) -> None:
        """See Writing."""
        await self._turn.await_use()

    def begin_anew(self, why: str) -> None:  # noqa: ARG002 - the contract's
        """See Writing."""
        self._turn.use()
        self._pieces.clear()


class DraftDouble(Draft):
    """An argument in memory."""

    def __init__(self, turn: TurnDouble, kind: str, field: str) -> None:
        self._turn = turn
        self._place = (kind, field)
        self._text = ""
        self._over = False
        turn.drafts[self._place] = ""

    def write(self, piece: str) -> None:
        """See Draft."""
        self._turn.use()
        if self._over:
            raise PartialOver("the draft takes no more text")
        self._text += piece
        self._turn.drafts[self._place] = self._text

    def drop(self) -> None:
        """See Draft."""
        if not self._over:
            self._over = True
            self._turn.drafts.pop(self._place, None)

    def taken(self, action: Action) -> None:
        """End it: the action has the whole argument, or what was shown is taken back."""
        kind, field = self._place
        whole = getattr(action, field, None) if action.kind == kind else None
        if self._over or not isinstance(whole, str) or not whole.startswith(self._text):
            self.drop()
            return
        self._over = True
        self._turn.drafts[self._place] = whole


class DoingDouble(Doing):
    """An action of the agent's own, in memory."""

    def __init__(self, turn: TurnDouble, action: Action) -> None:
        self._turn = turn
        self._action = action
        self._id: int | None = None
        self._result: Observation | None = None

    async def __aenter__(self) -> Self:
        """Record the action."""
        await self._turn.await_use()
        self._id = self._turn.record(self._action).id
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record what came of it."""
        outcome = observation_of(self._action, self._result, error)
        if outcome is not None:
            await self._turn.await_use()
            self._turn.observed(outcome, self._id)

    async def agreed(self) -> bool:
        """Return True: nobody is asked here."""
        await self._turn.await_use()
        return True

    def result(self, content: str = "", *, observation: Observation | None = None) -> None:
        """See Doing."""
        self._turn.use()
        self._result = observation or result_of(self._action, content)


class AgentSuite:
    """The contract of an agent that overrides `run`; a subclass makes the agent and its turn."""

    pytestmark = pytest.mark.asyncio

    def make_agent(self) -> Agent:
        """The agent under test."""
        raise NotImplementedError

    def make_turn(self, **options: Any) -> TurnDouble:
        """A turn for it to answer; `options` are those of TurnDouble."""
        return TurnDouble("Hello", **options)

    async def test_a_turn_comes_to_its_end_and_leaves_nothing_running(self):
        before = _running()
        turn = self.make_turn()

        await asyncio.wait_for(self._run(turn), WAIT_SECONDS)

        await _end(before)
        assert _running() == before

    async def test_a_stop_at_any_use_of_the_turn_ends_it_and_leaves_nothing_running(self):
        before = _running()
        for place in range(MOST_USES):
            turn = self.make_turn(stop_at=place)
            task = asyncio.ensure_future(self._run(turn))
            turn.on_stop = task.cancel
            await asyncio.wait([task], timeout=WAIT_SECONDS)
            assert task.done(), f"stopped at use {place}, the agent did not end"
            turn.over = True
            await _end(before)
            assert _running() == before, f"stopped at use {place}, something went on"
            if turn.uses <= place:
                break

    async def test_an_agent_that_resumes_does_the_same_again_from_the_same_history(self):
        if not type(self.make_agent()).resumes:
            return
        found = []
        for attempt in (1, 2):
            turn = self.make_turn(attempt=attempt)
            await asyncio.wait_for(self._run(turn), WAIT_SECONDS)
            found.append((turn.said, [one.kind for one in turn.acted]))

        assert found[0] == found[1]

    async def _run(self, turn: TurnDouble) -> None:
        agent = self.make_agent()
        await agent.open(turn.conversation_id)
        try:
            await agent.run(turn)
        finally:
            await agent.close()


def _running() -> set[str]:
    mine = asyncio.current_task()
    tasks = {task.get_name() for task in asyncio.all_tasks() if task is not mine}
    threads = {thread.name for thread in threading.enumerate()}
    return tasks | {name for name in threads if not name.startswith("asyncio_")}


async def _end(before: set[str]) -> None:
    """Wait for what ends by itself: threads, and tasks in which the loop closes what is collected."""
    late = [one for one in threading.enumerate() if one.name in _running() - before]
    for thread in late:
        await asyncio.to_thread(thread.join, WAIT_SECONDS)
    mine = asyncio.current_task()
    deadline = asyncio.get_running_loop().time() + GRACE_SECONDS
    while tasks := [
        one for one in asyncio.all_tasks() if one is not mine and one.get_name() not in before
    ]:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return
        await asyncio.wait(tasks, timeout=left)
