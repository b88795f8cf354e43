"""A workspace's answers to actions that need no shell: files, pages, thoughts, refusals."""

from urllib.parse import urlsplit

from events.actions import (
    Action,
    AgentThinkAction,
    BrowseInteractiveAction,
    BrowseURLAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    IPythonRunCellAction,
    MCPAction,
)
from events.observations import (
    AgentThinkObservation,
    BrowserOutputObservation,
    ErrorObservation,
    FileEditObservation,
    FileReadObservation,
    FileWriteObservation,
    Observation,
)
from runtime_stub.editing import difference, edited, rewritten, selected
from runtime_stub.errors import WorkspaceError, named
from runtime_stub.workspace import Workspace, resolve

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""A longer file is not split into lines, which would keep everyone waiting."""
MAX_SHOWN_CHARACTERS = 1024 * 1024
"""More text of a file than this is never put into an event."""

_PAGE = """\
A page from the stub browser

This workspace has no network. The page you asked for, {url}, was not fetched; this text stands \
in for it and is the same for every address."""


def answer(workspace: Workspace, action: Action) -> Observation:
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


def _text(workspace: Workspace, path: str) -> str:
    if workspace.size(path) > MAX_TEXT_BYTES:
        raise WorkspaceError(f"{path}: the file is too long to be handled as text.")
    return workspace.read_text(path)


def _read(workspace: Workspace, action: FileReadAction) -> Observation:
    text = _text(workspace, resolve(action.path))
    text = selected(text, action.start, action.end, action.view_range)
    if len(text) > MAX_SHOWN_CHARACTERS:
        raise WorkspaceError(
            f"{action.path}: {len(text)} characters are too many to show: ask for fewer lines."
        )
    return FileReadObservation(content=text, path=action.path, impl_source=action.impl_source)


def _write(workspace: Workspace, action: FileWriteAction) -> Observation:
    path = resolve(action.path)
    text = action.content
    if (action.start, action.end) != (0, -1) and workspace.is_file(path):
        text = rewritten(_text(workspace, path), text, action.start, action.end)
    workspace.write(path, text.encode())
    return FileWriteObservation(content="", path=action.path)


def _edit(workspace: Workspace, action: FileEditAction) -> Observation:
    if action.command == "view":
        return _read(workspace, FileReadAction(path=action.path))
    path = resolve(action.path)
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
