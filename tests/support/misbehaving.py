"""An agent and a runtime that misbehave as their conversation's id says: `CALLBACK--FAULT--N`."""

import asyncio
import contextlib
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog

from events.actions import Action, MessageAction
from events.event import Event
from events.observations import CmdOutputObservation, Observation
from runtime_stub.agent import Spending
from runtime_stub.base import Runtime, RuntimeBuilder
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime

GOOD = "good"
HELD = "held up"
"""The line of output that tells that an endless fault begins."""
HUGE = 50_000_000
BLOCKED_SECONDS = 0.1
LONG_SECONDS = 600.0
DEEP = 100_000
MANY = 50

AGENT_CALLBACKS = ("init", "resume", "system_prompt", "observe", "step", "metrics", "close")
RUNTIME_CALLBACKS = (
    "build", "connect", "status", "set_environment", "perform", "release",
)  # fmt: skip
CALLBACKS = AGENT_CALLBACKS + RUNTIME_CALLBACKS
AWAITED = frozenset(("step", "close", "build", "connect", "perform", "release"))
"""Callbacks that may wait."""
CLOSING = frozenset(("close", "release"))
"""Callbacks that come when the conversation is stopped."""


class Panic(BaseException):
    """As extension modules raise it: no Exception."""


class Mute(Exception):
    """An error that fails when it is asked what it is."""

    def __str__(self) -> str:
        raise SystemExit(5)


def deep() -> Any:
    """A value nested deeper than anybody can follow."""
    found: Any = "end"
    for _ in range(DEEP):
        found = {"a": found}
    return found


RAISED: Mapping[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("planned"),
    "generator_exit": lambda: GeneratorExit("planned"),
    "interrupt": lambda: KeyboardInterrupt("planned"),
    "exit": lambda: SystemExit(3),
    "group": lambda: BaseExceptionGroup("planned", [SystemExit(3), ValueError("planned")]),
    "panic": lambda: Panic("planned"),
    "cancelled": lambda: asyncio.CancelledError("planned"),
    "stop_iteration": lambda: StopIteration("planned"),
    "surrogates_in_error": lambda: ValueError("planned \ud800"),
    "huge_error": lambda: ValueError("x" * HUGE),
    "mute_error": Mute,
}
NONSENSE: Mapping[str, Callable[[], Any]] = {
    "nonsense": lambda: 42,
    "huge": lambda: "x" * HUGE,
    "surrogates": lambda: "lone \ud800",
    "deep": deep,
}
"""Values given where something else, or something shorter, is due."""
OTHER = (
    "recursion", "hang", "swallow", "block", "cancel_others", "cancel_itself", "stop_loop",
    "exit_in_task", "start_thread", "fill_threads",
)  # fmt: skip
FAULTS = (*RAISED, *NONSENSE, *OTHER)
HARMLESS = frozenset(
    ("nothing", "block", "exit_in_task", "stop_loop", "start_thread", "fill_threads")
)
"""Faults that harm nobody, not even their own conversation."""
CHECKED = frozenset(("init", "step", "metrics", "build", "status", "perform"))
"""Callbacks that must give something of a kind."""


class Plan(NamedTuple):
    """The fault of a conversation."""

    callback: str
    fault: str

    @property
    def blocks(self) -> bool:
        """Whether the whole server has to wait meanwhile, if only for what the fault is made of."""
        waits = self.callback in AWAITED
        return self.fault in ("block", "huge", "huge_error", "deep") or (
            self.fault in ("hang", "swallow") and not waits
        )

    def outcomes(self) -> set[str]:
        """Return the states in which the conversation may be at the end."""
        callback, fault = self
        rest = "stopped" if callback in CLOSING else "awaiting_user_input"
        if fault in NONSENSE:
            return self._given(rest)
        if fault in ("hang", "swallow"):
            # A step has no deadline; an action that is given up is told to the agent.
            late = {"step": "running", "perform": rest}.get(callback, "error")
            return {late if callback in AWAITED else rest}
        if fault == "cancel_itself":
            return {"error" if callback in AWAITED else rest}
        if fault == "cancel_others":
            return {rest, "error"}  # its own tasks may be among them
        return {rest if fault in HARMLESS else "error"}

    def _given(self, rest: str) -> set[str]:
        if self.callback == "system_prompt":
            return {rest if self.fault == "surrogates" else "error"}
        if self.callback not in CHECKED:
            return {rest}
        # An action's result that is too long is told in its place; odd texts may be kept.
        return {"error"} if self.fault == "nonsense" else {"error", rest}


def plan() -> Plan:
    """Return what is to go wrong in the conversation whose code runs now."""
    conversation_id = structlog.contextvars.get_contextvars().get("conversation_id", GOOD)
    callback, _, rest = conversation_id.partition("--")
    return Plan(callback, rest.partition("--")[0])


