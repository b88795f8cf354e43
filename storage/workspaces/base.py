"""The WorkspaceStore contract: the files of a conversation's workspace at its last rest, whole."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from storage.workspaces.manifest import Loaded
from storage.workspaces.snapshot import USUAL_LIMITS, Snapshot, WorkspaceLimits

Hold = Callable[[str], AbstractAsyncContextManager[object]]
"""Holds a conversation while something is written beside its log.

Raises ConversationNotFound where there is no log, ConversationDeleted, Unavailable.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A kept workspace without its contents: files and their sizes in bytes, folders without files.

    `kept_at` is when it was saved.
    """

    kept_at: datetime
    files: Mapping[str, int]
    folders: AbstractSet[str]


class WorkspaceStore(ABC):
    """Keeps one snapshot for each conversation: the one that was saved last, whole.

    A conversation has a log before it has a workspace. Reads raise Unavailable, and Damaged if it
    cannot be told what is kept; an unknown or deleted conversation has nothing kept. Drivers' errors
    never leave the store.

    On media that outlast the process, contents and names of files are encrypted. Every call may raise
    WrongKey when what is kept was sealed with a key that is not at hand; then nothing was written.
    """

    def __init__(self, limits: WorkspaceLimits = USUAL_LIMITS) -> None:
        self.limits = limits

    @abstractmethod
    async def save(self, conversation_id: str, snapshot: Snapshot) -> None:
        """Replace what is kept by the snapshot, as a whole; done when that is durable.

        Writes nothing if it is the same. Whatever ends it early, a kill included, leaves the earlier
        snapshot or this one. Saves of one conversation take their turns.

        Raises WorkspaceTooLarge beyond `limits`, ConversationNotFound without a log,
        ConversationDeleted, Unavailable: the earlier one stays; OutcomeUnknown: only reading tells.
        """

    @abstractmethod
    async def load(self, conversation_id: str) -> Loaded | None:
        """Return what is kept, None where nothing is. Damaged files are left out and named."""

    @abstractmethod
    async def kept(self, conversation_id: str) -> Kept | None:
        """Return what is kept without the contents, None where nothing is."""

    @abstractmethod
    async def read(self, conversation_id: str, path: str) -> bytes:
        """Return one file. Raises KeyNotFound, and Damaged if this file is."""

    @abstractmethod
    async def delete(self, conversation_id: str) -> None:
        """Drop what is kept, after the saves under way; nothing kept is no error.

        What a kill leaves of that is dropped with the conversation: its log's deletion drops the
        workspace too, and is finished at the next start. Raises Unavailable, OutcomeUnknown.
        """
