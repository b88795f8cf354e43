"""An agent with a loop of its own: it looks through its workspace, writes while it looks, and asks.

Name it with agent_class = "own_loop_agent:CuratorAgent".
"""

from shlex import quote
from typing import ClassVar

from events.actions import CmdRunAction
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
            for name in await self._lines(turn, "ls") or []:
                lines = await self._lines(turn, f"cat {path_of(name)}")
                if lines is None:
                    continue  # a folder, or removed meanwhile
                answer.write(f"{name}: {len(lines)} lines\n")
                if not lines:
                    empty.append(name)
            if not empty:
                answer.write("Nothing is empty.")
                return
        reply = await turn.ask(f"Shall I remove {', '.join(empty)}?")
        if reply.content.strip().lower() == "yes":
            gone = await self._lines(turn, f"rm {' '.join(map(path_of, empty))}")
            async with turn.say() as answer:
                answer.write("Not all could be removed." if gone is None else "Removed.")

    async def _lines(self, turn: Turn, command: str) -> list[str] | None:
        """Return what a command writes; None if it fails."""
        result = await turn.act(CmdRunAction(command=command))
        done = isinstance(result, CmdOutputObservation) and result.success
        return result.content.splitlines() if done else None


def path_of(name: str) -> str:
    """Return a name as a shell takes it: of other people's files, any name may come."""
    return quote(f"./{name}")
