"""Restores an archive into a storage of any kind, whole or as it was at a moment."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from events.event import StoredEvent
from events.transfer.archive import (
    DamagedArchive,
    Done,
    Frame,
    Kind,
    Manifest,
    decode_events,
    decode_ids,
    decode_named,
    model_in,
    read_frames,
)
from events.transfer.backup import open_snapshot
from events.transfer.contents import Stores
from events.transfer.copying import each_of, in_parallel
from events.transfer.digest import log_digest
from events.transfer.loading import Loader
from events.transfer.progress import Progress, unshown
from events.transfer.report import Outcome, Report, Result
from storage.audit.base import AuditRecord
from storage.conversations.metadata import FOLDED_FIELDS, ConversationMetadata
from storage.errors import StorageError, WrongKey
from storage.keys import owner_part
from storage.sealing.cipher import Cipher
from storage.usage.model import ConversationUsage
from storage.users.base import RecordName
from storage.users.codecs import SECRETS_KIND, SETTINGS_KIND, decode_secrets, decode_settings

AT_ONCE = 16
"""Conversations, or other records, that are written at the same time."""
HELD_BYTES = 4 * 1024 * 1024
"""Bytes of a conversation's events that are held, and then appended together."""
READ_BYTES = 4 * 1024 * 1024
"""Bytes that are read of the archive ahead of their being written."""


class NotEmpty(StorageError):
    """The storage holds conversations already; nothing was restored."""


