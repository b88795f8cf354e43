"""A workspace's answers to actions that need no shell: files, tasks, pages, thoughts, refusals."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from events.actions import (
    Action,
    AgentThinkAction,
    BrowseInteractiveAction,
    BrowseURLAction,
    CmdRunAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    IPythonRunCellAction,
    MCPAction,
    TaskTrackingAction,
)
from events.event import ConfirmationState
from events.observations import (
    AgentThinkObservation,
    BrowserOutputObservation,
    ErrorObservation,
    FileEditObservation,
    FileReadObservation,
    FileWriteObservation,
    Observation,
    TaskTrackingObservation,
    UserRejectObservation,
)
from runtime_stub.editing import difference, edited, rewritten, selected
from runtime_stub.errors import WorkspaceError, named

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""A longer file is not split into lines, which would keep everyone waiting."""
MAX_SHOWN_CHARACTERS = 1024 * 1024
"""More text of a file than this is never put into an event."""

_PAGE = """\
A page from the stub browser

This workspace has no network. The page you asked for, {url}, was not fetched; this text stands \
in for it and is the same for every address."""


class Files(Protocol):
    """The files of a workspace; all paths but the one that `resolve` takes are canonical.

    The methods raise WorkspaceErrors, and a write is all or nothing.
    """

    def resolve(self, path: str) -> str:
        """Return the canonical form of a path, absolute or from the root. Raises BadWorkspacePath."""

    def is_file(self, path: str) -> bool:
        """Return whether there is a file at `path`."""

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder at `path`."""

    def size(self, path: str) -> int:
        """Count the bytes of a file; 0 for anything else."""

    def read_text(self, path: str) -> str:
        """Return the text of a file. Raises FileMissing, BadWorkspacePath, NotText."""

    def write(self, path: str, content: bytes) -> None:
        """Write a whole file, and its folders where missing. Raises BadWorkspacePath."""


class TaskList:
    """The tasks that an agent has planned, as it last said them."""

    def __init__(self, tasks: Sequence[dict[str, object]] = ()) -> None:
        self.tasks = list(tasks)

    def track(self, action: TaskTrackingAction) -> TaskTrackingObservation:
        """Replace the tasks, or show them. Raises WorkspaceError for any other command."""
        if action.command == "plan":
            self.tasks = list(action.task_list)
        elif action.command != "view":
            raise WorkspaceError(f"Unknown task command {action.command!r}: use view or plan.")
        lines = [
            f"{number}. [{task.get('status', 'todo')}] {task.get('title', '')}"
            for number, task in enumerate(self.tasks, start=1)
        ]
        return TaskTrackingObservation(
            content="\n".join(lines) or "The task list is empty.",
            command=action.command,
            task_list=self.tasks,
        )


def unconfirmed(action: Action) -> Observation | None:
    """Return the answer to an action that a person has refused or not yet confirmed; else None."""
    if isinstance(action, CmdRunAction | IPythonRunCellAction):
        match action.confirmation_state:
            case ConfirmationState.REJECTED:
                return UserRejectObservation(
                    content="Action has been rejected by the user! Waiting for further user input."
                )
            case ConfirmationState.AWAITING_CONFIRMATION:
                return ErrorObservation(content="The action has not been confirmed yet.")
            case ConfirmationState.CONFIRMED:
                pass
    return None


def answer(workspace: Files, action: Action) -> Observation:
    """Perform one action. Raises WorkspaceError, with nothing changed, if a file cannot be served."""
    match action:
        case FileReadAction():
            return _read(workspace, action)
        case FileWriteAction():
            return _write(workspace, action)
        case FileEditAction():
            return _edit(workspace, action)
        case BrowseURLAction():
            return _browse(action)
        case AgentThinkAction():
            return AgentThinkObservation(content="Your thought has been logged.")
        case _:
            return refusal(action)


def refusal(action: Action) -> ErrorObservation:
    """Answer an action that this workspace cannot carry out."""
    match action:
        case IPythonRunCellAction():
            text = "This workspace has no Python. Shell commands and file actions work."
        case BrowseInteractiveAction():
            text = "This workspace shows single pages only; nothing in them can be operated."
        case MCPAction():
            text = f"The tool {action.name} cannot be called: no tool server is connected."
        case _:
            text = f"A workspace does not carry out actions of the kind {action.kind}."
    return ErrorObservation(content=text, error_id="AGENT_ERROR$BAD_ACTION")


def _text(workspace: Files, path: str) -> str:
    if workspace.size(path) > MAX_TEXT_BYTES:
        raise WorkspaceError(f"{path}: the file is too long to be handled as text.")
    return workspace.read_text(path)


def _read(workspace: Files, action: FileReadAction) -> Observation:
    text = _text(workspace, workspace.resolve(action.path))
    text = selected(text, action.start, action.end, action.view_range)
    if len(text) > MAX_SHOWN_CHARACTERS:
        raise WorkspaceError(
            f"{action.path}: {len(text)} characters are too many to show: ask for fewer lines."
        )
    return FileReadObservation(content=text, path=action.path, impl_source=action.impl_source)


def _write(workspace: Files, action: FileWriteAction) -> Observation:
    path = workspace.resolve(action.path)
    text = action.content
    if (action.start, action.end) != (0, -1) and workspace.is_file(path):
        text = rewritten(_text(workspace, path), text, action.start, action.end)
    workspace.write(path, text.encode())
    return FileWriteObservation(content="", path=action.path)


def _edit(workspace: Files, action: FileEditAction) -> Observation:
    if action.command == "view":
        return _read(workspace, FileReadAction(path=action.path))
    path = workspace.resolve(action.path)
    existed = workspace.is_file(path) or workspace.is_folder(path)
    old = _text(workspace, path) if existed else None
    new = edited(action, old)
    if len(old or "") + len(new) > MAX_SHOWN_CHARACTERS:
        raise WorkspaceError(f"{action.path}: the file is too long to edit: write it instead.")
    workspace.write(path, new.encode())
    diff = difference(action.path, old or "", new)
    return FileEditObservation(
        content=diff or "The file is unchanged.",
        path=action.path,
        prev_exist=existed,
        old_content=old,
        new_content=new,
        impl_source=action.impl_source,
        diff=diff,
    )


def _browse(action: BrowseURLAction) -> Observation:
    try:
        address = urlsplit(action.url)
        usable = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise WorkspaceError(f"{named(action.url)} is not an address that a browser can open.")
    return BrowserOutputObservation(
        content=_PAGE.format(url=action.url), url=action.url, trigger_by_action=action.kind
    )
