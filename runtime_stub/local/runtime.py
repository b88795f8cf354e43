"""LocalRuntime: performs actions on this machine, in a directory per conversation."""

import asyncio
import logging
import os
import pwd
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from events.actions import (
    Action,
    BrowseURLAction,
    CmdRunAction,
    IPythonRunCellAction,
    TaskTrackingAction,
)
from events.observations import (
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    Observation,
)
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
from runtime_stub.errors import (
    BadWorkspacePath,
    FileMissing,
    RuntimeUnavailable,
    WorkspaceError,
    named,
)
from runtime_stub.local import git, snapshots
from runtime_stub.local.files import LocalFiles, Room
from runtime_stub.local.keeper import PR_SET_DUMPABLE, prctl
from runtime_stub.local.options import LocalOptions
from runtime_stub.local.places import Place, Places
from runtime_stub.local.processes import Finished, Processes, Request
from runtime_stub.shell import SHOWN_BYTES, WHOLE_BYTES
from runtime_stub.workspace import resolve
from storage.errors import WorkspaceTooLarge

logger = logging.getLogger(__name__)

OWN_USER = "agent"
"""The name that commands see where the workspace has a user of its own, which has none."""
FAILED = 1
NOT_HERE = {
    BrowseURLAction: "Pages are not opened here. Commands such as curl reach the network.",
    IPythonRunCellAction: "There is no kernel here. Commands such as python3 run Python.",
}

P = ParamSpec("P")
T = TypeVar("T")


