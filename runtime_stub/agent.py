"""The Agent contract: decides what is done in one conversation."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from events.actions import Action
from events.event import Event
from runtime_stub.errors import RuntimeFloorError
from runtime_stub.turn import AgentSettings, Turn


class RateLimited(RuntimeFloorError):
    """Raised by `step` or `run`: the model accepts no more calls for now; people read its text.

    The agent's state becomes `rate_limited` until its user sends a message or the command
    `running`; with `exhausted` a retry is pointless, and the state becomes `error`.
    """

    def __init__(self, message: str = "", *, exhausted: bool = False) -> None:
        super().__init__(message)
        self.exhausted = exhausted


@dataclass(frozen=True, slots=True)
class Spending:
    """A conversation's spending so far: USD and tokens."""

    cost: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """An example first message, with a short title that says what it does."""

    message: str
    title: str


class Agent(ABC):  # noqa: B024 - which methods are needed depends; see __init_subclass__
    """Decides what is done in one conversation. One instance per running agent loop.

    Override `run`, or, for an agent that returns its actions one by one, `observe` and `step`,
    which the `run` of this class drives. An instance serves one turn at a time.

    The loop calls `observe` of such an agent with every event it is concerned with, in log order,
    exactly once and never while `step` has not been started or suspended elsewhere: it must return
    at once. While the agent's state is `running` the loop awaits `step` again and again: it returns
    the next action, or None when there is nothing to do until something new is observed. `step`
    may be cancelled at any await (pause, stop); what it was about to do is then dropped. A message
    at which `observe` raises is not observed again.

    Whatever a method raises ends the turn in the visible state `error`. People read the texts of
    TurnFailed and RateLimited; of any other exception only its type, and the server's log has where
    it was raised.
    """

    model: ClassVar[str | None] = None
    """The language model the agent needs, `provider/name`, or None. Declaring one makes the
    server ask for an API key in the user's settings."""

    examples: ClassVar[Sequence[Example]] = ()
    """A few example messages for a page to offer."""

    resumes: ClassVar[bool] = False
    """Whether `run` depends on nothing but `turn.history` and `turn.memory`: then a turn that a crash
    or the end of the server cut short is begun again, at most `turn_tries` times."""

    idempotent: ClassVar[frozenset[str]] = frozenset()
    """Kinds of action that may be carried out twice: one that a crash left open is then carried out
    again instead of being answered with an error."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.run is Agent.run and cls.step is Agent.step and not _has_abstract_methods(cls):
            raise TypeError(f"{cls.__qualname__} overrides neither `run` nor `step` of Agent")

    @property
    def stepwise(self) -> bool:
        """Whether the agent returns its actions one by one, and observes events."""
        return type(self).run is Agent.run

    @classmethod
    async def try_settings(cls, settings: AgentSettings) -> str:
        """Try what a user has chosen, the model for instance, and return what came of it in a sentence.

        Raises TurnFailed where it does not work, NotImplementedError where there is nothing to try.
        It is cancelled after a minute.
        """
        raise NotImplementedError(f"{cls.__qualname__} has nothing to try")

    async def open(self, conversation_id: str) -> None:  # noqa: ARG002 - the contract's
        """Get ready; called once, before the first turn."""
        return

    async def run(self, turn: Turn) -> None:
        """Do what the turn was begun for; returning ends it.

        It is cancelled when the turn is stopped, out of time or out of budget: clean up and let
        CancelledError pass. What goes on after that changes nothing: the methods of the turn raise
        TurnOver.
        """
        await turn.drive(self)

    @property
    def goes_on(self) -> bool:
        """Whether `step` is to be asked again at once even after an action that ends the work."""
        return False

    def observe(self, event: Event) -> None:  # noqa: B027 - only agents with `step` need it
        """Take note of a user message, an own action or the observation that answers it."""

    async def step(self) -> Action | None:
        """Return the next action, or None to wait."""
        raise NotImplementedError(f"{type(self).__qualname__} does not override `step`")

    def resume(self, spent: Spending) -> None:  # noqa: B027 - optional
        """Go on counting from what earlier lives of this conversation's agent used up.

        Called once, before anything is observed.
        """

    def system_prompt(self) -> str:
        """Return the text of the `system` event that opens a conversation."""
        return ""

    def metrics(self) -> dict[str, Any] | None:
        """Return accumulated `llm_metrics` to attach to the next action; None if unchanged.

        An agent that overrides `run` calls `turn.report` instead.
        """
        return None

    async def close(self) -> None:
        """Release what the agent holds; called once when its loop ends, and given a few seconds."""
        return


def _has_abstract_methods(cls: type) -> bool:
    # Called before ABCMeta has gathered them.
    return any(getattr(value, "__isabstractmethod__", False) for value in vars(cls).values())
