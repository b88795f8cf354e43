"""A sorted table of idempotency keys: 32 bytes of digest, then the event's id in four."""

from collections.abc import Iterator, Mapping

DIGEST_BYTES = 32
_ID_BYTES = 4
_ROW_BYTES = DIGEST_BYTES + _ID_BYTES


def build_table(keys: Mapping[bytes, int]) -> bytes:
    """The table that holds those keys."""
    return b"".join(
        digest + event_id.to_bytes(_ID_BYTES, "big") for digest, event_id in sorted(keys.items())
    )


def rows_of(table: bytes) -> Iterator[tuple[bytes, int]]:
    """Every digest with its event's id, ascending."""
    for place in range(0, len(table), _ROW_BYTES):
        end = place + DIGEST_BYTES
        yield table[place:end], int.from_bytes(table[end : end + _ID_BYTES], "big")


def find_in(table: bytes, digest: bytes) -> int | None:
    """The id beside that digest, or None."""
    low, high = 0, len(table) // _ROW_BYTES
    while low < high:
        middle = (low + high) // 2
        place = middle * _ROW_BYTES
        found = table[place : place + DIGEST_BYTES]
        if found == digest:
            return int.from_bytes(table[place + DIGEST_BYTES : place + _ROW_BYTES], "big")
        if found < digest:
            low = middle + 1
        else:
            high = middle
    return None
