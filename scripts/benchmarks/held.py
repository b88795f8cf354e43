"""The texts a watcher holds while they are being written, and the check that it may."""

import time
from typing import Any

import orjson

STAMP_DIGITS = 20
"""See benchmarks.payload."""
DELTA = b'42["oh_delta",'
EVENT = b'42["oh_event",'


class Held:
    """The texts of one watcher: every piece begins where the last one ended, and an event has its text."""

    def __init__(self) -> None:
        self.pieces = 0
        self.events = 0
        self.delays: list[int] = []
        """Nanoseconds from a message's first token to its first piece here."""
        self.problem: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._at: dict[str, int] = {}
        self._last = -1

    def take_packet(self, packet: bytes) -> None:
        """Take what a Socket.IO client was sent."""
        if packet.startswith(DELTA):
            self.take_delta(orjson.loads(packet[len(DELTA) : -1]))
        elif packet.startswith(EVENT):
            self.take_event(packet[len(EVENT) : -1])

    def take_delta(self, delta: dict[str, Any]) -> None:
        """Take what is told of a text."""
        if delta["type"] != "text":
            if delta["type"] == "dropped":
                self.problem = self.problem or "a text was dropped"
            return
        name, text = delta["id"], delta["text"]
        at = self._at.get(name, 0)
        if delta["at"] != at or delta["to"] != at + len(text):
            self.problem = self.problem or f"a piece of {name} at {delta['at']} came at {at}"
        if at == 0:
            self.delays.append(time.monotonic_ns() - int(text[:STAMP_DIGITS]))
            self._texts[name] = []
        self._at[name] = delta["to"]
        self._texts[name].append(text)
        self.pieces += 1

    def take_event(self, body: bytes) -> None:
        """Take an event; what was told of its text must be the beginning of it."""
        event = orjson.loads(body)
        found = event["id"]
        if found <= self._last:
            self.problem = self.problem or f"event {found} came after {self._last}"
        self._last = found
        self.events += 1
        if "partial" not in event or not self._texts:
            return
        text = "".join(self._texts.pop(event["partial"], ()))
        self._at.pop(event["partial"], None)
        # The event brings what a reader was not given of the last words.
        if not event["args"]["content"].startswith(text):
            self.problem = self.problem or f"event {found} has another text than its pieces"
