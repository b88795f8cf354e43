"""The instructions that need no memory: from their arguments to the action they ask for."""

from collections.abc import Callable, Mapping
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
from runtime_stub.script import USAGE, BadArguments, whole_numbers, words_of

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
