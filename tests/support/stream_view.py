"""The view of a client that follows a conversation while texts are written."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class StreamView:
    """Events and texts held over any number of connections; fails where something does not fit."""

    events: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    """The fields of events that the texts held are written for."""
    opened: int = 0
    dropped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """The ids of its events, in the order in which they came."""
        return [event["id"] for event in self.events]

    @property
    def said(self) -> list[str]:
        """The messages among its events."""
        messages = [event for event in self.events if event.get("action") == "message"]
        return [event["args"]["content"] for event in messages]

    def take_event(self, event: dict[str, Any]) -> None:
        """Hold an event; it replaces what is held of the text that it completes."""
        assert event["id"] > (self.ids[-1] if self.events else -1)
        self.events.append(event)
        written = event.get("partial", "")
        held = self.held.pop(written, "")
        text = event.get("args", {}).get(self.fields.get(written, "content"), "")
        if event.get("interrupted") == "crashed" and len(text) < len(held):
            assert held.startswith(text)  # a crash may lose what was shown last
        else:
            assert text.startswith(held)

    def take_delta(self, delta: dict[str, Any]) -> None:
        """Hold what is told of partials."""
        if delta["type"] == "open":
            self.opened += 1
            named = {one["id"]: one["at"] for one in delta["partials"]}
            self.held = {one: text for one, text in self.held.items() if one in named}
            assert {one: len(self.held.get(one, "")) for one in named} == named
        elif delta["type"] == "text":
            text = self.held.get(delta["id"], "")
            assert delta["at"] == len(text)
            assert delta["to"] == len(text) + len(delta["text"])
            assert ("kind" in delta) == (delta["at"] == 0)
            self.fields.setdefault(delta["id"], delta.get("field", "content"))
            self.held[delta["id"]] = text + delta["text"]
        else:
            del self.held[delta["id"]]
            self.dropped.append((delta["id"], delta["why"]))
