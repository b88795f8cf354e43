"""The lease under which a process runs loops where others would take them over from it."""

from collections.abc import Awaitable
from typing import Protocol

from events.actions import Action
from events.errors import Fenced
from runtime_stub.agent import Agent
from server.turns.context import Step


class LeaseLost(Fenced):
    """This process was declared dead: its loops belong to others, and write nothing more."""


class Lease(Protocol):
    """The right of a process to run loops, asked before anything that has effects outside."""

    def holds(self) -> bool:
        """Return whether the loops of this process are certainly its own now."""

    async def held(self) -> None:
        """Wait until `holds`. Raises LeaseLost once the process has been declared dead."""


def under(lease: Lease, step: Step) -> Step:
    """Return a call of an agent's step that waits while the lease is not held. Raises LeaseLost."""

    async def waits(agent: Agent, conversation_id: str) -> Action | None:
        await lease.held()
        return await step(agent, conversation_id)

    def held(agent: Agent, conversation_id: str) -> Awaitable[Action | None]:
        return step(agent, conversation_id) if lease.holds() else waits(agent, conversation_id)

    return held
