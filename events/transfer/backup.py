"""Writes a storage into an archive, also while a server works on it, and verifies archives."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from events.errors import ConversationDeleted, DamagedRecord
from events.event import StoredEvent
from events.transfer.archive import (
    ArchiveWriter,
    DamagedArchive,
    Done,
    End,
    Frame,
    Kind,
    Manifest,
    decode_events,
    encode_events,
    encode_ids,
    encode_named,
    model_in,
    read_frames,
)
from events.transfer.contents import Stores
from events.transfer.digest import LogDigest
from storage.audit.base import KEPT
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ConversationNotFound, Damaged
from storage.keys import owner_part
from storage.sealing.cipher import Cipher, new_key
from storage.sealing.key import EphemeralKey
from storage.usage.model import ConversationUsage
from storage.users.base import RecordName
from storage.users.codecs import SECRETS_KIND, SETTINGS_KIND, encode_secrets, encode_settings
from storage.workspaces.snapshot import Snapshot

logger = logging.getLogger(__name__)

PAGE = 500
PURPOSE = "backup"


class Summary(NamedTuple):
    """An archive as a whole."""

    created_at: datetime
    conversations: int
    events: int
    damage: tuple[str, ...]
    """Damage in the storage it was made of, for which markers stand."""


async def archive_of(stores: Stores, key: bytes | None = None) -> AsyncIterator[bytes]:
    """Yield the bytes of an archive of all that a storage keeps, as it is when each part is read.

    Each log is one of its prefixes, and everything a client was told of before is in it. `key` is
    the content of the key file, if that is where the storage's key is kept. A storage in memory has
    a key that nobody can have: its users' records and workspaces are left out. Raises
    StorageError, EventsError.
    """
    writer = ArchiveWriter()
    storage = stores.storage
    lasting = None if isinstance(storage.key, EphemeralKey) else storage.key
    cipher = None if lasting is None else await lasting.for_reading()
    medium = (await storage.inventory.take()).medium
    manifest = Manifest(
        created_at=datetime.now(UTC),
        medium=medium,
        key_id=None if cipher is None else cipher.key_id,
    )
    yield writer.begin(manifest)
    if key is not None:
        yield writer.frame(Kind.KEY, key)
    async for record in stores.records():
        async for part in _conversation(stores, writer, record, cipher):
            yield part
    async for part in _deleted(stores, writer):
        yield part
    if lasting is not None:
        async for part in _users(stores, writer):
            yield part
    async for part in _administration(stores, writer):
        yield part
    yield writer.end()


async def export_of(stores: Stores, user_id: str | None) -> AsyncIterator[bytes]:
    """Yield the bytes of an archive of all that a storage keeps of one user.

    It is one of the same format, without the audit. Settings, secrets and workspaces are sealed with
    a key of the archive's own, which is in it: the storage's key opens those of others too. Raises
    StorageError, EventsError.
    """
    writer, storage = ArchiveWriter(), stores.storage
    key = new_key()
    cipher = Cipher(key)
    medium = (await storage.inventory.take()).medium
    manifest = Manifest(created_at=datetime.now(UTC), medium=medium, key_id=cipher.key_id)
    yield writer.begin(manifest)
    yield writer.frame(Kind.KEY, f"{key.hex()}\n".encode())
    async for record in stores.records_of(user_id):
        async for part in _conversation(stores, writer, record, cipher):
            yield part
    owner = owner_part(user_id)
    settings = await storage.settings.for_user(user_id).load()
    if settings is not None:
        body = encode_settings(settings, user_id, cipher)
        yield writer.frame(Kind.USER, encode_named((owner, SETTINGS_KIND), body))
    secrets = await storage.secrets.for_user(user_id).load()
    if await storage.users.read(user_id, SECRETS_KIND) is not None:
        body = encode_secrets(secrets, user_id, cipher)
        yield writer.frame(Kind.USER, encode_named((owner, SECRETS_KIND), body))
    async for usage in _usage(stores):
        if usage.user_id == user_id:
            yield writer.frame(Kind.USAGE, usage.model_dump_json().encode())
    yield writer.end()


async def _deleted(stores: Stores, writer: ArchiveWriter) -> AsyncIterator[bytes]:
    """Name the deleted conversations, those too that were deleted since the archive was begun."""
    after = ""
    while ids := await stores.storage.conversations.deleted(after):
        yield writer.frame(Kind.DELETED, encode_ids(ids))
        after = ids[-1]


async def _usage(stores: Stores) -> AsyncIterator[ConversationUsage]:
    store, counted = stores.storage.usage, ""
    while keys := await store.counted(counted, PAGE):
        for one in keys:
            try:
                usage = await store.load(one)
            except Damaged:
                logger.exception("left out of a backup: the usage of %s", one)
                continue
            if usage is not None:
                yield usage
        counted = keys[-1]


async def _users(stores: Stores, writer: ArchiveWriter) -> AsyncIterator[bytes]:
    storage = stores.storage
    after: RecordName | None = None
    while names := await storage.users.names(after, PAGE):
        for name in names:
            try:
                found = await storage.users.read_named(name)
            except Damaged:
                logger.exception("left out of a backup: a user's %s", name.kind)
                continue
            if found is not None:
                yield writer.frame(Kind.USER, encode_named(name, found))
        after = names[-1]


async def _administration(stores: Stores, writer: ArchiveWriter) -> AsyncIterator[bytes]:
    async for usage in _usage(stores):
        yield writer.frame(Kind.USAGE, usage.model_dump_json().encode())
    for act in reversed(await stores.storage.audit.page(2**62, 3 * KEPT)):
        yield writer.frame(Kind.AUDIT, act.model_dump_json().encode())


async def _conversation(
    stores: Stores,
    writer: ArchiveWriter,
    record: ConversationMetadata,
    cipher: Cipher | None,
) -> AsyncIterator[bytes]:
    key, digest, problems = record.conversation_id, LogDigest(), []
    deleted = False
    yield writer.frame(Kind.CONVERSATION, record.model_dump_json().encode())
    try:
        end = (await stores.events.head(key)).next_id
        async for part in stores.parts(key, end):
            problems += [] if part.damage is None else [part.damage]
            yield await asyncio.to_thread(_events_frame, writer, digest, part.events)
        for name, aside in (await stores.events.asides(key)).items():
            yield writer.frame(Kind.ASIDE, encode_named([name], aside))
        loaded = await stores.workspaces.load(key)
        if loaded is not None and cipher is not None:
            problems += [f"a file of the workspace of {key} is damaged" for _ in loaded.lost]
            sealed = await asyncio.to_thread(seal_snapshot, loaded.snapshot, key, cipher)
            yield await asyncio.to_thread(writer.frame, Kind.WORKSPACE, sealed)
        deleted = digest.count < end or (await stores.events.head(key)).deleted
    except (ConversationDeleted, ConversationNotFound):
        deleted = True
    except (DamagedRecord, Damaged) as error:
        # What can be read of it is there; the others have nothing to do with it.
        problems.append(str(error))
    yield writer.done(
        Done(
            conversation_id=key,
            events=digest.count,
            digest=digest.value(),
            damage=tuple(problems),
            deleted=deleted,
        )
    )


def _events_frame(writer: ArchiveWriter, digest: LogDigest, events: Sequence[StoredEvent]) -> bytes:
    """Return the frame of the next events of a log. It may take long."""
    digest.add(events)
    return writer.frame(Kind.EVENTS, encode_events(events))


async def write_archive(path: Path, parts: AsyncIterator[bytes]) -> Summary:
    """Write an archive into a new file, readable by its owner only; return what is in it.

    It has its name once it is whole, durable and verified, or not at all. Raises OSError, Damaged
    where it cannot be read back, and what making the archive raises.
    """
    draft = draft_of(path)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            async for part in parts:
                await asyncio.to_thread(file.write, part)
            await asyncio.to_thread(_flush, file)
        summary = await asyncio.to_thread(verify, draft)
        await asyncio.to_thread(keep_draft, draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    return summary


def draft_of(path: Path) -> Path:
    """Return the file in which an archive is written until it has its name."""
    return path.with_name(f".{path.name}.part")


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def keep_draft(draft: Path, path: Path) -> None:
    """Give a file that is durable its name, durably. Raise OSError. Block."""
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def verify(path: Path) -> Summary:
    """Read an archive whole: every checksum, every log's digest, the numbers at its end. Block.

    Raises DamagedArchive, NewerFormat, OSError.
    """
    manifest: Manifest | None = None
    conversations = events = 0
    damage: list[str] = []
    for frame in sound_frames(path):
        if frame.kind is Kind.MANIFEST:
            manifest = model_in(Manifest, frame)
        elif frame.kind is Kind.DONE:
            done = model_in(Done, frame)
            damage += done.damage
            conversations += not done.deleted
            events += 0 if done.deleted else done.events
        elif frame.kind is Kind.END:
            end = model_in(End, frame)
            if (end.conversations, end.events) != (conversations, events):
                raise DamagedArchive(f"{path} does not hold what its end says")
    assert manifest is not None  # noqa: S101 - or the first frame was refused
    return Summary(manifest.created_at, conversations, events, tuple(damage))


def sound_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of an archive, each log compared with its digest at its end. Block.

    Raises DamagedArchive, NewerFormat, OSError.
    """
    digest = LogDigest()
    for frame in read_frames(path):
        if frame.kind is Kind.CONVERSATION:
            digest = LogDigest()
        elif frame.kind is Kind.EVENTS:
            events = decode_events(frame.body)
            if [one.id for one in events] != [*range(digest.count, digest.count + len(events))]:
                raise DamagedArchive(f"{path}: the events of a log do not follow each other")
            digest.add(events)
        elif frame.kind is Kind.DONE:
            done = model_in(Done, frame)
            if (done.events, done.digest) != (digest.count, digest.value()):
                raise DamagedArchive(
                    f"{path}: the log of {done.conversation_id} is not what it was"
                )
        yield frame