class Restore:
    """One restore of an archive that was verified, into a storage that is empty.

    With a moment `at` every log ends with its last event at or before that, and its record is the
    fold of it; conversations made later are left out. Titles, settings, secrets and workspaces are
    as in the archive.
    """

    def __init__(self, path: Path, target: Stores, at: datetime | None = None) -> None:
        self.report = Report()
        self._path = path
        self._target = target
        self._at = at
        self._loader = Loader(target)
        self._cipher: Cipher | None = None
        self._key_id: str | None = None
        self._same_key = False
        self._owners: dict[str, str | None] = {owner_part(None): None}
        """Owners by their parts of keys, where records must be sealed anew."""
        self._whole: set[str] = set()
        self._next: _Part | None = None
        """The first frame behind the conversations."""

    async def outcomes(self, progress: Progress = unshown) -> AsyncIterator[Outcome]:
        """Restore everything; yield the outcome of each conversation. Leaves the rest in `report`.

        Raises NotEmpty and WrongKey before anything is written, StorageError, DamagedArchive.
        """
        if (await self._target.storage.inventory.take()).conversations:
            raise NotEmpty("the storage holds conversations: restore into a new one")
        async with aclosing(_read_ahead(self._path)) as parts:
            read = in_parallel(self._read(parts), _Conversation.finish, AT_ONCE)
            shown = progress(read, "conversations", None)
            async for outcome in self.report.counting(shown):
                yield outcome
            # What follows is of all conversations together, which are written by now.
            if self._next is not None:
                await self._take(self._next)
            async for part in parts:
                await self._take(part)

    async def _read(self, parts: AsyncIterator["_Part"]) -> AsyncIterator["_Conversation"]:
        """Read conversations up to their ends; of a long one all but the last part is written."""
        async for part in parts:
            frame = part.frame
            if frame.kind is Kind.MANIFEST:
                self._key_id = model_in(Manifest, frame).key_id
                await self._find_key()
            elif frame.kind is Kind.KEY:
                self._cipher = Cipher(bytes.fromhex(frame.body.decode("ascii")))
                await self._find_key()
            elif frame.kind is Kind.CONVERSATION:
                self._check_key()
                record = model_in(ConversationMetadata, frame)
                self._note_owner(record.user_id)
                conversation = _Conversation(self, record)
                while (part := await anext(parts)).frame.kind is not Kind.DONE:
                    await conversation.hold(part)
                conversation.done = model_in(Done, part.frame)
                yield conversation
            else:
                self._next = part
                return

    async def _find_key(self) -> None:
        """Find the key of what is sealed: the archive's own, or that of the storage."""
        if self._key_id is None:
            return
        own = await self._target.storage.key.for_writing()
        self._same_key = own.key_id == self._key_id
        if self._same_key:
            self._cipher = own

    def _check_key(self) -> None:
        if self._key_id is not None and self._cipher is None:
            raise WrongKey(
                "the archive was sealed with another key: PARLEY_SECRET_KEY must be as it was"
            )

    async def _take(self, part: "_Part") -> None:
        frame = part.frame
        if frame.kind is Kind.DELETED:
            async for _ in in_parallel(
                each_of(decode_ids(frame.body)), self._loader.spend, AT_ONCE
            ):
                pass
        elif frame.kind is Kind.USER:
            self._check_key()
            name, record = decode_named(frame.body)
            await self._put_user(RecordName(*name), record)
        elif frame.kind is Kind.USAGE:
            usage = model_in(ConversationUsage, frame)
            if self._at is None or usage.conversation_id in self._whole:
                await self._loader.put_usage(usage)
        elif frame.kind is Kind.AUDIT:
            try:
                record_ = AuditRecord.model_validate_json(frame.body)
            except ValidationError as error:
                raise DamagedArchive("a record of the audit cannot be read") from error
            await self._target.storage.audit.add(record_)

    async def _put_user(self, name: RecordName, record: bytes) -> None:
        """Put a user's record as it lies, or sealed anew where the storage has another key."""
        storage = self._target.storage
        if self._same_key:
            await storage.users.write_named(name, record)
        elif name.owner not in self._owners:
            self.report.problems.append(
                "a record of a user who has no conversation was left out: the storage has another"
                " key, and whose it is is not known"
            )
        elif name.kind == SETTINGS_KIND:
            owner = self._owners[name.owner]
            settings = decode_settings(record, owner, self._cipher)
            await storage.settings.for_user(owner).store(settings)
        elif name.kind == SECRETS_KIND:
            owner = self._owners[name.owner]
            secrets = decode_secrets(record, owner, self._cipher)
            await storage.secrets.for_user(owner).store(secrets)

    def _note_owner(self, user_id: str | None) -> None:
        """Remember an owner whose records may have to be sealed anew."""
        if not self._same_key:
            self._owners[owner_part(user_id)] = user_id

    def note_whole(self, conversation_id: str) -> None:
        """Remember a log that was not cut, whose count of usage holds."""
        if self._at is not None:
            self._whole.add(conversation_id)

    @property
    def at(self) -> datetime | None:
        """The moment at which logs end."""
        return self._at

    @property
    def cipher(self) -> Cipher | None:
        """The key of what is sealed in the archive."""
        return self._cipher

    @property
    def target(self) -> Stores:
        """The storage that is written."""
        return self._target

    @property
    def loader(self) -> Loader:
        """The way into it."""
        return self._loader


