"""The archive of a storage: one file of frames, each with checksums, and an end that names the whole.

A frame is a header of 17 bytes and a body compressed by zlib. Big-endian: kind u8, length of the
stored body u32, length of the body u32, CRC-32 of the stored body u32, CRC-32 of the 13 bytes before
u32. The last frame holds the SHA-256 of all bytes before it: an archive without it was cut off.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from events.event import StoredEvent
from storage.errors import Damaged, NewerFormat

MAGIC = b"parley-backup\n"
FORMAT = 2
"""Version 2 has DELETED frames, which are all that version 1 lacks."""
LEVEL = 1
MAX_FRAME = 1024 * 1024 * 1024
_FIELDS = struct.Struct(">BIII")
_CHECKSUM = struct.Struct(">I")
_EVENT = struct.Struct(">IHI")


M = TypeVar("M", bound=BaseModel)


class Kind(IntEnum):
    """The content of a frame."""

    MANIFEST = 1
    KEY = 2
    """The key that seals what is sealed in the archive; only where it was kept in a file."""
    CONVERSATION = 3
    """A record; the frames up to the next DONE belong to it."""
    EVENTS = 4
    ASIDE = 5
    WORKSPACE = 6
    """Sealed."""
    DONE = 7
    USER = 8
    USAGE = 9
    AUDIT = 10
    END = 11
    DELETED = 12
    """Ids of deleted conversations, as a list in JSON; behind all conversations."""


class Manifest(BaseModel):
    """The origin of an archive."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    created_at: AwareDatetime
    medium: str
    key_id: str | None
    """The key that sealed users' records and workspaces; None where nothing is sealed."""


class Done(BaseModel):
    """The end of a conversation: what its log is, and what of it was damaged in the storage."""

    model_config = ConfigDict(frozen=True)

    conversation_id: str
    events: int
    digest: str
    damage: tuple[str, ...] = ()
    deleted: bool = False
    """It was deleted while it was read."""


class End(BaseModel):
    """The end of an archive."""

    model_config = ConfigDict(frozen=True)

    conversations: int
    events: int
    sha256: str


class Frame(NamedTuple):
    """One frame, its body as it was before it was stored."""

    kind: Kind
    body: bytes


class DamagedArchive(Damaged):
    """The file is no archive, or not as it was written; the text says where."""


