"""Wrappers of agents and runtimes that contain every call and check its result."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from events.actions import Action
from events.event import Event
from events.observations import ErrorObservation, Observation
from runtime_stub.agent import Agent, Spending
from runtime_stub.base import (
    FileChange,
    FileVersions,
    Runtime,
    RuntimeStatus,
    Snapshot,
    WorkspaceLimits,
)
from runtime_stub.tools import Tool
from runtime_stub.turn import AgentSettings, Turn
from server.agent.lease import Lease
from server.user_code import UserCode, UserCodeLate, fitting

logger = logging.getLogger(__name__)

STEP = "the agent's step"
RUN = "the agent's run"
PERFORM = "the runtime's action"
STUCK_AGENT = "the agent ignored its stop and is still at its last step; stop the conversation to have a new one"
STUCK_RUNTIME = "The runtime is still busy with an action that did not stop when it was given up."

T = TypeVar("T")


class Deadlines(NamedTuple):
    """Deadlines in seconds for the phases of a conversation.

    `start` is for each of building and connecting a runtime, `close` for closing it and the agent,
    `other` for each call of a runtime but those and its actions. `stop` is for the whole end of a
    conversation, including the writes of accepted events.
    """

    start: float = 60.0
    other: float = 120.0
    close: float = 2.0
    stop: float = 6.0


TRIAL_SECONDS = 60.0


async def try_settings(agent: type[Agent], settings: AgentSettings) -> str:
    """Have a class of agents try what a user has chosen, and return what came of it.

    Raises Exceptions only: those of `Agent.try_settings`, UserCodeLate after a minute, and TypeError.
    """
    code = UserCode("a trial of settings")
    try:
        found: object = await code.wait(
            lambda: agent.try_settings(settings), TRIAL_SECONDS, "the trial"
        )
    finally:
        code.ended = True
    return fitting(found, str, "the trial")


class ContainedAgent(Agent):
    """Forwards every call to an agent. Raises Exceptions only, and TypeError for invalid results."""

    def __init__(self, inner: Agent, code: UserCode, deadlines: Deadlines) -> None:
        self.name = type(inner).__name__
        self._inner = inner
        self._code = code
        self._deadlines = deadlines

    @property
    def stepwise(self) -> bool:
        """See Agent."""
        return bool(self._code.call(lambda: self._inner.stepwise))

    @property
    def starts_again(self) -> bool:
        """Whether a turn that was cut short may begin again: the class's `resumes`."""
        return bool(getattr(self._inner, "resumes", False))

    @property
    def may_repeat(self) -> AbstractSet[str]:
        """Kinds of action that may be carried out twice: the class's `idempotent`."""
        return frozenset(getattr(self._inner, "idempotent", ()))

    async def open(self, conversation_id: str) -> None:
        """See Agent."""
        seconds = self._deadlines.start
        await self._code.wait(
            lambda: self._inner.open(conversation_id), seconds, "the agent's open"
        )

    async def run(self, turn: Turn) -> None:
        """See Agent; the turn's clocks bound it."""
        if self._code.is_stuck(RUN):
            raise UserCodeLate(STUCK_AGENT)
        await self._code.wait(lambda: self._inner.run(turn), None, RUN)

    @property
    def goes_on(self) -> bool:
        """See Agent."""
        return bool(self._code.call(lambda: self._inner.goes_on))

    def observe(self, event: Event) -> None:
        """See Agent."""
        given: object = self._code.call(self._inner.observe, event)
        if inspect.iscoroutine(given):
            given.close()
            raise TypeError("the agent's observe is `async def`, and must not be")

    async def step(self) -> Action | None:
        """See Agent; it may take as long as it wants."""
        if self._code.is_stuck(STEP):
            raise UserCodeLate(STUCK_AGENT)
        action: object = await self._code.wait(self._inner.step, None, STEP)
        return None if action is None else fitting(action, Action, STEP)

    def resume(self, spent: Spending) -> None:
        """See Agent."""
        self._code.call(self._inner.resume, spent)

    def system_prompt(self) -> str:
        """See Agent."""
        return fitting(self._code.call(self._inner.system_prompt), str, "the agent's system_prompt")

    def metrics(self) -> dict[str, Any] | None:
        """See Agent."""
        metrics: object = self._code.call(self._inner.metrics)
        return None if metrics is None else fitting(metrics, dict, "the agent's metrics")

    async def close(self) -> None:
        """See Agent."""
        seconds = self._deadlines.close
        await self._code.wait(self._inner.close, seconds, "the agent's close")


