"""Copies a storage into another of any kind, and verifies each conversation by its digest."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from events.errors import EventsError
from events.transfer.contents import Stores
from events.transfer.digest import LogDigest, log_digest
from events.transfer.loading import Loader
from events.transfer.progress import Progress, unshown
from events.transfer.report import Outcome, Report, Result
from storage.audit.base import KEPT, AuditRecord
from storage.conversations.metadata import ConversationMetadata
from storage.errors import StorageError
from storage.users.base import RecordName
from storage.workspaces.manifest import Loaded

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Conversations that are copied at the same time."""
KNOWN_OWNERS = 10_000
"""Owners that are remembered as copied; another one is copied again, which changes nothing."""
PAGE = 500
COUNTED = 100_000
"""Conversations up to which every kind counts them one by one; of more, some give an estimate."""
T = TypeVar("T")
R = TypeVar("R")


async def in_parallel(
    items: AsyncIterable[T], work: Callable[[T], Awaitable[R]], limit: int = AT_ONCE
) -> AsyncIterator[R]:
    """Yield the results of `work` for all items as they come, for `limit` of them at a time."""
    running: set[asyncio.Future[R]] = set()
    try:
        async for item in items:
            running.add(asyncio.ensure_future(work(item)))
            if len(running) >= limit:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    yield one.result()
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                yield one.result()
    finally:
        for one in running:
            one.cancel()


