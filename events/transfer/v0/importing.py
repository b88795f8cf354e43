"""Imports a V0 directory into a storage: every event that can be read, whole and the same each time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import datetime, tzinfo
from pathlib import Path

from events.errors import EventsError
from events.event import StoredEvent
from events.redaction import Redactor
from events.transfer.contents import PAGE_EVENTS, Stores
from events.transfer.copying import in_parallel
from events.transfer.digest import LogDigest, log_digest
from events.transfer.loading import Loader
from events.transfer.progress import Progress, unshown
from events.transfer.report import Outcome, Report, Result
from events.transfer.v0.conversion import Conversion, ZoneNeeded, moment_of
from events.transfer.v0.layout import V0Conversation, conversations_in, read_object
from events.transfer.v0.records import record_of, user_data_of
from storage.conversations.metadata import ConversationMetadata
from storage.errors import BadKey, StorageError
from storage.keys import check_conversation_id

SETTINGS, SECRETS = "settings.json", "secrets.json"


class Import:
    """One import; without a `target` nothing is written.

    What is there already is left, so that it can be begun again, also after a server has gone on
    with what was imported.
    """

    def __init__(self, root: Path, target: Stores | None, zone: tzinfo | None = None) -> None:
        self.report = Report()
        self._root = root
        self._target = target
        self._zone = zone
        self._users = user_data_of(read_object(root / SETTINGS), read_object(root / SECRETS))
        self._redactor = Redactor(self._users.masks())

    async def outcomes(self, progress: Progress = unshown) -> AsyncGenerator[Outcome, None]:
        """Import everything; yield the outcome of each conversation, and leave the rest in `report`.

        Raises ZoneNeeded before anything is written, and StorageError, OSError where nothing can be
        read or written at all.
        """
        conversations = await asyncio.to_thread(lambda: [*conversations_in(self._root)])
        await asyncio.to_thread(self._check_zone, conversations)
        self.report.notes += self._users.notes
        await self._put_users()
        shown = progress(_each(conversations), "conversations", len(conversations))
        async for outcome in self.report.counting(in_parallel(shown, self._import)):
            yield outcome

    def _check_zone(self, conversations: list[V0Conversation]) -> None:
        """Look at the first moment of each conversation: a server writes all of them alike."""
        for one in conversations:
            record_of(one.conversation_id, None, one.metadata() or {}, self._zone, None)
            self._begin_of(one)

    def _begin_of(self, conversation: V0Conversation) -> datetime | None:
        """Return the moment of the first event that has one. Raises ZoneNeeded."""
        for payload in conversation.first_payloads():
            moment = moment_of(payload.get("timestamp"), self._zone)
            if moment is not None:
                return moment
        return None

    async def _put_users(self) -> None:
        if self._target is None:
            return
        storage, notes = self._target.storage, self.report.notes
        settings = storage.settings.for_user(None)
        kept = await settings.load()
        if self._users.settings is not None and kept is None:
            await settings.store(self._users.settings)
        elif self._users.settings is not None and kept != self._users.settings:
            notes.append("settings were left as they are: the storage has some already")
        secrets = storage.secrets.for_user(None)
        known = await secrets.load()
        if not known.masks():
            await secrets.store(self._users.secrets)
        elif known != self._users.secrets:
            notes.append("secrets were left as they are: the storage has some already")

    async def _import(self, conversation: V0Conversation) -> Outcome:
        key = conversation.conversation_id
        try:
            check_conversation_id(key)
            return await self._import_conversation(conversation)
        except BadKey as error:
            return Outcome(key, Result.LEFT_OUT, notes=(str(error),))
        except (EventsError, StorageError, ZoneNeeded, OSError) as error:
            return Outcome(key, Result.FAILED, notes=(str(error),))

    async def _import_conversation(self, conversation: V0Conversation) -> Outcome:
        key, target = conversation.conversation_id, self._target
        found = await asyncio.to_thread(conversation.metadata)
        begin = await asyncio.to_thread(self._begin_of, conversation)
        record, notes = record_of(key, conversation.user_id, found, self._zone, begin)
        if found is None and begin is None:
            return Outcome(key, Result.LEFT_OUT, notes=("nothing of it can be read",))
        conversion = Conversion(self._zone, self._redactor, begin)
        events = conversion.convert(conversation.events())
        if target is None:
            count = 0
            async for part in _parts(events):
                count += len(part)
            return Outcome(key, Result.COPIED, count, (*notes, *conversion.notes))
        result, count = await self._write(target, record, events)
        return Outcome(key, result, count, (*notes, *conversion.notes))

    async def _write(
        self, target: Stores, record: ConversationMetadata, events: Iterator[StoredEvent]
    ) -> tuple[Result, int]:
        """Write what the target lacks; return the result and the number of events."""
        key, loader, digest = record.conversation_id, Loader(target), LogDigest()
        head, is_new = await loader.begin(record)
        known: str | None = None
        async for part in _parts(events):
            rest = part
            if digest.count < head.next_id:
                older = [one for one in part if one.id < head.next_id]
                digest.add(older)
                rest = part[len(older) :]
            if known is None and (rest or digest.count == head.next_id):
                known = (await log_digest(target, key, head.next_id)).value()
                if head.deleted or known != digest.value():
                    return Result.DIFFERS, 0
            if rest:
                digest.add(rest)
                await loader.append(key, rest)
        written = await log_digest(target, key, digest.count)
        if head.deleted or written.value() != digest.value():
            return Result.DIFFERS, 0
        if head.next_id >= digest.count and not is_new:
            return Result.UNCHANGED, digest.count
        await loader.finish(record)
        return Result.COPIED, digest.count


async def _each(conversations: list[V0Conversation]) -> AsyncIterator[V0Conversation]:
    for one in conversations:
        yield one


async def _parts(events: Iterator[StoredEvent]) -> AsyncIterator[list[StoredEvent]]:
    """Yield the events some at a time, made in a thread: each needs a file."""
    while part := await asyncio.to_thread(_take, events):
        yield part


def _take(events: Iterator[StoredEvent]) -> list[StoredEvent]:
    part: list[StoredEvent] = []
    for event in events:
        part.append(event)
        if len(part) == PAGE_EVENTS:
            break
    return part
