"""The contracts of runtimes, which carry out an agent's actions, and of their builders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from events.actions import Action
from events.observations import Observation
from runtime_stub.tools import Tool
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

__all__ = [
    "FileChange",
    "FileVersions",
    "Runtime",
    "RuntimeBuilder",
    "RuntimeStatus",
    "Snapshot",
    "WorkspaceLimits",
]


class RuntimeStatus(StrEnum):
    """The status of a runtime, as on the wire (`runtime_status`)."""

    STOPPED = "STATUS$STOPPED"
    STARTING = "STATUS$STARTING_RUNTIME"
    STARTED = "STATUS$RUNTIME_STARTED"
    READY = "STATUS$READY"
    ERROR = "STATUS$ERROR"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One changed path of the workspace's repository: `status` is one of M A D R U."""

    status: str
    path: str


@dataclass(frozen=True, slots=True)
class FileVersions:
    """One path of the repository as last committed and as it is now; None where it is not there."""

    original: bytes | None
    modified: bytes | None


class Runtime(ABC):
    """Performs actions in one conversation's workspace.

    `perform` answers every action with an observation, failing commands included; it raises
    `RuntimeUnavailable` only when the runtime itself is gone. File operations take absolute
    workspace paths or paths relative to its root and raise `WorkspaceError`s. Cancelling any call
    is safe: a file is as it was before or after the call, never between, and a command is over,
    with nothing of it done later; what it had done to files by then may stay.
    """

    idempotent: ClassVar[frozenset[str]] = frozenset()
    """Kinds of action that may be carried out twice: one that a crash left open is then carried out
    again instead of being answered with an error."""
    performs: ClassVar[frozenset[str]] = frozenset()
    """Kinds of action that are of use to a model here: agents are offered them as `Turn.tools`."""
    changes_alone: ClassVar[bool] = False
    """Whether files may change while no action is under way, as by processes in the background: a
    snapshot is then taken when the runtime is closed, even if nothing was done since the last."""

    @property
    def root(self) -> str:
        """The absolute path of the workspace's root as commands see it, without a slash at its end."""
        return "/workspace"

    @property
    @abstractmethod
    def status(self) -> RuntimeStatus:
        """The current status; changes only in `connect` and `close`."""

    @abstractmethod
    async def connect(self) -> None:
        """Make the runtime ready; a second call is a no-op. Raises RuntimeUnavailable."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything; a second call is a no-op."""

    @abstractmethod
    async def perform(self, action: Action) -> Observation:
        """Perform one action. The observation has no id, source or cause yet."""

    async def tools(self) -> Sequence[Tool]:
        """Return what agents are offered besides the kinds in `performs`, as from tool servers.

        Called as a turn begins. What is not there now is left out: this default has none.
        """
        return ()

    @abstractmethod
    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """Merge `variables` (secrets among them) into the environment of later commands.

        None removes a variable; an absent one is ignored.
        """

    @abstractmethod
    async def read_file(self, path: str) -> bytes:
        """Return the bytes of a file. Raises FileMissing, BadWorkspacePath."""

    @abstractmethod
    async def write_file(self, path: str, content: bytes) -> str:
        """Write a file and its folders; the absolute path written. Raises BadWorkspacePath."""

    @abstractmethod
    async def list_files(self, path: str = "") -> Sequence[str]:
        """Return the sorted names in a folder, folders with a trailing slash. Raises FileMissing."""

    @abstractmethod
    async def changes(self) -> Sequence[FileChange] | None:
        """Return the uncommitted changes, sorted by path; None when there is no repository.

        Raises WorkspaceError where that cannot be told, as `versions` and `branch` do.
        """

    @abstractmethod
    async def versions(self, path: str) -> FileVersions | None:
        """Return a path as `changes` names it, before and after; None when there is no repository.

        Raises BadWorkspacePath.
        """

    @abstractmethod
    async def branch(self) -> str | None:
        """Return the branch of the workspace's repository; None when there is none."""

    async def snapshot(self, limits: WorkspaceLimits) -> Snapshot | None:  # noqa: ARG002
        """Return the workspace as it is now, to be kept for the conversation's next runtime.

        Called when the agent has come to rest, and before `close`. An action that begins meanwhile
        is in the snapshot wholly or not at all. Raises WorkspaceTooLarge for a workspace beyond the
        limits, which a large one should find before it is read; then, as at any other failure, the
        one that was kept last stays. This default returns None: nothing is kept.
        """
        return None

    async def restore(self, snapshot: Snapshot) -> str | None:  # noqa: ARG002
        """Begin with a workspace that an earlier runtime of the conversation returned.

        Called before `connect`, at most once, and only where one was kept. Returns what people and
        the agent should know of it, if anything, in words. Raises WorkspaceError and
        RuntimeUnavailable, which end the start. This default ignores it.
        """
        return None


class RuntimeBuilder(ABC):
    """Builds runtimes. One builder serves all conversations of a process."""

    @abstractmethod
    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        """Return a runtime for the conversation, not yet connected. Raise RuntimeUnavailable.

        `user_id` is the id of the conversation's owner, an opaque text; None where it has no owner.
        """

    async def forget(self, conversation_id: str) -> None:  # noqa: B027 - optional
        """Remove what is still there of the conversation's runtimes; it is being deleted, and none runs.

        Called before its records go: a kill in between leaves a conversation that can be deleted
        again, and begins with the workspace that was kept last. What is raised is logged. This
        default does nothing.
        """