class LocalRuntime(Runtime):
    """Runs commands as processes of this machine; docs/local.md says what holds them, and what does not.

    Actions run one at a time. Commands keep their current folder from one to the next, and what
    they leave running goes on until the runtime is closed. A command that is cancelled is ended
    with all that it began; what it did to files stays.
    """

    performs = frozenset(("run", "read", "write", "edit", "task_tracking"))
    changes_alone = True

    def __init__(self, name: str, places: Places, options: LocalOptions, shell: str) -> None:
        self._name = name
        self._places = places
        self.options = options
        self._shell = shell
        self._place: Place | None = None
        self._files: LocalFiles | None = None
        self._processes: Processes | None = None
        self._environment: dict[str, str] = {}
        self._folder: tuple[str, ...] = ()
        self._tasks = TaskList()
        self._turn = asyncio.Lock()
        self._counts = 0
        self._closed = False

    @property
    def status(self) -> RuntimeStatus:
        """Return READY between `connect` and `close`, else STOPPED."""
        connected = self._processes is not None and not self._closed
        return RuntimeStatus.READY if connected else RuntimeStatus.STOPPED

    @property
    def root(self) -> str:
        """The directory of the workspace; known once it was connected."""
        return super().root if self._place is None else self._place.root

    async def connect(self) -> None:
        """Make the directory and start the keeper of its processes. Raises RuntimeUnavailable."""
        if self._closed:
            raise RuntimeUnavailable("the runtime was closed")
        if self._processes is None:
            place, _ = await self._opened()
            await self._in_thread(Path(place.restoring).unlink, missing_ok=True)
            self._processes = await self._start_processes(place)
            self._counts = 0

    async def close(self) -> None:
        """End every process of the workspace. Its files stay."""
        self._closed = True
        processes, self._processes = self._processes, None
        self._environment.clear()
        if processes is None or self._place is None:
            return
        if not await processes.close() and self._place.user is not None:
            # A keeper begins by ending all processes of its workspace's user.
            await (await self._start_processes(self._place)).close()

    async def perform(self, action: Action) -> Observation:
        """Perform one action, after earlier ones."""
        self._ready()
        async with self._turn:
            if (refused := unconfirmed(action)) is not None:
                return refused
            try:
                return await self._answer(action)
            except WorkspaceError as error:
                return ErrorObservation(content=str(error))

    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """Merge `variables` into the environment of commands; those no process can have are left out."""
        merged = {**self._environment, **variables}
        self._environment = {
            name: _whole(value)
            for name, value in merged.items()
            if value is not None and name and "=" not in name and "\0" not in f"{name}{value}"
        }

    async def read_file(self, path: str) -> bytes:
        """Return a file's bytes."""
        files = self._ready()
        return await self._in_thread(files.read, files.resolve(path))

    async def write_file(self, path: str, content: bytes) -> str:
        """Write a file at once, even during a running command."""
        files = self._ready()
        target = files.resolve(path)
        await self._in_thread(files.write, target, content)
        return target

    async def list_files(self, path: str = "") -> Sequence[str]:
        """List a folder, sorted, folders with a trailing slash."""
        files = self._ready()
        return await self._in_thread(files.children, files.resolve(path or "."))

    async def changes(self) -> Sequence[FileChange] | None:
        """Ask git; an untracked file is `U`. Raises WorkspaceError where git fails.

        Pages do not wait for a command of the agent, nor it for them: what they are shown meanwhile
        is as git finds it.
        """
        found = await self._git(git.status())
        return None if found is None else git.changes_in(found.output)

    async def versions(self, path: str) -> FileVersions | None:
        """Ask git for the committed file, and read the present one."""
        top = await self._git(git.branch())
        if top is None:
            return None
        files = self._ready()
        target = resolve(path, top.top, top.top)
        if target == top.top:
            raise BadWorkspacePath(f"{named(path)}: Is a directory")
        try:
            committed = await self._git(git.content(target.removeprefix(f"{top.top}/")))
        except FileMissing:
            committed = None
        try:
            present = await self._in_thread(files.read, files.resolve(target))
        except FileMissing:
            present = None
        return FileVersions(None if committed is None else committed.output, present)

    async def branch(self) -> str | None:
        """Ask git for the current branch, which may have no commit yet."""
        found = await self._git(git.branch())
        return None if found is None else found.output.decode("utf-8", "replace").strip() or None

    async def snapshot(self, limits: WorkspaceLimits) -> Snapshot | None:
        """Return the files as they are, links and modes as records of this runtime.

        Of a workspace beyond the limits nothing is returned: its directory stays all the same.
        """
        self._ready()
        place, files = await self._opened()
        async with self._turn:
            try:
                return await self._in_thread(snapshots.taken, place, files, limits)
            except WorkspaceTooLarge:
                return None

    async def restore(self, snapshot: Snapshot) -> str | None:
        """Write the files, unless the directory of the conversation has them, or newer ones.

        Others are set aside. What an earlier call was to write and did not finish is written again.
        """
        place, files = await self._opened()
        over = threading.Event()
        try:
            return await self._in_thread(
                snapshots.given, self._places, place, files, snapshot, over.is_set
            )
        finally:
            over.set()

    def _ready(self) -> LocalFiles:
        if self._closed or self._processes is None or self._files is None:
            raise RuntimeUnavailable("the runtime is not connected")
        used = self._processes.used
        if used.counts != self._counts:
            # Until it is counted again, the files themselves add what is written.
            self._counts = used.counts
            self._files.room = self._room(used.size, used.entries)
        return self._files

    async def _start_processes(self, place: Place) -> Processes:
        limits = self.options.limits
        return await Processes.start(place, limits, self._shell, sys.executable)

    def _room(self, used_bytes: int, used_entries: int) -> Room:
        limits = self.options.limits
        return Room(limits.disk_bytes, limits.disk_entries, used_bytes, used_entries)

    async def _opened(self) -> tuple[Place, LocalFiles]:
        if self._place is None or self._files is None:
            self._place = place = await self._in_thread(self._places.prepare, self._name)
            self._files = LocalFiles(place.root, place.temporary, place.user, self._room(0, 0))
        return self._place, self._files

    @staticmethod
    async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(call, *args, **kwargs)

    async def _answer(self, action: Action) -> Observation:
        files = self._ready()
        match action:
            case CmdRunAction():
                return await self._run(action)
            case TaskTrackingAction():
                return self._tasks.track(action)
            case BrowseURLAction() | IPythonRunCellAction():
                text = NOT_HERE[type(action)]
                return ErrorObservation(content=text, error_id="AGENT_ERROR$BAD_ACTION")
            case _:
                return await self._in_thread(answer, files, action)

    async def _run(self, action: CmdRunAction) -> CmdOutputObservation:
        files = self._ready()
        folder = self._folder
        if action.cwd is not None:
            path = files.resolve(action.cwd)
            if not await self._in_thread(files.is_folder, path):
                raise BadWorkspacePath(f"{action.cwd}: No such folder")
            folder = self._parts(path)
        if action.is_input:
            said = b"No command is waiting for input."
            finished = Finished(FAILED, said, len(said), None, ())
        else:
            kept = WHOLE_BYTES // 2 if action.hidden else SHOWN_BYTES
            finished = await self._execute(action.command, folder, kept)
        if action.hidden and finished.total > WHOLE_BYTES:
            raise WorkspaceError(f"the output exceeds {WHOLE_BYTES} bytes")
        folder = await self._folder_after(finished, folder)
        if action.cwd is None:
            self._folder = folder
        return self._observation(action, finished, folder)

    async def _execute(
        self, command: str, folder: Sequence[str], kept_bytes: int, *, beside: bool = False
    ) -> Finished:
        self._ready()
        if self._processes is None:
            raise RuntimeUnavailable("the runtime is not connected")
        request = Request(
            command=command,
            folder=folder,
            environment=self._variables(),
            kept_bytes=kept_bytes,
        )
        return await self._processes.run(request, beside=beside)

    async def _git(self, question: str) -> git.Answer | None:
        self._ready()

        async def run(command: str, folder: Sequence[str]) -> Finished:
            return await self._execute(command, folder, git.KEPT_BYTES, beside=True)

        return await git.ask(run, self._folder, question)

    def _variables(self) -> dict[str, str]:
        place = self._place
        if place is None:
            raise RuntimeUnavailable("the runtime is not connected")
        user = self._user_name()
        return {
            **self.options.given(),
            "HOME": place.home,
            "USER": user,
            "LOGNAME": user,
            "SHELL": self._shell,
            "TMPDIR": place.temporary,
            "TERM": "dumb",
            "PAGER": "cat",
            "GIT_PAGER": "cat",
            "GIT_TERMINAL_PROMPT": "0",
            # The repository that the server's own directory may be in is none of the workspace's.
            "GIT_CEILING_DIRECTORIES": place.directory,
            **self._environment,
        }

    def _user_name(self) -> str:
        if self._place is not None and self._place.user is not None:
            return OWN_USER
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return str(os.geteuid())

    def _parts(self, path: str) -> tuple[str, ...]:
        return tuple(filter(None, path.removeprefix(self.root).split("/")))

    async def _folder_after(self, finished: Finished, before: tuple[str, ...]) -> tuple[str, ...]:
        """Return the folder in which a shell ended if it is one of the workspace, else that before."""
        files = self._ready()
        if finished.folder is None:
            return before
        try:
            path = files.resolve(finished.folder)
        except BadWorkspacePath:
            return before
        return self._parts(path) if await self._in_thread(files.is_folder, path) else before

    def _observation(
        self, action: CmdRunAction, finished: Finished, folder: Sequence[str]
    ) -> CmdOutputObservation:
        output, left_out = finished.output, finished.total - len(finished.output)
        if left_out > 0:
            half = len(output) // 2
            mark = f"\n[... {left_out} bytes of output were left out ...]\n".encode()
            output = output[:half] + mark + output[half:]
        shown = output.decode("utf-8", "replace").removesuffix("\n")
        return CmdOutputObservation(
            content="\n".join(filter(None, (shown, *finished.notes))),
            command=action.command,
            hidden=action.hidden,
            metadata=CmdOutputMetadata(
                exit_code=finished.code,
                username=self._user_name(),
                hostname=socket.gethostname(),
                working_dir="/".join((self.root, *folder)),
            ),
        )


