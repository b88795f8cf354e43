"""The format of a folder of files as a whole: which versions can work on it."""

import logging

from storage.errors import Damaged, KeyNotFound, MigrationError, StorageError
from storage.files.base import FileStore
from storage.files.checked import checked_body, with_checksum

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised by a version whose files earlier ones must not touch."""
FORMAT_KEY = "format"


async def check_format(files: FileStore) -> None:
    """Note the format in a folder that says none. Raises MigrationError for a newer one, StorageError.

    The note is not needed by this version: a disk that takes nothing keeps no server from starting.
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


def format_in(content: bytes) -> int:
    """Return the format that a note names. Raises Damaged."""
    try:
        return int(checked_body(FORMAT_KEY, content, FORMAT_KEY))
    except ValueError as error:
        raise Damaged(f"{FORMAT_KEY} holds no number") from error