def misbehave(callback: str) -> Any:
    """Do what the plan says of this callback, where it may not wait; what is given, if anything."""
    planned = plan()
    if planned.callback != callback:
        return None
    if planned.fault in RAISED:
        raise RAISED[planned.fault]()  # noqa: RSE102 - each raises a new one
    if planned.fault in ENDLESS and planned.fault != "query":
        print(HELD, flush=True)  # noqa: T201 - nothing else of this server will be heard again
    return {**NONSENSE, **DONE, **ENDLESS}[planned.fault]()


def recurse() -> Any:
    """Call itself for ever."""
    return recurse()


def _block() -> None:
    # The fault itself: a wait for a lock that holds the event loop.
    threading.Event().wait(BLOCKED_SECONDS)


def _cancel_others() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


def _cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def _stop_loop() -> None:
    asyncio.get_running_loop().stop()


def _exit_in_task() -> None:
    _exiting.add(asyncio.get_running_loop().create_task(_exit()))


def _fill_threads() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(MANY):
        loop.run_in_executor(None, time.sleep, LONG_SECONDS)


DONE: Mapping[str, Callable[[], Any]] = {
    "recursion": recurse,
    "hang": _block,
    "swallow": _block,
    "block": _block,
    "cancel_others": _cancel_others,
    "cancel_itself": _cancel_itself,
    "stop_loop": _stop_loop,
    "exit_in_task": _exit_in_task,
    "start_thread": lambda: threading.Thread(target=time.sleep, args=(LONG_SECONDS,)).start(),
    "fill_threads": _fill_threads,
}


def _spin() -> None:
    while True:
        pass


ENDLESS: Mapping[str, Callable[[], Any]] = {
    "sleep": lambda: time.sleep(LONG_SECONDS),
    "spin": _spin,
    # Extension modules: one keeps Python to itself, one lets go of it and cannot be interrupted.
    "match": lambda: re.match("(a+)+$", "a" * 60 + "b"),
    "query": lambda: _query(),  # noqa: PLW0108 - defined below
}
"""Faults that hold the whole server up for ever."""
ENDLESS_QUERY = "SELECT held(), (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n)"


def _query() -> Any:
    """Query for ever; says so from within, where no signal reaches Python any more."""
    connection = sqlite3.connect(":memory:")
    connection.create_function("held", 0, lambda: print(HELD, flush=True))  # noqa: T201 - as above
    return connection.execute(ENDLESS_QUERY).fetchall()


async def misbehave_waiting(callback: str) -> Any:
    """Do the same where it may wait."""
    planned = plan()
    if planned.callback == callback and planned.fault == "hang":
        await asyncio.sleep(LONG_SECONDS)
    while planned.callback == callback and planned.fault == "swallow":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG_SECONDS)
    given = misbehave(callback)
    await asyncio.sleep(0)
    return given


async def _exit() -> None:
    sys.exit(4)


_exiting: set[asyncio.Task[None]] = set()


class MisbehavingAgent(ScriptedAgent):
    """A scripted agent but for what is planned."""

    def __init__(self) -> None:
        super().__init__()
        if misbehave("init") is not None:
            raise TypeError("an agent cannot be anything else")

    def resume(self, spent: Spending) -> Any:
        super().resume(spent)
        return misbehave("resume")

    def system_prompt(self) -> Any:
        given = misbehave("system_prompt")
        return super().system_prompt() if given is None else given

    def observe(self, event: Event) -> Any:
        super().observe(event)
        return misbehave("observe")

    async def step(self) -> Any:
        given = await misbehave_waiting("step")
        if isinstance(given, str):
            return MessageAction(content=given, wait_for_response=True)
        if isinstance(given, dict):
            return MessageAction(content="deep", tool_call_metadata=given, wait_for_response=True)
        return await super().step() if given is None else given

    def metrics(self) -> Any:
        given = misbehave("metrics")
        if isinstance(given, str):
            return {"model": given}
        return super().metrics() if given is None else given

    async def close(self) -> Any:
        return await misbehave_waiting("close")


class MisbehavingRuntime(StubRuntime):
    """A stub but for what is planned."""

    @property
    def status(self) -> Any:
        given = misbehave("status")
        return super().status if given is None else given

    async def connect(self) -> Any:
        await super().connect()
        return await misbehave_waiting("connect")

    def set_environment(self, variables: Mapping[str, str | None]) -> Any:
        super().set_environment(variables)
        return misbehave("set_environment")

    async def perform(self, action: Action) -> Any:
        given = await misbehave_waiting("perform")
        if isinstance(given, str):
            return CmdOutputObservation.model_construct(content=given, command="")
        if isinstance(given, dict):
            return CmdOutputObservation(content="deep", command="", tool_call_metadata=given)
        found: Observation = await super().perform(action)
        return found if given is None else given

    async def close(self) -> Any:
        await super().close()
        return await misbehave_waiting("release")


class MisbehavingRuntimeBuilder(RuntimeBuilder):
    """Builds such runtimes."""

    async def build(self, conversation_id: str, user_id: str | None) -> Any:
        given = await misbehave_waiting("build")
        made: Runtime = MisbehavingRuntime()
        return made if given is None else given
