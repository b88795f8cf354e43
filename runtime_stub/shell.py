"""The shell of a workspace: runs a command line step by step, handing every wait to its caller."""

from collections.abc import Generator, Mapping

from runtime_stub.commands import execute
from runtime_stub.errors import WorkspaceError
from runtime_stub.outcome import Outcome, failed
from runtime_stub.syntax import SimpleCommand, SyntaxRefused, Word, parse
from runtime_stub.workspace import ROOT, Workspace, resolve

USER = "dev"
SHOWN_BYTES = 384 * 1024
"""Characters kept of both ends of a longer output: the part shown in an observation, and the
longest secret that may extend beyond it."""
WHOLE_BYTES = 8 * 1024 * 1024
"""The longest output that is kept whole on request."""


def run(
    workspace: Workspace, line: str, environment: Mapping[str, str], *, whole: bool = False
) -> Generator[float, None, Outcome]:
    """Run `line`; yields seconds to wait before it goes on, returns what was shown and the code.

    The outcome's `output` is everything shown, errors included, in order; without `whole` both ends of
    a long one. The workspace changes
    as the commands run: who must be able to give up in between runs the line on a copy.
    """
    try:
        commands = parse(line)
    except SyntaxRefused as error:
        text = f"bash: {error}\n".encode("utf-8", "replace")
        return Outcome(output=text, exit_code=2)

    shown = bytearray()
    exit_code = 0
    for index, command in enumerate(commands):
        if (command.condition == "&&" and exit_code) or (
            command.condition == "||" and not exit_code
        ):
            continue
        if index:
            yield 0.0
        outcome = _run_one(workspace, command, {**environment, "?": str(exit_code)})
        if outcome.pause_seconds:
            yield outcome.pause_seconds
        exit_code = outcome.exit_code
        shown += outcome.output + outcome.errors.encode("utf-8", "replace")
        if whole and len(shown) > WHOLE_BYTES:
            raise WorkspaceError(f"the output exceeds {WHOLE_BYTES} bytes")
        if not whole and len(shown) > 2 * SHOWN_BYTES:
            del shown[SHOWN_BYTES:-SHOWN_BYTES]
    return Outcome(output=bytes(shown), exit_code=exit_code)


def _run_one(
    workspace: Workspace, command: SimpleCommand, environment: Mapping[str, str]
) -> Outcome:
    variables = {"HOME": ROOT, "USER": USER, **environment, "PWD": workspace.cwd}
    try:
        words = _expand(command.words, variables, workspace.max_bytes)
        targets = [
            (_redirect_target(workspace, target, variables), append)
            for target, append in command.redirects
        ]
        outcome = execute(workspace, words) if words else Outcome()
        for index, (path, append) in enumerate(targets):
            # As in bash, every target is opened and only the last one gets the output.
            output = outcome.output if index == len(targets) - 1 else b""
            before = workspace.read(path) if append and workspace.is_file(path) else b""
            workspace.write(path, before + output)
    except WorkspaceError as error:
        return failed(f"bash: {error}")
    if targets:
        return Outcome(b"", outcome.errors, outcome.exit_code, outcome.pause_seconds)
    return outcome


def _expand(words: list[Word], variables: Mapping[str, str], max_characters: int) -> list[str]:
    expanded: list[str] = []
    total = 0
    for word in words:
        text = word.expand(variables)
        if text is not None:
            expanded.append(text)
            total += len(text)
        if total > max_characters:
            raise WorkspaceError("the expanded command is too long")
    return expanded


def _redirect_target(workspace: Workspace, word: Word, variables: Mapping[str, str]) -> str:
    name = word.expand(variables) or ""
    path = resolve(name, workspace.cwd)
    if workspace.is_folder(path):
        raise WorkspaceError(f"{name}: Is a directory")
    if not workspace.is_folder(path.rpartition("/")[0]):
        raise WorkspaceError(f"{name}: No such file or directory")
    return path
