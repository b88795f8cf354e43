"""Errors of the storage floor.

StorageError
├── KeyNotFound                  nothing is stored under that key
│   ├── SecretNotFound           the user has no secret of that name
│   └── ConversationNotFound     no conversation of that id is visible to this owner
│       ├── ConversationDeleted  the id carries a tombstone; it is never used again
│       └── OwnerConflict        the id belongs to somebody else; nothing was written
├── KeyExists                    the key is taken; nothing was written
│   └── SecretExists             the user has a secret of that name
├── BadValue                     an argument is refused before the medium is asked (a ValueError too)
│   ├── BadKey                   not an acceptable id
│   └── BadCursor                not a page cursor of ours
├── Conflict                     another writer was first; nothing was written
├── Unavailable                  the medium did not answer, or the write did not happen
├── OutcomeUnknown               the write may or may not have happened (deadline, lost connection)
│   └── MediumLost               its files were removed or replaced while it is open
├── Damaged                      a stored record cannot be read back
│   └── NewerFormat              it was written by a newer version
├── WrongKey                     the stored secrets were sealed with a key that is not at hand
├── ForeignData                  the data directory holds the data of somebody else
├── DataDirectoryLocked          another process works on the data directory
└── MigrationError               the medium's schema cannot be brought to the version this code needs
"""

from pathlib import Path


class StorageError(Exception):
    """Root of the storage floor's errors."""


class KeyNotFound(StorageError):
    """Nothing is stored under that key."""


class SecretNotFound(KeyNotFound):
    """The user has no secret of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Secret with ID {name} not found")


class ConversationNotFound(KeyNotFound):
    """No conversation of that id is visible to this owner.

    Unknown, deleted and foreign ids give the same text, so that a caller learns nothing about
    records that are not his.
    """

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation not found: {conversation_id}")
        self.conversation_id = conversation_id


class ConversationDeleted(ConversationNotFound):
    """The id carries a tombstone: it is never used again, and nothing was written."""


class OwnerConflict(ConversationNotFound):
    """The id belongs to somebody else; nothing was written, and the owner is not named."""


class KeyExists(StorageError):
    """The key is taken; nothing was written."""


class SecretExists(KeyExists):
    """The user has a secret of that name; nothing was written."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Secret {name} already exists")


class BadValue(StorageError, ValueError):
    """An argument is refused before the medium is asked; the text may be shown to people."""


class BadKey(BadValue):
    """Not an acceptable id."""


class BadCursor(BadValue):
    """Not a page cursor of ours, or one of another kind of list."""


class Conflict(StorageError):
    """Another writer was first (expected position or fence is stale); nothing was written."""


class Unavailable(StorageError):
    """The medium did not answer a read, or a write certainly did not happen; it may be retried."""


class MediumLost(Unavailable):
    """Files of the medium were removed or replaced while it is open; nothing was written."""


class OutcomeUnknown(StorageError):
    """The write may have happened: only reading back tells."""


class Damaged(StorageError):
    """A stored record cannot be read back (checksum, format version or shape)."""


class NewerFormat(Damaged):
    """A whole record was written by a newer version; nothing may be written in its place."""

    def __init__(self, key: str, found: int, known: int) -> None:
        super().__init__(f"{key} is from a newer version (format {found}, this one reads {known})")


class WrongKey(StorageError):
    """The stored secrets were sealed with a key that is not at hand; nothing was written."""


class ForeignData(StorageError):
    """The data directory holds none of the medium's data, but somebody else's; the text says whose."""


class DataDirectoryLocked(StorageError):
    """Another process works on the data directory; the text names its pid."""

    def __init__(self, folder: Path, pid: str) -> None:
        super().__init__(f"the data directory {folder} is in use by process {pid or 'unknown'}")


class MigrationError(StorageError):
    """The medium's schema cannot be brought to the version this code needs."""
