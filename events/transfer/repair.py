"""Makes anew what is derived from the logs: records' folds, indexes of keys, lists and usage."""

from events.errors import DamagedRecord, EventsError
from events.transfer.contents import Stores
from events.transfer.progress import Progress, unshown
from events.usage import UsageLedger, counted
from events.verification import LogFold, differs
from storage.conversations.metadata import ConversationMetadata
from storage.errors import Damaged, StorageError
from storage.usage.model import ConversationUsage

NO_KEY = bytes(32)
"""The digest of nothing: looking it up shows whether the index can be read."""


async def repair(stores: Stores, progress: Progress = unshown) -> list[str]:
    """Rebuild the projections of a storage; return what was rebuilt and what could not be.

    Events, workspaces and users' records are never changed, and a log that is damaged is left as it
    is, with all that is derived of it. Raises StorageError where the storage cannot be used at all.
    """
    done: list[str] = []
    if await stores.storage.conversations.relist():
        done.append("the lists of conversations and titles were made anew")
    total = (await stores.storage.inventory.take()).conversations
    async for record in progress(stores.records(), "projections", total):
        try:
            done += await _mend(stores, record)
        except (EventsError, StorageError) as error:
            done.append(f"conversation {record.conversation_id} was left as it is: {error}")
    return done


async def _mend(stores: Stores, record: ConversationMetadata) -> list[str]:
    key, events = record.conversation_id, stores.events
    head = await events.head(key)
    fold, done = LogFold(), []
    known = await _usage_of(stores, key)
    usage = ConversationUsage(conversation_id=key)
    position = 0 if known is None else known.position
    is_indexed = await _finds(stores, key, NO_KEY, None)
    async for part in stores.parts(key, head.next_id):
        if part.damage is not None:
            raise DamagedRecord(key, part.events[0].id, part.events[-1].id)
        for event in part.events:
            digest = fold.add(event)
            if digest is not None and is_indexed:
                is_indexed = await _finds(stores, key, digest, event.id)
        usage = counted(usage, [one for one in part.events if one.id < position])
    if not is_indexed:
        await _index(stores, key, head.next_id)
        done.append(f"the idempotency keys of conversation {key} were put into the index")
    differing = fold.differing(record.__dict__)
    if differing or fold.summary.last_state_id != head.last_state_id:
        await events.refold(key, head.next_id, fold.summary)
        done.append(f"mended: {differs(key, differing or ['last_state_id'])}")
    if known is not None and (known.position, known.lines) != (usage.position, usage.lines):
        await UsageLedger(events, stores.storage.usage).recount(key)
        done.append(f"the usage of conversation {key} is counted anew")
    return done


async def _usage_of(stores: Stores, key: str) -> ConversationUsage | None:
    """Return the count of a conversation; a damaged one is one that no log comes to."""
    try:
        return await stores.storage.usage.load(key)
    except Damaged:
        return ConversationUsage(conversation_id=key, position=-1)


async def _finds(stores: Stores, key: str, digest: bytes, event_id: int | None) -> bool:
    """Return whether the index can be read and says that of a digest."""
    try:
        return await stores.events.find(key, digest) == event_id
    except DamagedRecord:
        return False


async def _index(stores: Stores, key: str, end_id: int) -> None:
    """Put all keys of a log that is whole into its index."""
    await stores.events.index_keys(key, {})
    fold = LogFold()
    async for part in stores.parts(key, end_id):
        digests = {fold.add(event): event.id for event in part.events}
        keys = {digest: one for digest, one in digests.items() if digest is not None}
        if keys:
            await stores.events.index_keys(key, keys)