async def each_of(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items."""
    for item in items:
        yield item


class Copy:
    """One copy. What is there already and the same is left, so that it can be begun again."""

    def __init__(self, source: Stores, target: Stores) -> None:
        self.report = Report()
        self._source = source
        self._target = target
        self._loader = Loader(target)
        self._owners: OrderedDict[str | None, None] = OrderedDict()

    async def outcomes(self, progress: Progress = unshown) -> AsyncIterator[Outcome]:
        """Copy everything; yield the outcome of each conversation, and leave the rest in `report`.

        Raises StorageError where a storage cannot be used at all.
        """
        total = (await self._source.storage.inventory.take()).conversations
        shown = progress(self._source.records(), "conversations", total)
        async for outcome in self.report.counting(in_parallel(shown, self._copy)):
            yield outcome
        unreadable = total - self.report.results.total()
        if unreadable > 0 and total <= COUNTED:
            self.report.problems.append(f"{unreadable} records that cannot be read were left out")
        await self._copy_deletions()
        await self._copy_owner(None)
        await self._copy_unknown_users()
        await self._copy_usage()
        await self._copy_audit()

    async def _copy(self, record: ConversationMetadata) -> Outcome:
        key = record.conversation_id
        try:
            await self._copy_owner(record.user_id)
            return await self._copy_conversation(record)
        except (EventsError, StorageError) as error:
            return Outcome(key, Result.FAILED, notes=(str(error),))

    async def _copy_conversation(self, record: ConversationMetadata) -> Outcome:
        key, loader, notes = record.conversation_id, self._loader, []
        source_head = await self._source.events.head(key)
        end = source_head.next_id
        head, is_new = await loader.begin(record)
        digest = await log_digest(self._source, key, min(head.next_id, end))
        known = await log_digest(self._target, key, head.next_id)
        if head.deleted or known.value() != digest.value():
            return Outcome(key, Result.DIFFERS, notes=("the target has another log of this id",))
        async for part in self._source.parts(key, end, head.next_id):
            if part.damage is not None:
                notes.append(f"{part.damage}: markers stand for them")
            digest.add(part.events)
            await loader.append(key, part.events)
        kept = await loader.finish(record)
        await loader.put_asides(key, await self._source.events.asides(key))
        notes += await self._copy_workspace(key)
        if await self._written(key, end) != digest.value() or kept != record:
            return Outcome(key, Result.FAILED, end, ("its digest is not that of the source",))
        result = Result.UNCHANGED if head.next_id == end and not is_new else Result.COPIED
        return Outcome(key, result, end, tuple(notes))

    async def _written(self, key: str, end: int) -> str:
        head = await self._target.events.head(key)
        written: LogDigest = await log_digest(self._target, key, max(end, head.next_id))
        return written.value()

    async def _copy_workspace(self, key: str) -> list[str]:
        loaded = await self._source.workspaces.load(key)
        if loaded is None:
            return []
        await self._target.workspaces.save(key, loaded.snapshot)
        kept: Loaded | None = await self._target.workspaces.load(key)
        if kept is None or kept.snapshot != loaded.snapshot:
            return ["its workspace is not that of the source"]
        return [f"the file {path!r} of its workspace is damaged" for path in loaded.lost]

    async def _copy_owner(self, user_id: str | None) -> None:
        if user_id in self._owners:
            return
        self._owners[user_id] = None
        while len(self._owners) > KNOWN_OWNERS:
            self._owners.popitem(last=False)
        try:
            await self._copy_user(user_id)
        except StorageError as error:
            self.report.problems.append(f"settings and secrets of a user were left out: {error}")

    async def _copy_user(self, user_id: str | None) -> None:
        """Copy settings and secrets of an owner who is known, sealed with the target's key."""
        source, target = self._source.storage, self._target.storage
        settings = await source.settings.for_user(user_id).load()
        if settings is not None and await target.settings.for_user(user_id).load() != settings:
            await target.settings.for_user(user_id).store(settings)
        secrets = await source.secrets.for_user(user_id).load()
        if await target.secrets.for_user(user_id).load() != secrets:
            await target.secrets.for_user(user_id).store(secrets)

    async def _copy_unknown_users(self) -> None:
        """Copy records of users without a conversation, as they are sealed: by digests of owners."""
        source, target = self._source.storage, self._target.storage
        ciphers = await source.key.for_reading(), await target.key.for_reading()
        lost = 0
        after: RecordName | None = None
        while names := await source.users.names(after, PAGE):
            for name in names:
                record = await source.users.read_named(name)
                if record is None or await target.users.read_named(name) is not None:
                    continue
                if ciphers[1] is None:
                    ciphers = ciphers[0], await target.key.for_writing()
                if (
                    ciphers[0] is None
                    or ciphers[1] is None
                    or ciphers[0].key_id != ciphers[1].key_id
                ):
                    lost += 1
                else:
                    await target.users.write_named(name, record)
            after = names[-1]
        if lost:
            self.report.problems.append(
                f"{lost} records of users who have no conversation were left out: they are sealed"
                " with another key than the target's, and whose they are is not known"
            )

    async def _copy_deletions(self) -> None:
        """Spend the ids of deleted conversations in the target, too."""
        conversations, after = self._source.storage.conversations, ""
        while ids := await conversations.deleted(after):
            spent = in_parallel(each_of(ids), self._spend)
            self.report.problems += [problem async for problem in spent if problem is not None]
            after = ids[-1]

    async def _spend(self, conversation_id: str) -> str | None:
        """Return why an id of a deleted conversation is not one in the target."""
        try:
            if await self._loader.spend(conversation_id):
                return None
        except (EventsError, StorageError) as error:
            return f"the id {conversation_id} of a deleted conversation: {error}"
        return f"{conversation_id} was deleted, and the target has a conversation of that id"

    async def _copy_usage(self) -> None:
        """Copy counts, those of deleted conversations too."""
        store, after = self._source.storage.usage, ""
        while keys := await store.counted(after, PAGE):
            for key in keys:
                try:
                    usage = await store.load(key)
                except StorageError as error:
                    self.report.problems.append(str(error))
                    continue
                if usage is not None:
                    await self._loader.put_usage(usage)
            after = keys[-1]

    async def _copy_audit(self) -> None:
        kept = {_without_id(one) for one in await _audit_of(self._target)}
        for record in reversed(await _audit_of(self._source)):
            if _without_id(record) not in kept:
                await self._target.storage.audit.add(record)


def _without_id(record: AuditRecord) -> str:
    return record.model_copy(update={"id": 0}).model_dump_json()


async def _audit_of(stores: Stores) -> list[AuditRecord]:
    """Return all records, the newest first; there are never more than some 20,000."""
    return await stores.storage.audit.page(2**62, 3 * KEPT)
