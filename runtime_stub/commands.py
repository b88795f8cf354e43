"""The shell's built-in commands; each reads and changes a workspace and returns at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from runtime_stub.errors import WorkspaceError
from runtime_stub.git import git
from runtime_stub.outcome import Outcome, failed, printed
from runtime_stub.workspace import ROOT, Workspace, resolve

MAX_SLEEP_SECONDS = 24 * 3600.0
_ESCAPE = re.compile(r"\\([nt\\])")
_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\"}


class _BadOption(WorkspaceError):
    """The command does not know an option."""


def _split(arguments: Sequence[str], known: str) -> tuple[set[str], list[str]]:
    """Part the single-letter options, all among the letters `known`, from the operands."""
    options: set[str] = set()
    operands: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            operands += arguments[index + 1 :]
            break
        if argument.startswith("-") and argument != "-":
            options.update(argument[1:])
        else:
            operands.append(argument)
    for letter in sorted(options - set(known)):
        raise _BadOption(f"invalid option -- '{letter}'")
    return options, operands


def _each(
    name: str, operands: Sequence[str], apply: Callable[[str], Outcome], *, verb: str = ""
) -> Outcome:
    """Apply to every operand and go on after a failure, as the real commands do."""
    if not operands:
        return failed(f"{name}: missing operand")
    output: list[bytes] = []
    errors: list[str] = []
    for operand in operands:
        try:
            outcome = apply(operand)
        except WorkspaceError as error:
            outcome = failed(str(error))
        output.append(outcome.output)
        if outcome.exit_code:
            errors.append(f"{name}: {verb}{outcome.errors}")
    return Outcome(b"".join(output), "".join(errors), 1 if errors else 0)


def _echo(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    words = list(arguments)
    options: set[str] = set()
    while words and words[0] in ("-n", "-e", "-ne", "-en"):
        options.update(words.pop(0))
    text = " ".join(words)
    if "e" in options:
        text = _ESCAPE.sub(lambda match: _ESCAPED[match[1]], text)
    end = "" if "n" in options else "\n"
    return Outcome(output=f"{text}{end}".encode("utf-8", "replace"))


def _pwd(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    return printed(workspace.cwd)


def _cd(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    if len(arguments) > 1:
        return failed("bash: cd: too many arguments")
    target = resolve(arguments[0], workspace.cwd) if arguments else ROOT
    if workspace.is_file(target):
        return failed(f"bash: cd: {arguments[0]}: Not a directory")
    if not workspace.is_folder(target):
        return failed(f"bash: cd: {arguments[0]}: No such file or directory")
    workspace.cwd = target
    return Outcome()


def _ls(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    options, operands = _split(arguments, "1aAlh")

    def line(folder: str, name: str) -> str:
        bare = name.removesuffix("/")
        if "l" not in options:
            return bare
        mode = "drwxr-xr-x" if name.endswith("/") else "-rw-r--r--"
        return f"{mode} dev dev {workspace.size(f'{folder}/{bare}'):>8} {bare}"

    def show(operand: str) -> Outcome:
        path = resolve(operand, workspace.cwd)
        if workspace.is_file(path):
            return printed(operand if "l" not in options else line(*path.rsplit("/", 1)))
        if not workspace.is_folder(path):
            return failed(f"cannot access '{operand}': No such file or directory")
        names = workspace.children(path)
        if not options & {"a", "A"}:
            names = [name for name in names if not name.startswith(".")]
        heading = [f"{operand}:"] if len(operands) > 1 else []
        return printed(*heading, *(line(path, name) for name in names))

    return _each("ls", operands or ["."], show)


def _cat(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    _, operands = _split(arguments, "")
    paths = [resolve(operand, workspace.cwd) for operand in operands]
    if sum(workspace.size(path) for path in paths) > workspace.max_bytes:
        return failed(f"cat: the output may not exceed {workspace.max_bytes} bytes")

    def show(operand: str) -> Outcome:
        path = resolve(operand, workspace.cwd)
        if workspace.is_folder(path):
            return failed(f"{operand}: Is a directory")
        if not workspace.is_file(path):
            return failed(f"{operand}: No such file or directory")
        return Outcome(output=workspace.read(path))

    return _each("cat", operands, show)


def _mkdir(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    options, operands = _split(arguments, "p")

    def make(operand: str) -> Outcome:
        path = resolve(operand, workspace.cwd)
        if workspace.is_file(path) or (workspace.is_folder(path) and "p" not in options):
            return failed(f"'{operand}': File exists")
        if "p" not in options and not workspace.is_folder(path.rpartition("/")[0]):
            return failed(f"'{operand}': No such file or directory")
        workspace.make_folder(path)
        return Outcome()

    return _each("mkdir", operands, make, verb="cannot create directory ")


def _rm(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    options, operands = _split(arguments, "rRf")

    def remove(operand: str) -> Outcome:
        path = resolve(operand, workspace.cwd)
        if workspace.is_folder(path) and not options & {"r", "R"}:
            return failed(f"'{operand}': Is a directory")
        if not workspace.is_folder(path) and not workspace.is_file(path):
            missing = failed(f"'{operand}': No such file or directory")
            return Outcome() if "f" in options else missing
        workspace.remove(path)
        return Outcome()

    if "f" in options and not operands:
        return Outcome()
    return _each("rm", operands, remove, verb="cannot remove ")


def _touch(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    _, operands = _split(arguments, "")

    def touch(operand: str) -> Outcome:
        path = resolve(operand, workspace.cwd)
        if not workspace.is_folder(path.rpartition("/")[0]) and path != ROOT:
            return failed(f"'{operand}': No such file or directory")
        if not workspace.is_folder(path) and not workspace.is_file(path):
            workspace.write(path, b"")
        return Outcome()

    return _each("touch", operands, touch, verb="cannot touch ")


def _sleep(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    try:
        (text,) = arguments
        seconds = float(text)
    except ValueError:
        return failed("sleep: expected one number of seconds")
    # Not a number compares as false with everything, so it is refused here too.
    if not 0 <= seconds <= MAX_SLEEP_SECONDS:
        return failed(f"sleep: expected 0 to {MAX_SLEEP_SECONDS:g} seconds")
    return Outcome(pause_seconds=seconds)


def _true(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    return Outcome()


def _false(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    return Outcome(exit_code=1)


COMMANDS: Mapping[str, Callable[[Workspace, Sequence[str]], Outcome]] = MappingProxyType(
    {
        "cat": _cat,
        "cd": _cd,
        "echo": _echo,
        "false": _false,
        "git": git,
        "ls": _ls,
        "mkdir": _mkdir,
        "pwd": _pwd,
        "rm": _rm,
        "sleep": _sleep,
        "touch": _touch,
        "true": _true,
    }
)


def execute(workspace: Workspace, words: Sequence[str]) -> Outcome:
    """Run one command by its words; an unknown name gives exit code 127, as in bash."""
    name, *arguments = words
    command = COMMANDS.get(name)
    if command is None:
        return failed(f"bash: {name}: command not found", exit_code=127)
    try:
        return command(workspace, arguments)
    except _BadOption as error:
        return failed(f"{name}: {error}", exit_code=2)
    except WorkspaceError as error:
        return failed(f"{name}: {error}")
