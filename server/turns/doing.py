"""LoggedDoing, an action that an agent carries out by itself, as it stands in the log."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from events.actions import Action, CmdRunAction, MCPAction
from events.observations import (
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    MCPObservation,
    Observation,
    SuccessObservation,
)
from runtime_stub.turn import Doing, TurnOver
from server.turns.acting import Acting, Pending
from server.turns.clocks import Clocks
from server.user_code import outside


class LoggedDoing(Doing):
    """An action of the agent's own; see Doing."""

    def __init__(
        self, count: Callable[[], None], acting: Acting, clocks: Clocks, action: Action
    ) -> None:
        self._count = count
        self._acting = acting
        self._action = action
        self._pending: Pending | None = None
        self._refused = False
        self._result: Observation | None = None
        self._held = clocks.held()

    async def __aenter__(self) -> Self:
        """Record the action; it is durable then."""
        with outside():
            self._count()
            self._pending = self._acting.hold(self._action)
            await asyncio.shield(self._pending.recorded)
        self._held.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record what came of it."""
        self._held.__exit__(kind, error, trace)
        pending = self._pending
        if pending is None or self._refused or isinstance(error, asyncio.CancelledError | TurnOver):
            return  # answered already, or when the turn is sealed
        result = self._result or self._done("")
        if error is not None:
            result = ErrorObservation(content=f"The action failed: {type(error).__name__}.")
        with outside():
            await self._acting.answer(pending, result)

    async def agreed(self) -> bool:
        """See Doing."""
        with outside():
            self._acting.check()
            if self._pending is None or not self._acting.needs_agreement(self._action):
                return True
            held = await self._acting.agree(self._action, self._pending)
            self._refused = isinstance(held, Observation)
            if isinstance(held, Pending):
                self._pending = held
            self._acting.go_on()
            return not self._refused

    def result(self, content: str = "", *, observation: Observation | None = None) -> None:
        """See Doing."""
        self._acting.check()
        self._result = observation or self._done(content)

    def _done(self, content: str) -> Observation:
        match self._action:
            case CmdRunAction(command=command):
                metadata = CmdOutputMetadata(exit_code=0)
                return CmdOutputObservation(content=content, command=command, metadata=metadata)
            case MCPAction(name=name, arguments=arguments):
                return MCPObservation(content=content, name=name, arguments=arguments)
            case _:
                return SuccessObservation(content=content)
