"""What a turn is made of beside its agent: the loop's stream, runtime, limits and user."""

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pydantic import SecretStr

from events.actions import Action, MessageAction
from events.batch import Appended
from events.event import AgentState, Event, EventSource
from events.stream import HeldStream
from runtime_stub.agent import Agent
from runtime_stub.base import Runtime
from runtime_stub.turn import AgentSettings
from server.turns.ledger import Ledger
from server.turns.threads import AgentThreads
from server.user_code import UserCode

Step = Callable[[Agent, str], Awaitable[Action | None]]
"""Asks an agent, that of the conversation named, for its next action."""


def plain_step(agent: Agent, _conversation_id: str) -> Awaitable[Action | None]:
    """Ask it."""
    return agent.step()


class TurnLimits(Protocol):
    """Limits and manners of a turn; see LoopSettings."""

    @property
    def confirmation_mode(self) -> bool:
        """Whether a person must agree to actions on the workspace."""

    @property
    def action_timeout_seconds(self) -> float:
        """Seconds an action may take that says nothing of its own."""

    @property
    def turn_seconds(self) -> float:
        """Seconds a turn may take."""

    @property
    def quiet_seconds(self) -> float:
        """Seconds a turn may be silent."""


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


class Remembered(NamedTuple):
    """What an agent kept, and the id of the last event there was then; -1 for none."""

    memory: bytes | None = None
    position: int = -1


class TurnMemory(ABC):
    """Where agents keep what they want to know in their next turn.

    It may lag behind the log and never leads it: what is kept belongs to events that are durable.
    """

    @abstractmethod
    async def load(self, conversation_id: str) -> Remembered:
        """Return what was kept last. Raises what the storage raises."""

    @abstractmethod
    async def keep(self, conversation_id: str, remembered: Remembered) -> None:
        """Keep this in the place of what was kept before. Raises what the storage raises."""


class ProcessMemory(TurnMemory):
    """Keeps it in this process, for one conversation each; it ends with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, Remembered] = {}

    async def load(self, conversation_id: str) -> Remembered:
        """See TurnMemory."""
        return self._kept.get(conversation_id, Remembered())

    async def keep(self, conversation_id: str, remembered: Remembered) -> None:
        """See TurnMemory."""
        self._kept[conversation_id] = remembered


@dataclass(frozen=True, slots=True)
class TurnParts:
    """The parts that the turns of one loop share.

    `announce` sets the agent's state, `tell` appends without waiting or raising, `take_up` marks a
    message as taken up by a turn, `notify` tells watchers a masked text, `level` waits until the
    agent has observed what was appended.
    """

    held: HeldStream
    code: UserCode
    runtime: Runtime
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
    step: Step