class LocalRuntimeBuilder(RuntimeBuilder):
    """Builds runtimes on this machine; says at the start of the process what that means.

    Raises RuntimeUnavailable where they cannot work.
    """

    def __init__(self, options: LocalOptions) -> None:
        if not sys.platform.startswith("linux"):
            raise RuntimeUnavailable("commands can be held only on Linux")
        shell = shutil.which("bash", path=options.given()["PATH"])
        if shell is None:
            raise RuntimeUnavailable("commands need bash, which is not in the PATH")
        self.options = options
        self._shell = shell
        self._places = Places(options.directory, options.uids)
        self._places.check()
        self._swept = False
        if os.geteuid() != 0:
            # Commands of the same user then read neither the environment of this process nor its memory.
            prctl(PR_SET_DUMPABLE, 0)

    def warning(self) -> str:
        """Return one line for whoever starts the server: what it means to run commands here."""
        users = self.options.uids
        if os.geteuid() == 0:
            who = f"each conversation as a user of its own (uid {users.start} to {users.stop - 1})"
        else:
            who = "AS THE SERVER'S OWN USER, who may read and write all of that user's files"
        return (
            f"runtime = local: agents run real commands on this machine, {who}, in directories"
            f" below {self.options.directory.absolute()}. They reach the network and this server's port."
            " Read docs/local.md before anybody but you can use this server."
        )

    async def build(
        self,
        conversation_id: str,
        user_id: str | None,  # noqa: ARG002 - the contract's; a directory belongs to a conversation
    ) -> Runtime:
        """Return a runtime for the conversation's directory."""
        if not self._swept:
            self._swept = True
            await asyncio.to_thread(self._places.sweep)
        return LocalRuntime(conversation_id, self._places, self.options, self._shell)

    async def forget(self, conversation_id: str) -> None:
        """Remove the conversation's directory. Raises RuntimeUnavailable."""
        await asyncio.to_thread(self._places.remove, conversation_id)


def _whole(value: str) -> str:
    """Return a variable's value as a process can have it."""
    return value.encode("utf-8", "replace").decode()
