"""Small writes that show whether a medium takes any."""

from storage.database.base import Database, Script, Statement
from storage.files.base import FileStore
from storage.keys import PROOF


async def prove_database(database: Database) -> None:
    """Commit a change that changes nothing. Raises Unavailable, OutcomeUnknown."""
    await database.write(_touch())


async def prove_files(files: FileStore) -> None:
    """Write a file and remove it. Raises StorageError."""
    await files.write(PROOF, b"")
    await files.delete(PROOF)


def _touch() -> Script[None]:
    yield Statement("touch")
