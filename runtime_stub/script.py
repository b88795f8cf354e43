"""The language of ScriptedAgent: a message is read as instructions, one at a time."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

USAGE: Mapping[str, str] = MappingProxyType(
    {
        "run": "/run CMD",
        "confirm": "/confirm CMD",
        "read": "/read PATH",
        "write": "/write PATH TEXT",
        "edit": "/edit PATH OLD => NEW",
        "think": "/think TEXT",
        "ask": "/ask TEXT",
        "finish": "/finish [TEXT]",
        "error": "/error TEXT",
        "slow": "/slow N MS",
        "big": "/big BYTES",
        "cost": "/cost USD",
        "quiet": "/quiet",
        "loud": "/loud",
        "help": "/help",
    }
)
"""Every command and how it is written."""

_COMMAND = re.compile(rf"^[ \t]*/({'|'.join(USAGE)})(?!\S)(.*)$", re.MULTILINE)


class BadArguments(Exception):
    """The arguments do not match the command's usage; the text adds details."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A command and its arguments; plain text is an instruction named `say`."""

    name: str
    argument: str


def next_instruction(text: str, start: int) -> tuple[Instruction, int] | None:
    """Return the instruction at or after `start` and where to continue; None at the message's end.

    The lines up to the next command are one plain text; blank ones count only in a message that
    has nothing else. Takes time linear in what it reads.
    """
    match = _COMMAND.search(text, start)
    end = match.start() if match else len(text) + 1
    plain = text[start:end].strip()
    if plain or (match is None and start == 0):
        return Instruction("say", plain), end
    if match is None:
        return None
    return Instruction(match[1], match[2].strip()), match.end()


def words_of(argument: str, count: int) -> list[str]:
    """Split into exactly `count` words, the last taking the rest. Raises BadArguments."""
    words = argument.split(maxsplit=count - 1)
    if len(words) < count:
        raise BadArguments
    return words


def whole_numbers(argument: str, *limits: int) -> list[int]:
    """Read one number for each limit, from 0 to that limit. Raises BadArguments."""
    words = argument.split()
    if len(words) != len(limits) or not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise BadArguments
    numbers = [int(word) for word in words]
    if any(number > limit for number, limit in zip(numbers, limits, strict=True)):
        raise BadArguments(f"The limit is {' and '.join(str(limit) for limit in limits)}.")
    return numbers
