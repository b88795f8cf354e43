"""StubRuntime: performs actions in an in-memory workspace, deterministically."""

import asyncio
from collections.abc import Mapping, Sequence

from events.actions import Action, CmdRunAction, TaskTrackingAction
from events.observations import (
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    Observation,
)
from runtime_stub import keeping, shell
from runtime_stub.answers import TaskList, answer, unconfirmed
from runtime_stub.base import (
    FileChange,
    FileVersions,
    Runtime,
    RuntimeBuilder,
    RuntimeStatus,
    Snapshot,
    WorkspaceLimits,
)
from runtime_stub.errors import BadWorkspacePath, RuntimeUnavailable, WorkspaceError, named
from runtime_stub.outcome import Outcome, failed
from runtime_stub.workspace import MAX_BYTES, Workspace, resolve

HOSTNAME = "stub"


class StubRuntime(Runtime):
    """A workspace in memory, which is kept as a snapshot while there is no runtime.

    Actions run one at a time, in the order of their arrival. Commands keep their current folder
    from one to the next; file actions are relative to the workspace's root. A command line works
    on a copy that takes the workspace's place when it is through, so giving up changes nothing.
    """

    # No `browse`: its pages are stand-ins.
    performs = frozenset(("run", "read", "write", "edit", "task_tracking"))

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._workspace = Workspace(max_bytes=max_bytes)
        self._draft: Workspace | None = None
        self._environment: dict[str, str] = {}
        self._tasks = TaskList()
        self._turn = asyncio.Lock()
        self._status = RuntimeStatus.STOPPED
        self._closed = False

    @property
    def status(self) -> RuntimeStatus:
        """Return READY between `connect` and `close`, else STOPPED."""
        return self._status

    async def connect(self) -> None:
        """Make the runtime ready. Raises RuntimeUnavailable after `close`."""
        if self._closed:
            raise RuntimeUnavailable("the runtime was closed")
        self._status = RuntimeStatus.READY

    async def close(self) -> None:
        """Discard the workspace; a running command ends with RuntimeUnavailable."""
        self._closed = True
        self._status = RuntimeStatus.STOPPED
        self._workspace = Workspace()
        self._environment.clear()

    async def perform(self, action: Action) -> Observation:
        """Perform one action, after earlier ones."""
        self._ready_workspace()
        async with self._turn:
            if (refused := unconfirmed(action)) is not None:
                return refused
            try:
                return await self._answer(action)
            except WorkspaceError as error:
                return ErrorObservation(content=str(error))

    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """Merge `variables` into the environment of commands."""
        merged = {**self._environment, **variables}
        self._environment = {name: value for name, value in merged.items() if value is not None}

    async def read_file(self, path: str) -> bytes:
        """Return a file's bytes as they were before a running command."""
        return self._ready_workspace().read(resolve(path))

    async def write_file(self, path: str, content: bytes) -> str:
        """Write a file at once, even during a running command."""
        target = resolve(path)
        # A command under way would otherwise put its older copy over the file.
        workspaces = [self._ready_workspace(), *([self._draft] if self._draft else [])]
        for workspace in workspaces:
            workspace.check_write(target, len(content))
        for workspace in workspaces:
            workspace.write(target, content)
        return target

    async def list_files(self, path: str = "") -> Sequence[str]:
        """List a folder, sorted, folders with a trailing slash."""
        return self._ready_workspace().children(resolve(path or "."))

    async def changes(self) -> Sequence[FileChange] | None:
        """Compare the files with the last commit; an untracked file is `U`."""
        workspace = self._ready_workspace()
        if workspace.repository is None:
            return None
        return workspace.repository.changes(workspace.repository_files(workspace.repository))

    async def versions(self, path: str) -> FileVersions | None:
        """Look the path up in the last commit of the branch and among the files."""
        workspace = self._ready_workspace()
        repository = workspace.repository
        if repository is None:
            return None
        target = resolve(path, repository.root)
        if not target.startswith(f"{repository.root}/"):
            raise BadWorkspacePath(f"{named(path)}: the path leaves the repository")
        name = target.removeprefix(f"{repository.root}/")
        committed = repository.head.files if repository.head else {}
        return FileVersions(committed.get(name), workspace.files.get(target))

    async def branch(self) -> str | None:
        """Tell the current branch, which may have no commit yet."""
        repository = self._ready_workspace().repository
        return None if repository is None else repository.branch

    async def snapshot(
        self,
        limits: WorkspaceLimits,  # noqa: ARG002 - taking one costs nothing, and who keeps it checks
    ) -> Snapshot | None:
        """Return the workspace as it was before a running command."""
        workspace = self._ready_workspace()
        return keeping.snapshot_of(workspace, self._tasks.tasks)

    async def restore(self, snapshot: Snapshot) -> str | None:
        """Begin with a snapshot. Raises WorkspaceError for one that does not fit in."""
        workspace = Workspace(max_bytes=self._workspace.max_bytes)
        self._tasks = TaskList(keeping.restore(workspace, snapshot))
        self._workspace = workspace
        return None

    def _ready_workspace(self) -> Workspace:
        if self._status is not RuntimeStatus.READY:
            raise RuntimeUnavailable("the runtime is not connected")
        return self._workspace

    async def _answer(self, action: Action) -> Observation:
        workspace = self._ready_workspace()
        match action:
            case CmdRunAction():
                return await self._run(action)
            case TaskTrackingAction():
                return self._tasks.track(action)
            case _:
                return answer(workspace, action)

    async def _run(self, action: CmdRunAction) -> CmdOutputObservation:
        draft = self._ready_workspace().copy()
        home = draft.cwd
        if action.cwd is not None:
            draft.cwd = resolve(action.cwd)
            if not draft.is_folder(draft.cwd):
                raise BadWorkspacePath(f"{action.cwd}: No such folder")
        if action.is_input:
            return _told(action, draft, failed("No command is waiting for input."))
        self._draft = draft
        try:
            outcome = await self._follow(draft, action)
        finally:
            self._draft = None
        self._ready_workspace()
        observation = _told(action, draft, outcome)
        if action.cwd is not None and draft.is_folder(home):
            draft.cwd = home
        self._workspace = draft
        return observation

    async def _follow(self, draft: Workspace, action: CmdRunAction) -> Outcome:
        steps = shell.run(draft, action.command, self._environment, whole=action.hidden)
        while True:
            try:
                pause_seconds = next(steps)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                return outcome
            await asyncio.sleep(pause_seconds)


class StubRuntimeBuilder(RuntimeBuilder):
    """Builds a fresh StubRuntime each time; `max_bytes` bounds each workspace."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    async def build(
        self,
        conversation_id: str,  # noqa: ARG002 - the contract's; one workspace is as another
        user_id: str | None,  # noqa: ARG002
    ) -> Runtime:
        """Build an empty workspace."""
        return StubRuntime(max_bytes=self._max_bytes)


def _told(action: CmdRunAction, workspace: Workspace, outcome: Outcome) -> CmdOutputObservation:
    shown = outcome.output.decode("utf-8", "replace") + outcome.errors
    return CmdOutputObservation(
        content=shown.removesuffix("\n"),
        command=action.command,
        hidden=action.hidden,
        metadata=CmdOutputMetadata(
            exit_code=outcome.exit_code,
            username=shell.USER,
            hostname=HOSTNAME,
            working_dir=workspace.cwd,
        ),
    )