class ArchiveWriter:
    """Makes the bytes of an archive, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.conversations = 0
        self.events = 0

    def begin(self, manifest: Manifest) -> bytes:
        """Return the first bytes."""
        self._hash.update(MAGIC)
        return MAGIC + self.frame(Kind.MANIFEST, manifest.model_dump_json().encode())

    def frame(self, kind: Kind, body: bytes) -> bytes:
        """Return a frame. It may take long for a long body."""
        stored = zlib.compress(body, LEVEL)
        fields = _FIELDS.pack(kind, len(stored), len(body), zlib.crc32(stored))
        whole = b"".join((fields, _CHECKSUM.pack(zlib.crc32(fields)), stored))
        self._hash.update(whole)
        return whole

    def done(self, done: Done) -> bytes:
        """Return the end of a conversation."""
        self.conversations += not done.deleted
        self.events += 0 if done.deleted else done.events
        return self.frame(Kind.DONE, done.model_dump_json().encode())

    def end(self) -> bytes:
        """Return the last bytes."""
        end = End(
            conversations=self.conversations, events=self.events, sha256=self._hash.hexdigest()
        )
        return self.frame(Kind.END, end.model_dump_json().encode())


def encode_events(events: Iterable[StoredEvent]) -> bytes:
    """Return the body of an EVENTS frame."""
    return b"".join(
        part
        for event in events
        for part in (_EVENT.pack(event.id, event.flag, len(event.body)), event.body)
    )


def decode_events(body: bytes) -> list[StoredEvent]:
    """Return what `encode_events` was given. Raise DamagedArchive."""
    events: list[StoredEvent] = []
    place = 0
    while place < len(body):
        if place + _EVENT.size > len(body):
            raise DamagedArchive("an event of the archive is cut off")
        event_id, flag, length = _EVENT.unpack_from(body, place)
        place += _EVENT.size
        events.append(StoredEvent(event_id, flag, body[place : place + length]))
        place += length
    if place != len(body):
        raise DamagedArchive("an event of the archive is cut off")
    return events


def encode_ids(ids: Sequence[str]) -> bytes:
    """Return the body of a DELETED frame."""
    return orjson.dumps(list(ids))


def decode_ids(body: bytes) -> list[str]:
    """Return what `encode_ids` was given. Raise DamagedArchive."""
    try:
        return [str(one) for one in orjson.loads(body)]
    except (orjson.JSONDecodeError, TypeError) as error:
        raise DamagedArchive("ids in the archive cannot be read") from error


def encode_named(name: Sequence[str], body: bytes) -> bytes:
    """Return names and the bytes they name, as the body of a frame."""
    return orjson.dumps(list(name)) + b"\n" + body


def decode_named(body: bytes) -> tuple[list[str], bytes]:
    """Return what `encode_named` was given. Raise DamagedArchive."""
    line, _, rest = body.partition(b"\n")
    try:
        return [str(one) for one in orjson.loads(line)], rest
    except (orjson.JSONDecodeError, TypeError) as error:
        raise DamagedArchive("a name in the archive cannot be read") from error


def read_frames(path: Path, *, is_verified: bool = False) -> Iterator[Frame]:
    """Yield the frames of an archive, MANIFEST first and END last. Blocks.

    Raises DamagedArchive at what is not as it was written, NewerFormat, OSError. Only what is
    yielded before END is reached may come from an archive that is damaged behind it. Of one that
    was verified before, each frame is compared with its own checksums only.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DamagedArchive(f"{path} is no archive of this server")
        whole = hashlib.sha256(MAGIC)
        while True:
            before, at = whole.hexdigest(), file.tell()
            frame = _read_frame(file, path, at, None if is_verified else whole)
            if at == len(MAGIC):
                _check_manifest(frame, path)
            if frame.kind is Kind.END:
                is_end = is_verified or model_in(End, frame).sha256 == before
                if not is_end or file.read(1):
                    raise DamagedArchive(
                        f"{path} is damaged: its end is not that of what is before"
                    )
                yield frame
                return
            yield frame


def _read_frame(file: BinaryIO, path: Path, at: int, whole: "hashlib._Hash | None") -> Frame:
    header = file.read(_FIELDS.size + _CHECKSUM.size)
    fields = header[: _FIELDS.size]
    if len(header) < _FIELDS.size + _CHECKSUM.size:
        raise DamagedArchive(f"{path} is cut off after {at} bytes")
    if _CHECKSUM.unpack(header[_FIELDS.size :])[0] != zlib.crc32(fields):
        raise DamagedArchive(f"{path} is damaged at byte {at}")
    kind, stored_length, length, checksum = _FIELDS.unpack(fields)
    stored = file.read(stored_length)
    if len(stored) < stored_length:
        raise DamagedArchive(f"{path} is cut off after {at} bytes")
    if zlib.crc32(stored) != checksum or length > MAX_FRAME:
        raise DamagedArchive(f"{path} is damaged at byte {at}")
    if whole is not None:
        whole.update(header)
        whole.update(stored)
    try:
        body = zlib.decompress(stored)
        known = Kind(kind)
    except (zlib.error, ValueError) as error:
        raise DamagedArchive(f"{path} is damaged at byte {at}") from error
    if len(body) != length:
        raise DamagedArchive(f"{path} is damaged at byte {at}")
    return Frame(known, body)


def _check_manifest(frame: Frame, path: Path) -> None:
    if frame.kind is not Kind.MANIFEST:
        raise DamagedArchive(f"{path} does not say what it is")
    found = model_in(Manifest, frame).format
    if found > FORMAT:
        raise NewerFormat(str(path), found, FORMAT)


def model_in(model: type[M], frame: Frame) -> M:
    """Return what a frame holds. Raise DamagedArchive."""
    try:
        return model.model_validate_json(frame.body)
    except ValidationError as error:
        raise DamagedArchive(f"a frame of the archive is no {model.__name__}") from error
