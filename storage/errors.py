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
│   ├── BadCursor                not a page cursor of ours
│   └── WorkspaceTooLarge        a workspace has more than may be kept; nothing was written
├── Conflict                     another writer was first; nothing was written
├── SearchBusy                   too many searches are waiting
├── SearchTooSlow                a search took too long
├── Unavailable                  the medium did not answer, or the write did not happen
│   ├── StorageFull              it has no room for the write
│   └── NotPermitted             it refuses this server: credentials, rights, address
├── OutcomeUnknown               the write may or may not have happened (deadline, lost connection)
│   └── MediumLost               its files were removed or replaced while it is open
├── Damaged                      a stored record cannot be read back
│   └── NewerFormat              it was written by a newer version
├── WrongKey                     what is stored was sealed with a key that is not at hand
├── ForeignData                  the data directory holds the data of somebody else
├── StorageLocked                another process works on the storage
│   ├── DataDirectoryLocked      it works on the data directory
│   └── SchemaLocked             it uses the schema of the database
├── BucketInUse                  another process works on the bucket
├── UnfitMedium                  the medium does not do what the storage rests on
└── MigrationError               the medium's schema cannot be brought to the version this code needs
"""

from pathlib import Path


class StorageError(Exception):
    """Base class of the errors of `storage`."""


class KeyNotFound(StorageError):
    """Nothing is stored under this key."""


class SecretNotFound(KeyNotFound):
    """The user has no secret with this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Secret with ID {name} not found")


class ConversationNotFound(KeyNotFound):
    """The user has no conversation with this id.

    Unknown, deleted and foreign ids give the same text, so that a caller learns nothing about
    records of others.
    """

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation not found: {conversation_id}")
        self.conversation_id = conversation_id


class ConversationDeleted(ConversationNotFound):
    """The id carries a tombstone: it is never used again, and nothing was written."""


class OwnerConflict(ConversationNotFound):
    """The id belongs to another owner, who is not named; nothing was written."""


class KeyExists(StorageError):
    """The key is taken; nothing was written."""


class SecretExists(KeyExists):
    """The user already has a secret with this name; nothing was written."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Secret {name} already exists")


class BadValue(StorageError, ValueError):
    """A value is invalid; the text is for people."""


class BadKey(BadValue):
    """The id is invalid."""


class BadCursor(BadValue):
    """The page id is invalid, or belongs to another list."""


class WorkspaceTooLarge(BadValue):
    """A workspace has more files or bytes than may be kept; the text says which, for people."""


class Conflict(StorageError):
    """Another writer was first (expected position or fence is stale); nothing was written."""


class SearchBusy(StorageError):
    """Too many searches are waiting; one may be tried again."""


class SearchTooSlow(StorageError):
    """A search took too long; the text says what to ask for instead, for people."""


class Unavailable(StorageError):
    """The medium did not answer a read, or a write certainly did not happen; it may be retried."""


class StorageFull(Unavailable):
    """The medium has no room for the write, which did not happen; it may be retried."""


class NotPermitted(Unavailable):
    """The medium refuses this server, and will again: credentials, rights or address are wrong."""


class MediumLost(Unavailable):
    """Files of the medium were removed or replaced while it is open; nothing was written."""


class OutcomeUnknown(StorageError):
    """The write may have happened; the data must be read back."""


class Damaged(StorageError):
    """A stored record cannot be read back (checksum, format version or shape)."""


class NewerFormat(Damaged):
    """A whole record was written by a newer version; nothing may be written in its place."""

    def __init__(self, key: str, found: int, known: int) -> None:
        super().__init__(f"{key} is from a newer version (format {found}, this one reads {known})")


class WrongKey(StorageError):
    """What is stored was sealed with another key; nothing was written."""


class ForeignData(StorageError):
    """The data directory holds data of another storage or program; the text names it."""


class StorageLocked(StorageError):
    """Another process works on the storage."""


class DataDirectoryLocked(StorageLocked):
    """Another process works on the data directory; the text names its pid."""

    def __init__(self, folder: Path, pid: str) -> None:
        super().__init__(f"the data directory {folder} is in use by process {pid or 'unknown'}")


class BucketInUse(StorageError):
    """Another process works on the bucket; the text names its pid and host."""

    def __init__(self, host: str, pid: int) -> None:
        super().__init__(f"the bucket is in use by process {pid} on {host}")


class UnfitMedium(StorageError):
    """The medium does not do what the storage rests on; the text says what."""


class SchemaLocked(StorageLocked):
    """Another server uses the schema of the database."""

    def __init__(self, schema: str) -> None:
        super().__init__(f"the schema {schema} is in use by another server")


class MigrationError(StorageError):
    """The medium's schema cannot be brought to the version this code needs."""
