"""The Agent contract: decides what to do next in one conversation."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from events.actions import Action
from events.event import Event
from runtime_stub.errors import RuntimeFloorError


class RateLimited(RuntimeFloorError):
    """Raised by `step`: the model accepts no more calls for now.

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


class Agent(ABC):
    """Decides the next action of one conversation. One instance per running agent loop.

    The loop calls `observe` with every event the agent is concerned with, in log order, exactly
    once and never while `step` has not been started or suspended elsewhere: it must return at
    once. While the agent's state is `running` the loop awaits `step` again and again: it returns
    the next action, or None when there is nothing to do until something new is observed. `step`
    may be cancelled at any await (pause, stop); what it was about to do is then dropped. Whatever
    a method raises becomes the visible state `error` with its text as the reason; a message at
    which `observe` raises is not observed again.
    """

    model: ClassVar[str | None] = None
    """The language model the agent needs, `provider/name`, or None. Declaring one makes the
    server ask for an API key in the user's settings."""

    examples: ClassVar[Sequence[Example]] = ()
    """A few example messages for a page to offer."""

    @property
    def goes_on(self) -> bool:
        """Whether `step` is to be asked again at once even after an action that ends the work."""
        return False

    @abstractmethod
    def observe(self, event: Event) -> None:
        """Take note of a user message, an own action or the observation that answers it."""

    @abstractmethod
    async def step(self) -> Action | None:
        """Return the next action, or None to wait."""

    def resume(self, spent: Spending) -> None:  # noqa: B027 - optional
        """Go on counting from what earlier lives of this conversation's agent used up.

        Called once, before anything is observed.
        """

    def system_prompt(self) -> str:
        """Return the text of the `system` event that opens a conversation."""
        return ""

    def metrics(self) -> dict[str, Any] | None:
        """Return accumulated `llm_metrics` to attach to the next action; None if unchanged."""
        return None

    async def close(self) -> None:
        """Release what the agent holds; called once when its loop ends, and given a few seconds."""
        return
