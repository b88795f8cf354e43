"""The frames that segments, pages, heads and key tables of a log on files are made of.

A frame is a header of 20 bytes and a body. Big-endian: version u8, kind u8, flag u16, id u32,
length of the body u32, CRC-32 of the body u32, CRC-32 of the 16 bytes before u32. Both checksums
begin with the CRC-32 of the conversation's id, so that a frame of another log is damage too.
"""

import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

import orjson

from events.errors import NewerFormat
from events.event import EventFlag, StoredEvent
from events.fence import Fence
from events.summary import SummaryChange

ASIDES = "asides"
"""The folder of a log that holds the records beside it."""
ASIDE_KIND = "aside"
DIGEST_BYTES = 32
_ID_BYTES = 4
_ROW_BYTES = DIGEST_BYTES + _ID_BYTES


def build_table(keys: Mapping[bytes, int]) -> bytes:
    """Return the table with those keys."""
    return b"".join(
        digest + event_id.to_bytes(_ID_BYTES, "big") for digest, event_id in sorted(keys.items())
    )


def rows_of(table: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield every digest with its event's id, ascending."""
    for place in range(0, len(table), _ROW_BYTES):
        end = place + DIGEST_BYTES
        yield table[place:end], int.from_bytes(table[end : end + _ID_BYTES], "big")


def find_in(table: bytes, digest: bytes) -> int | None:
    """Return the id beside that digest, or None."""
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


VERSION = 1
_FIELDS = struct.Struct(">BBHIII")
_CHECKSUM = struct.Struct(">I")
_MARK = bytes([VERSION])
"""The first bytes of a header."""
_HEADER_SIZE = _FIELDS.size + _CHECKSUM.size


class FrameKind(IntEnum):
    """The kind of a frame's body."""

    HEAD = 1
    KEYS = 2
    EVENT = 3


class Frame(NamedTuple):
    """A frame whose header is whole; `body` is None when it is damaged."""

    kind: int
    flag: int
    id: int
    body: bytes | None


class LogHead(NamedTuple):
    """The end of a log as a segment leaves it; `summary` is the fold of all events so far.

    `page_events` is the size of the log's pages. `sealed` is used where the head stands for
    itself: ids below it are in pages. `fence` is the number of the newest claim, `holder` whose it
    is, `masks` the newest version of masks; the last two are written only where there was one.
    """

    next_id: int
    last_state_id: int | None
    epoch: str
    fence: int
    deleted: bool
    summary: Mapping[str, Any]
    page_events: int
    sealed: int = 0
    holder: int | None = None
    masks: int = 0

    @property
    def claim(self) -> Fence | None:
        """The newest claim under which an event was appended."""
        return None if self.holder is None else Fence(self.fence, self.holder)

    @property
    def last_timestamp(self) -> str:
        """The newest timestamp that the log's events told; "" where none did."""
        moment = self.summary.get("last_updated_at")
        return moment if isinstance(moment, str) else ""


NO_MESSAGE: Mapping[str, Any] = {"last_message_at": None}
"""The summary of a log before its first event."""
EMPTY = LogHead(0, None, "", 0, deleted=False, summary={}, page_events=0)


def lacks_end(head: LogHead, folded_until: datetime | None) -> bool:
    """Return whether a log ends before the newest event that its record knows.

    The moments of a log never go back, so that an earlier end is a lost one.
    """
    if folded_until is None or head.deleted:
        return False
    if head.next_id == 0:
        return True
    return head.last_timestamp != "" and datetime.fromisoformat(head.last_timestamp) < folded_until


def seed_of(conversation_id: str) -> int:
    """Return the seed of the checksums of a conversation's frames."""
    return zlib.crc32(conversation_id.encode())


def encode_frame(seed: int, kind: FrameKind, frame_id: int, body: bytes, flag: int = 0) -> bytes:
    """Return one frame as bytes."""
    fields = _FIELDS.pack(VERSION, kind, flag, frame_id, len(body), zlib.crc32(body, seed))
    return b"".join((fields, _CHECKSUM.pack(zlib.crc32(fields, seed)), body))


def encode_events(seed: int, events: Sequence[StoredEvent]) -> bytes:
    """Return a frame for each event, in order."""
    return b"".join(
        encode_frame(seed, FrameKind.EVENT, one.id, one.body, one.flag) for one in events
    )


def encode_head(seed: int, head: LogHead) -> bytes:
    """Return the frame of a head."""
    fields = head._asdict()
    if head.holder is None:
        del fields["holder"]
    if not head.masks:
        del fields["masks"]
    return encode_frame(seed, FrameKind.HEAD, head.next_id, orjson.dumps(fields))


def read_frames(seed: int, content: bytes) -> Iterator[Frame]:
    """Give the frames of a file whose headers are whole. Raises NewerFormat.

    Behind a header that is damaged the next whole one is looked for. No body can be taken for one:
    events are JSON, which has no such byte as a header begins with, and keys are digests.
    """
    view, place = memoryview(content), 0
    while place + _HEADER_SIZE <= len(view):
        fields = view[place : place + _FIELDS.size]
        begin, place = place, place + _HEADER_SIZE
        (expected,) = _CHECKSUM.unpack(view[place - _CHECKSUM.size : place])
        if zlib.crc32(fields, seed) != expected:
            place = content.find(_MARK, begin + 1)
            if place < 0:
                return
            continue
        version, kind, flag, frame_id, length, checksum = _FIELDS.unpack(fields)
        if version > VERSION:
            raise NewerFormat(version, VERSION)
        body = bytes(view[place : place + length])
        place += length
        whole = version == VERSION and len(body) == length and zlib.crc32(body, seed) == checksum
        yield Frame(kind, flag, frame_id, body if whole else None)


def events_in(seed: int, content: bytes) -> dict[int, StoredEvent]:
    """Return the events of a file that can be read, by id."""
    return {
        frame.id: StoredEvent(frame.id, frame.flag, frame.body)
        for frame in read_frames(seed, content)
        if frame.kind == FrameKind.EVENT and frame.body is not None
    }


def head_in(seed: int, content: bytes) -> LogHead | None:
    """Return the head at the start of a file; None if it cannot be read."""
    frame = next(read_frames(seed, content), None)
    if frame is None or frame.kind != FrameKind.HEAD or frame.body is None:
        return None
    head = LogHead(**orjson.loads(frame.body))
    summary = head.summary
    if "last_updated_at" in summary and "last_message_at" not in summary:
        # An older version did not say: the last event stands for it, as in records and lists.
        summary = {**summary, "last_message_at": summary["last_updated_at"]}
    return head._replace(summary=summary)


def folded_values(summary: SummaryChange) -> dict[str, Any]:
    """Return the fields of a record that a summary changes, with their new values."""
    values = {
        "last_updated_at": summary.last_updated_at,
        "accumulated_cost": summary.accumulated_cost,
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "total_tokens": summary.total_tokens,
        "last_message_at": summary.last_message_at,
    }
    return {name: value for name, value in values.items() if value is not None}


def advanced_head(
    head: LogHead,
    events: Sequence[StoredEvent],
    fold: Mapping[str, Any],
    claim: Fence | None,
    masks: int | None,
    page_events: int,
) -> LogHead:
    """Return the head after a batch; a log gets its epoch and page size with the first one."""
    states = [event.id for event in events if event.flag == EventFlag.STATE]
    return head._replace(
        next_id=head.next_id + len(events),
        last_state_id=states[-1] if states else head.last_state_id,
        epoch=head.epoch or secrets.token_hex(8),
        fence=head.fence if claim is None else claim.number,
        holder=head.holder if claim is None else claim.holder,
        masks=head.masks if masks is None else masks,
        summary={**(head.summary or NO_MESSAGE), **fold},
        page_events=head.page_events or page_events,
    )


def encode_segment(
    conversation_id: str, head: LogHead, keys: Mapping[bytes, int], events: Sequence[StoredEvent]
) -> bytes:
    """Return the content of a batch's file: head, keys, events."""
    seed = seed_of(conversation_id)
    table = encode_frame(seed, FrameKind.KEYS, events[0].id, build_table(keys))
    return b"".join((encode_head(seed, head), table, encode_events(seed, events)))
