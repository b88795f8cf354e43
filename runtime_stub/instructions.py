"""The language of ScriptedAgent: instructions in a message, and the actions of the stateless ones."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from events.actions import (
    Action,
    AgentFinishAction,
    AgentThinkAction,
    CmdRunAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    MessageAction,
)
from events.event import SecurityRisk

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


MAX_BIG_BYTES = 4 * 1024 * 1024
MAX_ECHO_CHARACTERS = 10_000


def _say(argument: str) -> Action:
    if len(argument) > MAX_ECHO_CHARACTERS:
        # Not their beginning: a secret that is cut in half is masked nowhere.
        return MessageAction(content=f"You said {len(argument)} characters.")
    return MessageAction(content=f"You said: {argument}" if argument else "You said nothing.")


def _run(argument: str) -> Action:
    return CmdRunAction(command=words_of(argument, 1)[0])


def _confirm(argument: str) -> Action:
    return CmdRunAction(command=words_of(argument, 1)[0], security_risk=SecurityRisk.HIGH)


def _read(argument: str) -> Action:
    return FileReadAction(path=words_of(argument, 1)[0])


def _write(argument: str) -> Action:
    path, text = words_of(argument, 2)
    return FileWriteAction(path=path, content=text)


def _edit(argument: str) -> Action:
    path, change = words_of(argument, 2)
    old, arrow, new = f"{change} ".partition(" => ")
    if not arrow or not old:
        raise BadArguments
    return FileEditAction(path=path, command="str_replace", old_str=old, new_str=new.strip())


def _think(argument: str) -> Action:
    return AgentThinkAction(thought=words_of(argument, 1)[0])


def _finish(argument: str) -> Action:
    return AgentFinishAction(final_thought=argument)


def _big(argument: str) -> Action:
    (size,) = whole_numbers(argument, MAX_BIG_BYTES)
    return MessageAction(content="x" * size)


def _help(argument: str) -> Action:
    lines = ["Plain text is answered. Lines that start with a command are carried out in order:"]
    return MessageAction(content="\n".join([*lines, *USAGE.values()]))


INSTRUCTIONS: Mapping[str, Callable[[str], Action]] = MappingProxyType(
    {
        "say": _say,
        "run": _run,
        "confirm": _confirm,
        "read": _read,
        "write": _write,
        "edit": _edit,
        "think": _think,
        "finish": _finish,
        "big": _big,
        "help": _help,
    }
)
"""The arguments of each instruction, by its name."""