def seal_snapshot(snapshot: Snapshot, conversation_id: str, cipher: Cipher) -> bytes:
    """Return a workspace as it stands in an archive, sealed. It may take long."""
    groups = (snapshot.files, snapshot.own)
    names = [[[name, len(body)] for name, body in sorted(group.items())] for group in groups]
    head = json.dumps([*names, sorted(snapshot.folders)]).encode()
    bodies = [body for group in groups for _, body in sorted(group.items())]
    whole = b"".join((head, b"\n", *bodies))
    return cipher.derived(PURPOSE).seal_bytes(whole, conversation_id.encode())


def open_snapshot(sealed: bytes, conversation_id: str, cipher: Cipher) -> Snapshot:
    """Return what `seal_snapshot` was given. Raise WrongKey, Damaged. It may take long."""
    place = conversation_id.encode()
    name = f"the workspace of {conversation_id}"
    whole = cipher.derived(PURPOSE).open_bytes(sealed, place, name)
    head, _, rest = whole.partition(b"\n")
    files, own, folders = json.loads(head)
    at = 0
    groups: list[dict[str, bytes]] = []
    for names in (files, own):
        group: dict[str, bytes] = {}
        for path, length in names:
            group[path] = rest[at : at + length]
            at += length
        groups.append(group)
    return Snapshot(files=groups[0], own=groups[1], folders=frozenset(folders))
