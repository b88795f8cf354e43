"""The arguments of calls while they come: the one that people want to read is shown as it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic_core import from_json

from events.errors import TooManyPartials
from runtime_stub.turn import Draft, Turn

SHOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "run": ("command",),
        "run_ipython": ("code",),
        "write": ("content",),
        "edit": ("file_text", "new_str"),
        "browse": ("url",),
    }
)
"""The arguments that are shown while they are written, by tool."""
MOST_SHOWN = 6
"""Calls of one answer of which an argument is shown; the conversation has no more than 16 texts open at a time."""
SHARE_READ_ANEW = 32
"""Arguments are read anew when they have grown by this part of them: so reading them costs little in all."""


@dataclass(slots=True)
class CallDraft:
    """The arguments of one call, as JSON that grows."""

    turn: Turn
    tool: str = ""
    json: str = ""
    draft: Draft | None = None
    _told: str = field(default="", init=False)
    _read: int = field(default=0, init=False)
    _given_up: bool = field(default=False, init=False)

    def add(self, json: str) -> None:
        """Take more of the JSON, and show what can be shown of it."""
        self.json += json
        if self._given_up or len(self.json) < self._read + 1 + self._read // SHARE_READ_ANEW:
            return
        self._read = len(self.json)
        try:
            arguments = from_json(self.json, allow_partial="trailing-strings")
        except ValueError:
            return
        if isinstance(arguments, dict):
            for name in SHOWN.get(self.tool, ()):
                if isinstance(arguments.get(name), str):
                    self._show(name, arguments[name])
                    return

    def drop(self) -> None:
        """Take back what was shown."""
        if self.draft is not None:
            self.draft.drop()
        self.draft = None
        self._given_up = True

    def _show(self, name: str, text: str) -> None:
        if not text.startswith(self._told):
            self.drop()
            return
        if self.draft is None:
            if not text:
                return
            try:
                self.draft = self.turn.draft(self.tool, name)
            except TooManyPartials:
                self._given_up = True
                return
        self.draft.write(text[len(self._told) :])
        self._told = text


@dataclass(slots=True)
class CallDrafts:
    """The calls of one answer while they come, by their place in it."""

    turn: Turn
    _calls: dict[int, CallDraft] = field(default_factory=dict, init=False)
    _ids: dict[str, CallDraft] = field(default_factory=dict, init=False)

    @property
    def begun(self) -> bool:
        """Whether anything is shown."""
        return any(call.draft is not None for call in self._calls.values())

    def begin(self, place: int, call_id: str, tool: str, json: str) -> None:
        """Begin a call."""
        if len(self._calls) >= MOST_SHOWN:
            return
        call = self._calls[place] = self._ids[call_id] = CallDraft(self.turn, tool)
        call.add(json)

    def add(self, place: int, json: str) -> None:
        """Take more of a call's JSON."""
        if place in self._calls:
            self._calls[place].add(json)

    def take(self, call_id: str) -> Draft | None:
        """Return what is shown of a call, to be made its action's."""
        taken = self._ids.pop(call_id, None)
        self._calls = {place: call for place, call in self._calls.items() if call is not taken}
        return None if taken is None else taken.draft

    def drop(self) -> None:
        """Take back what is shown of calls that are not taken."""
        for call in self._calls.values():
            call.drop()
        self._ids.clear()
        self._calls.clear()