class ContainedRuntime(Runtime):
    """Forwards every call to a runtime; each has a deadline, `perform` that of its caller.

    Raises Exceptions only: UserCodeLate, TypeError for invalid results, and LeaseLost instead of
    performing anything. While the lease is not held, actions wait.
    """

    def __init__(
        self, inner: Runtime, code: UserCode, deadlines: Deadlines, lease: Lease | None = None
    ) -> None:
        self._lease = lease
        self.changes_begun = 0
        """The calls begun so far that may change the workspace."""
        self.on_written: Callable[[], None] | None = None
        """Told of the end of each `write_file`. Must not raise."""
        self._under_way = 0
        self._inner = inner
        self._code = code
        self._deadlines = deadlines
        self._told = False

    @property
    def at_work(self) -> bool:
        """Whether a call is under way that may change the workspace."""
        return self._under_way > 0

    @property
    def is_stuck(self) -> bool:
        """Whether an action was given up and goes on all the same."""
        return self._code.is_stuck(PERFORM)

    def changes_by_itself(self) -> bool:
        """Return whether files change without a call: the class's `changes_alone`."""
        return bool(self._code.call(lambda: getattr(self._inner, "changes_alone", False)))

    @property
    def may_repeat(self) -> AbstractSet[str]:
        """Kinds of action that may be carried out twice: the class's `idempotent`."""
        return frozenset(getattr(self._inner, "idempotent", ()))

    @property
    def status(self) -> RuntimeStatus:
        """The runtime's status; ERROR when it does not say. Lists of conversations show it."""
        try:
            return self._status()
        except Exception:
            if not self._told:
                logger.exception("the runtime of %s failed to report its status", self._code.owner)
            self._told = True
            return RuntimeStatus.ERROR

    @property
    def root(self) -> str:
        """See Runtime."""
        return fitting(self._code.call(lambda: self._inner.root), str, "the runtime's root")

    async def connect(self) -> None:
        """See Runtime; also checks that the runtime reports a valid status."""
        await self._wait(self._inner.connect, "connect", self._deadlines.start)
        self._status()

    async def close(self) -> None:
        """See Runtime."""
        await self._wait(self._inner.close, "close", self._deadlines.close)

    async def perform(self, action: Action) -> Observation:
        """See Runtime."""
        if self.is_stuck:
            return ErrorObservation(content=STUCK_RUNTIME)
        if self._lease is not None and not self._lease.holds():
            await self._lease.held()
        with self._changing():
            given: object = await self._code.wait(
                lambda: self._inner.perform(action), None, PERFORM
            )
        return fitting(given, Observation, "the runtime's perform")

    async def tools(self) -> Sequence[Tool]:
        """See Runtime."""
        given = await self._wait(self._inner.tools, "tools")
        return _fitting_list(given, Tool, "the runtime's tools")

    def wrap(self, wrapper: Callable[[Runtime], Runtime]) -> None:
        """Have calls go to a wrapper of the runtime from now on."""
        inner: object = self._code.call(wrapper, self._inner)
        self._inner = fitting(inner, Runtime, "the wrapper of the runtime")

    def offers(self) -> AbstractSet[str]:
        """Return the kinds of action that agents are offered as tools: the runtime's `performs`."""
        return self._code.call(lambda: frozenset(getattr(self._inner, "performs", ())))

    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """See Runtime."""
        self._code.call(self._inner.set_environment, variables)

    async def read_file(self, path: str) -> bytes:
        """See Runtime."""
        given = await self._wait(lambda: self._inner.read_file(path), "read_file")
        return fitting(given, bytes, "the runtime's read_file")

    async def write_file(self, path: str, content: bytes) -> str:
        """See Runtime."""
        try:
            with self._changing():
                given = await self._wait(
                    lambda: self._inner.write_file(path, content), "write_file"
                )
        finally:
            if self.on_written is not None:
                self.on_written()
        return fitting(given, str, "the runtime's write_file")

    async def list_files(self, path: str = "") -> Sequence[str]:
        """See Runtime."""
        given = await self._wait(lambda: self._inner.list_files(path), "list_files")
        return _fitting_list(given, str, "the runtime's list_files")

    async def changes(self) -> Sequence[FileChange] | None:
        """See Runtime."""
        given = await self._wait(self._inner.changes, "changes")
        return None if given is None else _fitting_list(given, FileChange, "the runtime's changes")

    async def versions(self, path: str) -> FileVersions | None:
        """See Runtime."""
        given = await self._wait(lambda: self._inner.versions(path), "versions")
        return None if given is None else fitting(given, FileVersions, "the runtime's versions")

    async def branch(self) -> str | None:
        """See Runtime."""
        given = await self._wait(self._inner.branch, "branch")
        return None if given is None else fitting(given, str, "the runtime's branch")

    async def snapshot(self, limits: WorkspaceLimits) -> Snapshot | None:
        """See Runtime."""
        given = await self._wait(lambda: self._inner.snapshot(limits), "snapshot")
        if given is None:
            return None
        what = "the runtime's snapshot"
        found = fitting(given, Snapshot, what)
        return Snapshot(
            files=_fitting_files(found.files, what),
            folders=frozenset(fitting(path, str, what) for path in found.folders),
            own=_fitting_files(found.own, what),
        )

    async def restore(self, snapshot: Snapshot) -> str | None:
        """See Runtime."""
        seconds = self._deadlines.start
        given = await self._wait(lambda: self._inner.restore(snapshot), "restore", seconds)
        return None if given is None else fitting(given, str, "the runtime's restore")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.changes_begun += 1
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def _status(self) -> RuntimeStatus:
        return RuntimeStatus(self._code.call(lambda: self._inner.status))

    async def _wait(
        self, call: Callable[[], Awaitable[T]], name: str, seconds: float | None = None
    ) -> T:
        limit = self._deadlines.other if seconds is None else seconds
        return await self._code.wait(call, limit, f"the runtime's {name}")


def _fitting_files(given: Mapping[str, bytes], what: str) -> Mapping[str, bytes]:
    return {
        fitting(path, str, what): fitting(content, bytes, what) for path, content in given.items()
    }


def _fitting_list(given: object, kind: type[T], what: str) -> Sequence[T]:
    if not isinstance(given, list | tuple):
        raise TypeError(f"{what} gave {type(given).__name__}, not a list")
    return [fitting(one, kind, f"an entry of {what}") for one in given]
