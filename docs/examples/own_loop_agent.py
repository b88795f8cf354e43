"""An agent with a loop of its own: it looks through its workspace, writes while it looks, and asks.

Name it with agent_class = "own_loop_agent:CuratorAgent".
"""

from typing import ClassVar

from events.actions import CmdRunAction, MessageAction
from events.observations import CmdOutputObservation
from runtime_stub import Agent, Example, Turn


class CuratorAgent(Agent):
    """Counts the lines of every file in the workspace, and removes empty ones if it may."""

    examples = (Example("What is there?", "List what the workspace holds"),)
    # Nothing but the turn is needed: after a crash the same may be done again.
    resumes: ClassVar[bool] = True

    async def run(self, turn: Turn) -> None:
        """Look, tell, ask; the turn's methods raise what ends the turn."""
        turn.status("Looking around")
        empty: list[str] = []
        async with turn.say() as answer:
            for name in await self._lines(turn, "ls"):
                count = len(await self._lines(turn, f"cat {name}"))
                answer.write(f"{name}: {count} lines\n")
                if not count:
                    empty.append(name)
            if not empty:
                answer.write("Nothing is empty.")
                return
        reply = await turn.ask(f"Shall I remove {', '.join(empty)}?")
        if reply.content.strip().lower() == "yes":
            await turn.act(CmdRunAction(command=f"rm {' '.join(empty)}"))
            await turn.act(MessageAction(content="Removed."))

    async def _lines(self, turn: Turn, command: str) -> list[str]:
        result = await turn.act(CmdRunAction(command=command))
        done = isinstance(result, CmdOutputObservation) and result.success
        return result.content.splitlines() if done else []
