"""An agent of one's own: it keeps notes in a file of the workspace and reads them out.

Name it with agent_class = "notes_agent:NotesAgent".
"""

from collections import deque

from events.actions import Action, CmdRunAction, FileReadAction, MessageAction
from events.event import Event, EventSource
from events.observations import CmdOutputObservation, ErrorObservation, FileReadObservation
from runtime_stub import Agent, Example

NOTES = "notes.txt"


class NotesAgent(Agent):
    """Understands `note TEXT` and `notes`."""

    examples = (
        Example("note Water the plants", "Write a note down"),
        Example("notes", "Read all notes out"),
    )

    def __init__(self) -> None:
        self._next: deque[Action] = deque()

    def observe(self, event: Event) -> None:
        """Decide what follows from an event; this must return at once."""
        match event:
            case MessageAction(source=EventSource.USER, content=said):
                self._next.append(self._understood(said.strip()))
            case CmdOutputObservation(success=True):
                self._next.append(MessageAction(content="Noted."))
            case FileReadObservation(content=notes):
                self._next.append(MessageAction(content=notes or "There are no notes yet."))
            case ErrorObservation(content=reason):
                self._next.append(MessageAction(content=f"That did not work: {reason}"))
            case _:
                pass

    async def step(self) -> Action | None:
        """The next action; None waits for something new."""
        return self._next.popleft() if self._next else None

    def system_prompt(self) -> str:
        return "Write `note TEXT` to keep something and `notes` to read it again."

    def _understood(self, said: str) -> Action:
        word, _, rest = said.partition(" ")
        if word == "note" and rest:
            quoted = rest.replace("'", "'\\''")
            return CmdRunAction(command=f"echo '{quoted}' >> {NOTES}")
        if said == "notes":
            return FileReadAction(path=NOTES)
        return MessageAction(content=self.system_prompt())
