"""Cursors: how far a reader of a conversation has come."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

from events.errors import BadCursor

MAX_PARTS = 16
"""Partials that a cursor may name."""
MAX_CURSOR_CHARACTERS = 512
MAX_DIGITS = 16
NOTHING: Mapping[str, int] = MappingProxyType({})


class Cursor(NamedTuple):
    """The place of a reader: the id of its last event, and the characters held of open partials.

    Spelled `41~9570aa64-3:1032`: the id (-1 for none), and for each partial its id and how many
    characters of its masked text are held.
    """

    position: int = -1
    held: Mapping[str, int] = NOTHING

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form of a cursor. Raises BadCursor."""
        if len(text) > MAX_CURSOR_CHARACTERS:
            raise BadCursor(f"A cursor has at most {MAX_CURSOR_CHARACTERS} characters.")
        position, tilde, parts = text.partition("~")
        held = parse_held(parts, "~") if tilde else {}
        if position == "-1":
            return cls(-1, held)
        return cls(_number(position, "A cursor begins with the id of an event, or -1."), held)

    def __str__(self) -> str:
        return "~".join((str(self.position), *(f"{one}:{at}" for one, at in self.held.items())))


def parse_held(text: str, separator: str = ",") -> dict[str, int]:
    """Read `id:characters`, of each partial held. Raises BadCursor."""
    held: dict[str, int] = {}
    parts = text[: MAX_CURSOR_CHARACTERS + 1].split(separator)
    if len(parts) > MAX_PARTS or len(text) > MAX_CURSOR_CHARACTERS:
        raise BadCursor(f"A cursor names at most {MAX_PARTS} texts.")
    for part in parts:
        partial_id, colon, characters = part.partition(":")
        if not colon or not partial_id or not partial_id.replace("-", "").isalnum():
            raise BadCursor("A cursor names texts as `id:characters`.")
        held[partial_id] = _number(characters, "The characters held of a text are a number.")
    return held


def _number(text: str, why: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadCursor(why)
    return int(text)


START = Cursor()
"""Before the first event."""
