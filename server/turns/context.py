"""The things that the turns of one loop share: its stream, runtime, limits, user and memory."""

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence, Set as AbstractSet
from dataclasses import dataclass

from pydantic import SecretStr

from events.actions import Action, MessageAction
from events.batch import Appended
from events.event import AgentState, Event, EventSource
from events.stream import HeldStream
from runtime_stub.agent import Agent
from runtime_stub.base import Runtime
from runtime_stub.tools import Tool
from runtime_stub.turn import AgentSettings
from server.turns.approvals import Approvals
from server.turns.limits import Ledger, TurnLimits
from server.turns.memory import TurnMemory
from server.turns.threads import AgentThreads
from server.user_code import UserCode

Step = Callable[[Agent, str], Awaitable[Action | None]]
"""Asks an agent, that of the conversation named, for its next action."""


def plain_step(agent: Agent, _conversation_id: str) -> Awaitable[Action | None]:
    """Ask it."""
    return agent.step()


class TurnUser(ABC):
    """The user for whom an agent works. Methods raise what the storage raises."""

    def __init__(self, user_id: str | None = None) -> None:
        self.user_id = user_id

    @abstractmethod
    async def settings(self) -> AgentSettings:
        """Return what the user has chosen."""

    @abstractmethod
    async def secret(self, name: str) -> SecretStr | None:
        """Return a secret of the user; None where there is none of that name."""


class Nobody(TurnUser):
    """A user who has chosen nothing and keeps no secrets."""

    async def settings(self) -> AgentSettings:
        """See TurnUser."""
        return AgentSettings()

    async def secret(self, name: str) -> SecretStr | None:  # noqa: ARG002 - the contract's
        """See TurnUser."""
        return None


@dataclass(frozen=True, slots=True)
class TurnContext:
    """The dependencies that the turns of one loop share.

    `announce` sets the agent's state, `tell` appends without waiting or raising, `take_up` marks a
    message as taken up by a turn, `notify` tells watchers a masked text, `level` waits until the
    agent has observed what was appended, and `park` ends a turn that only waits for decisions.
    `offered` returns the kinds of action that agents are offered as tools, `more_tools` the tools
    that the runtime has besides, and `attend` has it know the user's tool servers. Neither raises.
    """

    held: HeldStream
    code: UserCode
    runtime: Runtime
    offered: Callable[[], AbstractSet[str]]
    more_tools: Callable[[AgentSettings], Awaitable[Sequence[Tool]]]
    attend: Callable[[], Awaitable[None]]
    limits: TurnLimits
    ledger: Ledger
    user: TurnUser
    memory: TurnMemory
    threads: AgentThreads
    announce: Callable[[AgentState], None]
    tell: Callable[[Event, EventSource], Future[Appended] | None]
    take_up: Callable[[MessageAction, int], None]
    notify: Callable[[str], None]
    level: Callable[[], Awaitable[None]]
    park: Callable[[], None]
    approvals: Approvals
    step: Step
