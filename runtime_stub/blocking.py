"""BlockingAgent, for code that blocks: it runs in a thread, and its turn's methods block."""

import asyncio
import contextvars
import logging
from abc import abstractmethod
from asyncio import AbstractEventLoop, CancelledError, Task
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError as FutureCancelled, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from events.actions import Action, MessageAction
from events.event import Event
from events.observations import Observation
from runtime_stub.agent import Agent
from runtime_stub.tools import JsonSchema, Tool
from runtime_stub.turn import (
    AgentSettings,
    Doing,
    Draft,
    Exchange,
    TextKind,
    ToolCall,
    Turn,
    TurnOver,
    Usage,
    Window,
    Writing,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BlockingAgent(Agent):
    """An agent whose `work` may block: it runs in one of the server's `agent_threads`.

    Once the turn is over each method of its BlockingTurn raises TurnOver, so that the thread ends
    at its next word. A thread that never calls one is left behind, and its place is given back; what
    ends its wait is left with `BlockingTurn.on_stop`.
    """

    @abstractmethod
    def work(self, turn: "BlockingTurn") -> None:
        """Do what the turn was begun for; see `Agent.run`."""

    async def run(self, turn: Turn) -> None:
        """Run `work` in a thread."""
        blocking = BlockingTurn(turn, asyncio.get_running_loop())
        try:
            await turn.in_thread(partial(self.work, blocking))
        except CancelledError:
            blocking.stop()
            raise
        finally:
            blocking.close()


class BlockingTurn:
    """A Turn for a thread: what waits there blocks here. See Turn for each method."""

    def __init__(self, turn: Turn, loop: AbstractEventLoop) -> None:
        self.id = turn.id
        self.conversation_id = turn.conversation_id
        self.user_id = turn.user_id
        self.cause: Sequence[Event] = turn.cause
        self.attempt = turn.attempt
        self.settings: AgentSettings = turn.settings
        self.memory = turn.memory
        self.memory_position = turn.memory_position
        self._turn = turn
        self._loop = loop
        self._calls: set[Task[Any]] = set()
        self._hooks: dict[StopHook, Callable[[], object]] = {}
        self._lock = Lock()
        """Guards the hooks, and with them the moment from which on none is added."""
        self._closed = False

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools that a model may be offered."""
        return self.call(lambda: self._turn.tools)

    def say(self, *, kind: TextKind = "message") -> "BlockingWriting":
        """Return a text to write: `with turn.say() as answer: answer.write(piece)`."""
        return BlockingWriting(self, self.call(self._turn.say, kind=kind))

    def draft(self, kind: str, field: str) -> "BlockingDraft":
        """Return the text of an argument that is still being written."""
        return BlockingDraft(self, self.call(self._turn.draft, kind, field))

    def act(
        self,
        action: Action,
        *,
        call: ToolCall | None = None,
        draft: "BlockingDraft | None" = None,
    ) -> Observation:
        """Have an action carried out."""
        drafted = None if draft is None else draft.draft
        return self.wait(partial(self._turn.act, action, call=call, draft=drafted))

    def doing(self, action: Action, *, call: ToolCall | None = None) -> "BlockingDoing":
        """Record an action that the agent carries out: `with turn.doing(action) as step`."""
        return BlockingDoing(self, self.call(self._turn.doing, action, call=call))

    def ask(self, question: str, *, schema: JsonSchema | None = None) -> MessageAction:
        """Say a question and wait for the answer."""
        return self.wait(partial(self._turn.ask, question, schema=schema))

    def news(self) -> Sequence[MessageAction]:
        """Return the messages that came since the last look."""
        return self.call(self._turn.news)

    def report(self, usage: Usage) -> None:
        """Add what a call of a model used."""
        self.call(self._turn.report, usage)

    def status(self, text: str) -> None:
        """Tell whoever watches."""
        self.call(self._turn.status, text)

    def secret(self, name: str) -> SecretStr:
        """Return a secret of the user."""
        return self.wait(partial(self._turn.secret, name))

    def keep(self, memory: bytes) -> None:
        """Keep for the turns to come."""
        self.wait(partial(self._turn.keep, memory))

    def events(self, *, after: int = -1, reverse: bool = False) -> Sequence[Event]:
        """Return the events of the history behind `after`."""

        async def read() -> Sequence[Event]:
            found = self._turn.history.events(after=after, reverse=reverse)
            return [event async for event in found]

        return self.wait(read)

    def exchanges(self, window: Window) -> Sequence[Exchange]:
        """Return the newest exchanges of the history that fit the window."""
        return self.wait(partial(self._turn.history.exchanges, window))

    def on_stop(self, callback: Callable[[], object]) -> "StopHook":
        """Have the callback called when the turn ends before `work` does, in a thread of its own.

        It is to end what `work` waits for. Note that another thread's wait for a socket is ended by
        `shutdown`, not by `close`. As `with turn.on_stop(callback):` it is called during the block
        only. Raises TurnOver.
        """
        hook = StopHook(self._drop)
        with self._lock:
            if self._closed:
                raise TurnOver
            self._hooks[hook] = callback
        return hook

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function of the event loop's thread. Raises TurnOver and what that raises."""

        async def called() -> T:
            return function(*args, **kwargs)

        return self.wait(called)

    def wait(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await a coroutine in the event loop's thread. Raises TurnOver and what that raises."""
        outcome: Future[T] = Future()
        try:
            self._loop.call_soon_threadsafe(self._begin, begin, outcome)
        except RuntimeError as error:
            raise TurnOver("the event loop has ended") from error
        try:
            return outcome.result()
        except (FutureCancelled, CancelledError) as error:
            raise TurnOver from error

    def close(self) -> None:
        """End every call under way with TurnOver, and let no other begin."""
        with self._lock:
            self._closed = True
        for task in list(self._calls):
            task.cancel()

    def stop(self) -> None:
        """Close, and call what was left with `on_stop`."""
        self.close()
        if self._hooks:
            _ = run_in_thread(self._call_hooks, f"stop of {self.conversation_id}")

    def _call_hooks(self) -> None:
        with self._lock:
            callbacks = list(self._hooks.values())
        for callback in callbacks:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 - code of others, and nobody is above it
                # The texts of others' exceptions may quote content or keys.
                kind = type(error).__name__
                logger.warning("on_stop of %s failed: %s", self.conversation_id, kind)

    def _drop(self, hook: "StopHook") -> None:
        with self._lock:
            self._hooks.pop(hook, None)

    def _begin(self, begin: Callable[[], Coroutine[Any, Any, T]], outcome: "Future[T]") -> None:
        if self._closed:
            outcome.cancel()
            return
        task = self._loop.create_task(begin())
        self._calls.add(task)
        task.add_done_callback(partial(self._ended, outcome))

    def _ended(self, outcome: "Future[T]", task: "Task[T]") -> None:
        self._calls.discard(task)
        if task.cancelled():
            outcome.cancel()
            return
        error = task.exception()
        if error is None:
            outcome.set_result(task.result())
        else:
            outcome.set_exception(error)


def run_in_thread(work: Callable[[], None], name: str) -> "asyncio.Future[None]":
    """Run blocking code in a thread and this context; the future has what it raises.

    The thread is a daemon: one that never ends keeps no process from its end.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    end = partial(_end, loop, ended)
    body = partial(contextvars.copy_context().run, _run, work, end)
    Thread(target=body, name=name, daemon=True).start()
    return ended


def _run(work: Callable[[], None], end: Callable[[BaseException | None], None]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - code of others, and nobody is above it here
        end(error)
    else:
        end(None)


def _end(
    loop: AbstractEventLoop, ended: "asyncio.Future[None]", error: BaseException | None
) -> None:
    try:
        loop.call_soon_threadsafe(_settle, ended, error)
    except RuntimeError:
        logger.debug("a thread ended after the event loop")


def _settle(ended: "asyncio.Future[None]", error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    elif isinstance(error, StopIteration):
        # No future can hold one.
        failed = RuntimeError("the thread raised StopIteration")
        failed.__cause__ = error
        ended.set_exception(failed)
    else:
        ended.set_exception(error)


class StopHook(AbstractContextManager["StopHook"]):
    """A callback of `BlockingTurn.on_stop`; leaving its block takes it back."""

    def __init__(self, drop: "Callable[[StopHook], None]") -> None:
        self._drop = drop

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the callback back."""
        self._drop(self)


class BlockingPiece(AbstractContextManager["BlockingPiece"]):
    """A part of a turn that lasts for a block, in a thread."""

    def __init__(self, turn: BlockingTurn, piece: AbstractAsyncContextManager[Any]) -> None:
        self._turn = turn
        self._piece = piece

    def __enter__(self) -> Self:
        """Begin it."""
        self._turn.wait(self._piece.__aenter__)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it: what it records is durable then."""
        self._turn.wait(partial(self._piece.__aexit__, kind, error, trace))


class BlockingWriting(BlockingPiece):
    """A Writing for a thread; `write` waits while much of the text is not told yet."""

    def __init__(self, turn: BlockingTurn, writing: Writing) -> None:
        super().__init__(turn, writing)
        self._writing = writing
        self.metadata = writing.metadata

    def write(self, piece: str) -> None:
        """Add to the text."""

        async def written() -> None:
            self._writing.write(piece)
            await self._writing.flush()

        self._turn.wait(written)

    def begin_anew(self, why: str) -> None:
        """Take back what was shown."""
        self._turn.call(self._writing.begin_anew, why)


class BlockingDraft:
    """A Draft for a thread."""

    def __init__(self, turn: BlockingTurn, draft: Draft) -> None:
        self.draft = draft
        self._turn = turn

    def write(self, piece: str) -> None:
        """Add to the text."""
        self._turn.call(self.draft.write, piece)

    def drop(self) -> None:
        """Take back what was shown; the end of the turn has done so already."""
        with suppress(TurnOver):
            self._turn.call(self.draft.drop)


class BlockingDoing(BlockingPiece):
    """A Doing for a thread."""

    def __init__(self, turn: BlockingTurn, doing: Doing) -> None:
        super().__init__(turn, doing)
        self._doing = doing

    def agreed(self) -> bool:
        """Ask a person where `act` would."""
        return self._turn.wait(self._doing.agreed)

    def result(self, content: str = "", *, observation: Observation | None = None) -> None:
        """Say what came of it."""
        self._turn.call(self._doing.result, content, observation=observation)
