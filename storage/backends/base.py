"""The contract of a back-end, and the base class of those inside a data directory."""

import errno
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import SecretStr

from storage.audit.base import AuditLog
from storage.config import LocalStorage, SqliteStorage, StorageConfig
from storage.conversations.base import ConversationStores
from storage.conversations.folded import FoldedRecords
from storage.conversations.memory import Fold
from storage.database.base import Database, RowDatabase
from storage.database.migrate import Migrated
from storage.errors import (
    Damaged,
    ForeignData,
    KeyNotFound,
    MigrationError,
    StorageError,
    Unavailable,
)
from storage.files.base import FileStore
from storage.files.format import FORMAT, FORMAT_KEY, format_in, with_checksum
from storage.inventory import Inventory, Track, untracked
from storage.keys import RESERVE_NAME
from storage.medium import Medium, reserving, watching
from storage.sealing.key import Key, find_cipher
from storage.search.base import SearchIndex
from storage.usage.base import UsageStore
from storage.users.base import SecretsStores, SettingsStores, UserRecords
from storage.users.sealed import SealedSecrets, SealedSettings

logger = logging.getLogger(__name__)

SESSIONS = "sessions"
"""The folder of a directory of the V0 server that holds a folder for each conversation."""
V0_FILES = ("settings.json", "secrets.json", ".jwt_secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStorage:
    """The stores of one medium."""

    conversations: ConversationStores
    users: UserRecords
    """The records in which settings and secrets are kept."""
    key: Key
    """Seals settings and secrets, and what the stores of workspaces keep."""
    usage: UsageStore
    audit: AuditLog
    inventory: Inventory
    prove: Callable[[], Awaitable[None]] | None = None
    """Makes a small durable write; None where nothing is durable. Raises StorageError."""
    open_index: Callable[[], Awaitable[SearchIndex]] | None = None
    """Opens the index of full-text search in the medium itself; None where it keeps none.

    It is closed before the medium. Raises StorageError.
    """

    @property
    def settings(self) -> SettingsStores:
        """Return the settings of all users."""
        return SealedSettings(self.users, self.key)

    @property
    def secrets(self) -> SecretsStores:
        """Return the secrets of all users."""
        return SealedSecrets(self.users, self.key)

    @property
    def medium(self) -> Medium | None:
        """Return the medium of the stores; None in memory."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedDatabase(OpenedStorage):
    """Stores that share a database."""

    database: RowDatabase

    @property
    def medium(self) -> Medium:
        """See OpenedStorage."""
        return self.database


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedShared(OpenedStorage):
    """Stores in a database that other processes may use at the same time."""

    database: Database

    @property
    def medium(self) -> Medium:
        """See OpenedStorage."""
        return self.database


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFiles(OpenedStorage):
    """Stores over files; an event store must keep the `folded` records level with its logs."""

    files: FileStore
    folded: FoldedRecords
    is_read_only: bool = False
    """Another process may be writing the files, and nothing may be written here."""

    @property
    def medium(self) -> Medium:
        """See OpenedStorage."""
        return self.files


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedMemory(OpenedStorage):
    """Stores in memory; `fold` brings a record up to date with its log at once."""

    fold: Callable[[str, Fold], None]


class Backend(ABC):
    """A configured medium: opens it, checks it, recognizes its data.

    Only `open` changes anything.
    """

    kind: ClassVar[str]
    """The medium's name, as in the setting."""
    keeps_index: ClassVar[bool] = False
    """Whether the medium itself can keep the index of full-text search."""
    secret_key: SecretStr | None = None
    """The key that seals stored secrets, if one was given."""

    @property
    def data_dir(self) -> Path | None:
        """Return the directory that one process at a time works on, if there is one."""
        return None

    @property
    def path(self) -> Path | None:
        """Return where the medium lies in that directory."""
        return None

    @property
    @abstractmethod
    def identity(self) -> StorageConfig:
        """Return the configuration without its key, equal for all uses of one storage."""

    @abstractmethod
    async def open(self, stack: AsyncExitStack) -> OpenedStorage:
        """Open the medium, whose directory is checked and locked; `stack` closes it.

        Raises Unavailable, MigrationError, and WrongKey when its secrets were sealed with another.
        """

    async def open_to_read(self, stack: AsyncExitStack) -> OpenedStorage | None:  # noqa: ARG002
        """Open the medium to read it beside the process that works on it, which is not disturbed.

        Each part is as it is when it is read, and whatever was acknowledged before the call is
        there. Nothing can be written, and nothing that a crash has left is mended. None where only
        that process can read what it has acknowledged, as this default says. Raises Unavailable,
        MigrationError, WrongKey.
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """Return a short summary of the contents, beginning with "ok" if there are any. Block."""

    @abstractmethod
    def check(self, track: Track = untracked) -> list[str]:
        """Return the problems of everything but the logs; none for a new storage. Block."""

    def at_hand(self, track: Track = untracked) -> AbstractContextManager["Backend"]:  # noqa: ARG002 - for others
        """Return the back-end whose medium can be checked: this one, or one over a copy. Block.

        Raises StorageError, OSError.
        """
        return nullcontext(self)

    def check_directory(self) -> None:  # noqa: B027 - most media have no directory
        """Refuse a directory that is not this medium's. Block. Raise StorageError, OSError.

        This default is for media without one.
        """

    async def migrate(self, *, contract: bool = False) -> Migrated:  # noqa: ARG002 - for others
        """Bring the schema up to date; with `contract` also take away what only older versions need.

        Raises MigrationError, also where that is done by a server at its start only, as on most
        media; Unavailable.
        """
        raise MigrationError(f"--storage {self.kind} is migrated by a server at its start")

    def scrub(self) -> None:  # noqa: B027 - most media keep nothing of what was deleted
        """Overwrite what deletions have left in the files of a medium that nobody has open. Block.

        It may be done again at any time, and takes time and space for all that is kept. This default
        is for media that leave nothing, or nothing that can be reached from here. Raises
        DataDirectoryLocked, Unavailable.
        """

    def loss(self) -> str | None:
        """Return a description of data known to be lost before the storage is opened.

        Block. Raise OSError.
        """
        return None


class DirectoryBackend(Backend):
    """A medium that lies under `name` in a data directory."""

    name: ClassVar[str]

    def __init__(self, config: SqliteStorage | LocalStorage) -> None:
        self._config = config
        self.secret_key = config.secret_key

    @property
    def data_dir(self) -> Path:
        """See Backend."""
        return self._config.data_dir

    @property
    def path(self) -> Path:
        """See Backend."""
        return self.data_dir / self.name

    @property
    def identity(self) -> StorageConfig:
        """See Backend."""
        update = {"data_dir": self.data_dir.absolute(), "secret_key": None}
        return self._config.model_copy(update=update)

    def check_directory(self) -> None:
        """Raise ForeignData if a directory holds no data of this medium, but of another.

        A storage opened there would be new and empty beside existing data. A directory that holds
        both is taken for this medium's. Raises Unavailable where the path cannot be what it should,
        or a part of the medium is missing.
        """
        folder = self.data_dir
        for path in (folder, self.path):
            if path.is_symlink() and not path.exists():
                raise Unavailable(f"{path} is a link to {path.readlink()}, which is not there")
        if folder.exists() and not folder.is_dir():
            raise Unavailable(f"cannot use {folder}: {os.strerror(errno.ENOTDIR)}")
        self.check_parts()
        if self.path.exists():
            return
        for other in DirectoryBackend.__subclasses__():
            if (folder / other.name).exists():
                raise ForeignData(
                    f"the data directory {folder} holds data of --storage {other.kind}"
                    f" ({other.name}) and none of --storage {self.kind}: start with --storage"
                    f" {other.kind}, or name another data directory"
                )
        found = _v0_data(folder)
        if found is not None:
            raise ForeignData(
                f"the data directory {folder} holds data of an OpenHands V0 server ({found}), which"
                f" this server does not work on: parley import --from {folder} brings it into"
                " another one; name another data directory"
            )

    def check_parts(self) -> None:
        """Raise Unavailable where a part of the medium is missing that belongs to the rest."""

    def describe(self) -> str:
        """See Backend."""
        if not self.path.exists():
            missing = f"no {self.name} in it" if self.data_dir.exists() else "it does not exist"
            return f"no data in {self.data_dir} yet: {missing}"
        return f"ok, {self.contents()} in {self.name}"

    @abstractmethod
    def contents(self) -> str:
        """Return a short text with the amount of data in the medium."""

    def check(self, track: Track = untracked) -> list[str]:
        """See Backend."""
        try:
            self.check_directory()
        except StorageError as error:
            return [str(error)]
        problems, marks = self.problems(track)
        try:
            for marked in marks:
                find_cipher(marked, self.data_dir, self.secret_key)
        except StorageError as error:
            problems = [*problems, str(error)]
        return problems

    @abstractmethod
    def problems(self, track: Track) -> tuple[list[str], list[str]]:
        """Return the problems of the medium, and the id of the key that seals its secrets, if any."""

    def guard(self, medium: Medium, stack: AsyncExitStack) -> None:
        """Watch the files of an opened medium and keep room for deletions, until it is closed."""
        stack.enter_context(watching(medium))
        stack.enter_context(reserving(medium, self.data_dir / RESERVE_NAME))


def _v0_data(folder: Path) -> str | None:
    for name in V0_FILES:
        if (folder / name).is_file():
            return name
    for place, pattern in ((SESSIONS, "*"), ("users", "*/conversations/*")):
        for session in (folder / place).glob(pattern):
            if (session / "events").is_dir() or (session / "metadata.json").is_file():
                return place
    return None


async def check_format(files: FileStore) -> None:
    """Write the format into a folder without one.

    Raises MigrationError for a newer one, StorageError. This version does not need the file, so
    that a full disk does not prevent a start.
    """
    try:
        found = await files.read(FORMAT_KEY)
    except KeyNotFound:
        try:
            await files.write(FORMAT_KEY, with_checksum(FORMAT_KEY, f"{FORMAT}\n".encode()))
        except StorageError:
            logger.exception("cannot write the format version of the files")
        return
    try:
        number = format_in(found)
    except Damaged as damage:
        logger.warning("cannot read the format version of the files: %s", damage)
        return
    if number > FORMAT:
        raise MigrationError(
            f"the folder of files is from a newer version (format {number}, this one reads {FORMAT})"
        )
