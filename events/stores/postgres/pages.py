"""Sealed pages of PostgreSQL: consecutive events of a log in one row, made by the function `seal_page`."""

import struct
import zlib
from itertools import accumulate, pairwise

from events.event import StoredEvent

PAGE_EVENTS = 100
"""Events of a page; part of the schema, where no page has more."""
PAGE_BYTES = 256 * 1024
"""Bodies of a page are not longer together, but for the last one: long events make several pages of one."""
PAGE_VERSION = -1
"""The version of a row of the view `log_parts` that is a page; its flag is the number of events."""
_HEADER_BYTES = 10
"""Bytes that stand before the bodies, for each event."""


def unpacked(first_id: int, count: int, page: bytes) -> list[StoredEvent | None]:
    """Return the events of a page in order; None stands for a damaged one.

    Each event has its own checksum, so that damage to a body harms no other; of a page that does
    not hold what its lengths say, every event is damaged.
    """
    start = count * _HEADER_BYTES
    if len(page) < start:
        return [None] * count
    numbers = struct.unpack_from(f">{count}h{count}I{count}I", page)
    flags, crcs, lengths = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
    ends = [*accumulate(lengths, initial=start)]
    if ends[-1] != len(page):
        return [None] * count
    bodies = [page[begin:end] for begin, end in pairwise(ends)]
    ids = range(first_id, first_id + count)
    if (*map(zlib.crc32, bodies, ids),) == crcs:
        return [*map(StoredEvent, ids, flags, bodies)]
    return [
        StoredEvent(event_id, flag, body) if zlib.crc32(body, event_id) == crc else None
        for event_id, flag, crc, body in zip(ids, flags, crcs, bodies, strict=True)
    ]
