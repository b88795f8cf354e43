"""ReplayAgent: does what an earlier agent did, then leaves the conversation to another."""

from collections.abc import Sequence
from typing import Any

from events.actions import Action, MessageAction
from events.event import Event, EventSource
from runtime_stub.agent import Agent, Spending
from runtime_stub.turn import Turn


class ReplayAgent(Agent):
    """Performs the recorded actions, regardless of their results; then `inner` continues.

    A recorded end (`finish`, `reject`, a message that waits) ends nothing while actions follow, or
    while a message waits for `inner`. `inner` observes everything but the first user message,
    which the recording answers. The recording is not stored: a loop that is started again goes on
    with `inner` at once.
    """

    def __init__(self, actions: Sequence[Action], inner: Agent) -> None:
        self._actions = actions
        self._done = 0
        self._inner = inner
        self._answered = False
        self._asked = False

    @property
    def stepwise(self) -> bool:
        """Whether `inner` returns its actions one by one."""
        return self._inner.stepwise

    async def open(self, conversation_id: str) -> None:
        """See Agent."""
        await self._inner.open(conversation_id)

    async def run(self, turn: Turn) -> None:
        """Do what was recorded, then let `inner` answer what was asked beyond the recorded message."""
        if self.stepwise:
            await turn.drive(self)
            return
        replayed = not self._answered
        self._answered = True
        while self._done < len(self._actions):
            self._done += 1
            await turn.act(self._actions[self._done - 1])
        if not replayed or len(turn.cause) > 1:
            await self._inner.run(turn)

    @property
    def goes_on(self) -> bool:
        """Whether recorded actions are left, or messages wait for `inner`."""
        return self._done < len(self._actions) or self._asked or self._inner.goes_on

    def observe(self, event: Event) -> None:
        """Let `inner` take note."""
        if isinstance(event, MessageAction) and event.source == EventSource.USER:
            first = not self._answered
            self._answered = True
            if first:
                return
            self._asked = self._done < len(self._actions) or self._asked
        self._inner.observe(event)

    async def step(self) -> Action | None:
        """Return the next recorded action, else what `inner` decides."""
        if self._done < len(self._actions):
            action = self._actions[self._done]
            self._done += 1
            return action
        self._actions, self._done = (), 0
        self._asked = False
        return await self._inner.step()

    def resume(self, spent: Spending) -> None:
        """See Agent."""
        self._inner.resume(spent)

    def system_prompt(self) -> str:
        """See Agent."""
        return self._inner.system_prompt()

    def metrics(self) -> dict[str, Any] | None:
        """See Agent."""
        return self._inner.metrics()

    async def close(self) -> None:
        """See Agent."""
        await self._inner.close()