class _Conversation:
    """One conversation that is being restored."""

    def __init__(self, restore: Restore, record: ConversationMetadata) -> None:
        self._restore = restore
        self._record = record
        self._begun = False
        self._is_cut = False
        self._count = 0
        self._asides: dict[str, bytes] = {}
        self._workspace: bytes | None = None
        """Sealed."""
        self._held: list[StoredEvent] = []
        self._held_bytes = 0
        self.done: Done | None = None
        """Its end, once that was read."""

    async def hold(self, part: "_Part") -> None:
        """Take the next part, and write the events so far if they are many bytes."""
        frame = part.frame
        if frame.kind is Kind.EVENTS:
            if not self._is_cut:
                self._held += self._until(part.events)
                self._held_bytes += len(frame.body)
            if self._held_bytes > HELD_BYTES:
                await self._write_held()
        elif frame.kind is Kind.ASIDE:
            (name,), body = decode_named(frame.body)
            self._asides[name] = body
        elif frame.kind is Kind.WORKSPACE:
            self._workspace = frame.body

    async def _write_held(self) -> None:
        """Append the events held in as many as the store takes best; the others stay.

        Where so many bytes are fewer events than that, all are appended.
        """
        count = len(self._held)
        whole = count - count % self._restore.target.events.many or count
        events, self._held = self._held[:whole], self._held[whole:]
        self._held_bytes = sum(len(event.body) for event in self._held)
        await self._append(events)

    async def _append(self, events: Sequence[StoredEvent]) -> None:
        if events:
            await self._begin()
            await self._restore.loader.append(self._record.conversation_id, events)
            self._count += len(events)

    async def finish(self) -> Outcome:
        """Write the rest, or take it back if it was deleted while it was read; return its outcome."""
        restore, record, done = self._restore, self._record, self.done
        assert done is not None  # noqa: S101 - it is set before
        key, notes = record.conversation_id, tuple(done.damage)
        if done.deleted:
            if self._begun:
                await restore.target.events.delete(key)
                view = restore.target.storage.conversations.for_user(record.user_id)
                await view.delete_metadata(key)
            return Outcome(key, Result.LEFT_OUT, notes=("it was deleted during the backup",))
        while self._held:
            await self._write_held()
        at = restore.at
        if at is not None and not self._count and record.created_at > at:
            return Outcome(key, Result.LEFT_OUT, notes=("it was made later",))
        await self._begin()
        if not self._is_cut:
            restore.note_whole(key)
            await restore.loader.put_asides(key, self._asides)
        if self._workspace is not None and self._count and restore.cipher is not None:
            work = partial(open_snapshot, self._workspace, key, restore.cipher)
            await restore.target.workspaces.save(key, await asyncio.to_thread(work))
        written = await log_digest(restore.target, key, self._count)
        if not self._is_cut and written.value() != done.digest:
            return Outcome(key, Result.FAILED, self._count, ("its log is not that of the archive",))
        return Outcome(key, Result.COPIED, self._count, notes)

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._restore.loader.begin(self._unfolded())

    def _unfolded(self) -> ConversationMetadata:
        """Return the record without what its log says, which may be of a later moment than the log."""
        if self._restore.at is None:
            return self._record.checked_copy(last_updated_at=None, last_message_at=None)
        fields = ConversationMetadata.model_fields
        blank = {
            name: fields[name].get_default(call_default_factory=True) for name in FOLDED_FIELDS
        }
        return self._record.checked_copy(**blank)

    def _until(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        at = self._restore.at
        if at is None:
            return [*events]
        for place, event in enumerate(events):
            moment = _moment_of(event)
            if moment is not None and moment > at:
                self._is_cut = True
                return [*events[:place]]
        return [*events]


class _Part(NamedTuple):
    """A frame, and the events in it."""

    frame: Frame
    events: Sequence[StoredEvent] = ()


def _next_parts(frames: Iterator[Frame]) -> list[_Part]:
    """Return the next frames, READ_BYTES of them or a few more; none at the end. Block."""
    parts: list[_Part] = []
    size = 0
    for frame in frames:
        is_log = frame.kind is Kind.EVENTS
        parts.append(_Part(frame, decode_events(frame.body) if is_log else ()))
        size += len(frame.body)
        if size >= READ_BYTES:
            break
    return parts


async def _read_ahead(path: Path) -> AsyncGenerator[_Part]:
    """Yield the frames of a verified archive; the next ones are read meanwhile."""
    frames = read_frames(path, is_verified=True)
    reading = asyncio.ensure_future(asyncio.to_thread(_next_parts, frames))
    try:
        while parts := await reading:
            reading = asyncio.ensure_future(asyncio.to_thread(_next_parts, frames))
            for part in parts:
                yield part
    finally:
        await asyncio.wait([reading])


def _moment_of(event: StoredEvent) -> datetime | None:
    """Return the moment of an event; None where it has none, and so that of the one before."""
    try:
        return datetime.fromisoformat(orjson.loads(event.body)["timestamp"])
    except (KeyError, TypeError, ValueError):
        return None


def key_of(path: Path) -> tuple[str | None, bytes | None]:
    """Return the id of the key that an archive was sealed with, and the key file in it. Block.

    Both are None where there are none. Raises DamagedArchive, OSError.
    """
    key_id = None
    for frame in read_frames(path):
        if frame.kind is Kind.MANIFEST:
            key_id = model_in(Manifest, frame).key_id
        else:
            return key_id, frame.body if frame.kind is Kind.KEY else None
    return key_id, None
