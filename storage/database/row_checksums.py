"""Checksums of rows in SQLite, which has none of its own for what lies in its pages."""

import sqlite3
import struct
import zlib
from typing import Final

ROW_CRC: Final = "row_crc"
"""Name of `row_checksum` in SQL."""


def row_checksum(*values: bytes | float | None) -> int:
    """Return the CRC-32 of a row's values, which are told apart from those of any other row.

    Statements pass whole numbers and texts as blobs, so that damaged texts reach this function too.
    """
    crc = 0
    for value in values:
        if value is None:
            part = b"-"
        elif isinstance(value, bytes):
            part = b"%d:%b" % (len(value), value)
        else:
            part = struct.pack("<d", value)
        crc = zlib.crc32(part, crc)
    return crc


def register_checksum(connection: sqlite3.Connection) -> None:
    """Let statements of a connection call `row_crc`."""
    connection.create_function(ROW_CRC, -1, row_checksum, deterministic=True)
