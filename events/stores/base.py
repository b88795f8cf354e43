"""The EventStore contract: a durable log per conversation, appended by compare-and-append."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import orjson

from events.errors import AppendConflict, AppendFailed, ConversationDeleted, StoreFull
from events.event import StoredEvent
from events.fence import Fence
from events.summary import SummaryChange
from storage.counters import Counters
from storage.errors import StorageError, StorageFull

NO_KEYS: Mapping[int, bytes] = {}
NEXT_TRIES = 8
"""Attempts to append at the end of a log that other writers may move."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log: the id the next event gets, the newest state event, the log's epoch.

    The epoch is a random text made with the log; an unknown conversation has `next_id` 0 and the
    epoch "". `fence` is the newest claim under which an event was appended. `last_timestamp` is the
    newest timestamp that a summary of the log's events told, "" where there is none. `masks` is the
    newest version of masks that an append named. `asides` is False where the log certainly had none
    when the head was read.
    """

    next_id: int
    last_state_id: int | None
    epoch: str
    deleted: bool = False
    fence: Fence | None = None
    last_timestamp: str = ""
    masks: int = 0
    asides: bool = field(default=True, compare=False)


class Formed(NamedTuple):
    """An append as it was formed for the end of a log; see EventStore.append for the fields."""

    events: Sequence[StoredEvent]
    summary: SummaryChange
    keys: Mapping[int, bytes] = NO_KEYS
    fence: Fence | None = None
    masks: int | None = None


PARTIALS, MEMORY = "partials", "memory"
"""The names of asides: checkpoints of texts that are being written, and an agent's own memory."""
MAX_ASIDE_BYTES = 16 * 1024 * 1024


class Aside(NamedTuple):
    """A small record beside a log, replaced as a whole; None removes it."""

    conversation_id: str
    name: str
    body: bytes | None


def aside_problem(conversation_id: str, name: object, body: bytes | None) -> str | None:
    """Return the problem of an aside of a log, whose body is None where it fails its checksum.

    What an agent's memory means is its agent's.
    """
    what = f"the aside {name} of conversation {conversation_id}"
    if name not in {PARTIALS, MEMORY}:
        return f"{what} is none that a server writes"
    if body is None:
        return f"{what} fails its checksum"
    if name == PARTIALS:
        try:
            held = orjson.loads(body)
        except orjson.JSONDecodeError:
            held = None
        if not isinstance(held, dict):
            return f"{what} is no JSON object"
    return None


Range = tuple[str, int, int]
"""A conversation and a range of its events: the first id, and one past the last."""
Form = Callable[[Head], Formed]
"""Makes the events for the end of a log, with ids from `next_id` and up; must not wait."""


async def append_at_end(
    conversation_id: str,
    end: Callable[[], Awaitable[Head]],
    form: Form,
    write: Callable[[int, Formed], Awaitable[object]],
) -> Head:
    """Form events for the end of the log and append them, again after a conflict; return that end.

    Raises what the three calls raise, and AppendFailed after NEXT_TRIES conflicts.
    """
    for _ in range(NEXT_TRIES):
        head = await end()
        if head.deleted:
            raise ConversationDeleted(conversation_id)
        try:
            await write(head.next_id, form(head))
        except AppendConflict:
            continue
        return head
    raise AppendFailed(f"overtaken {NEXT_TRIES} times by other writers")


def not_written(error: StorageError) -> AppendFailed:
    """Return what tells of a write that a storage did not do."""
    failure = StoreFull if isinstance(error, StorageFull) else AppendFailed
    return failure(str(error))


class EventStore(ABC):
    """Keeps the events of all conversations. Ids of a conversation are dense from 0.

    A log exists from its first append on. Every call may raise StoreUnavailable (reads) or
    AppendFailed / AppendUnknown (writes); drivers' errors never leave the store.
    """

    folds_metadata: bool = False
    """The summary given to `append` reaches the conversation's record in the same commit."""
    many: int = 1
    """The number of events of which `append_many` takes multiples best."""
    counters: Counters = Counters()
    """Counters of this store; classes that make none share this object."""

    @abstractmethod
    def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: Fence | None = None,
        masks: int | None = None,
    ) -> Awaitable[object]:
        """Append 1..N events, all or none; done when they are durable.

        `events` carry the ids `expected_next_id` and up. `keys` maps positions in `events` to
        the digests of their idempotency keys, stored with them for ever. Appends of different
        conversations may share a commit, and one that fails does not touch its neighbours.

        `fence` is the claim of the one that holds the log's loop. A greater number than the head's
        takes the loop over; None claims nothing, and is never refused for a fence. `masks` is the
        version of the masks with which the events were made. A greater one than the head's is the
        head's from then on; None names no version, and is never refused for one.

        Raises AppendConflict when the log's next id differs, Fenced when the claim is stale,
        MasksChanged when the version of the masks is below the head's, DuplicateClientId when keys
        are taken (the first of these that applies), ConversationDeleted after a deletion: in all of
        them nothing was written. AppendFailed, DamagedHead: nothing was written either, nor at
        DamagedRecord, where what says which keys are taken cannot be read. AppendUnknown: only
        `head` and `read` tell.
        """

    async def append_many(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
    ) -> None:
        """Append as `append` does, made for many events of a log that nobody else uses meanwhile.

        It may take as long as their bytes need. This default appends them.
        """
        await self.append(conversation_id, expected_next_id, events, summary=summary, keys=keys)

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """Have `form` make what goes to the log's end, and append it there; the end it was made for.

        Nobody comes between, and whoever appends without a pause lets this in: the calls for one
        log have their turns in the order in which they came. `form` is called in this event loop,
        again where its events could not be written, and what it raises is raised. Raises as
        `append` does, but no AppendConflict; where `form` was not called, also StoreUnavailable,
        and nothing was written.

        This default is for a store that has one writer at a time: it is overtaken a few times,
        then raises AppendFailed.
        """

        async def write(next_id: int, formed: Formed) -> None:
            events, summary, keys, fence, masks = formed
            await self.append(
                *(conversation_id, next_id, events),
                summary=summary,
                keys=keys,
                fence=fence,
                masks=masks,
            )

        return await append_at_end(
            conversation_id, partial(self.head, conversation_id), form, write
        )

    @abstractmethod
    async def head(self, conversation_id: str) -> Head:
        """Return the end of the log as committed now. Raises DamagedHead if it is not known."""

    async def heads(self, conversation_ids: Sequence[str]) -> list[Head]:
        """Return the ends of several logs, in that order; this default reads one after the other.

        Raises DamagedHead for any of them.
        """
        return [await self.head(conversation_id) for conversation_id in conversation_ids]

    @abstractmethod
    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """Return the committed events with start_id <= id < end_id, ascending.

        A deleted conversation reads as empty. Raises DamagedRecord naming the damaged range.
        """

    async def read_part(
        self,
        conversation_id: str,
        start_id: int,
        end_id: int,
        limit_bytes: int | None,  # noqa: ARG002 - for stores that can stop early
    ) -> list[StoredEvent]:
        """Return what `read` returns, but end early once `limit_bytes` are reached.

        What it gives besides is at least one event where `read` gives one.

        A store that does not stop there holds the whole range in memory.
        """
        return await self.read(conversation_id, start_id, end_id)

    async def read_many(self, ranges: Sequence[Range]) -> list[list[StoredEvent]]:
        """`read` of several ranges, in that order; this default reads one after the other.

        Raises DamagedRecord for any of them.
        """
        return [await self.read(*one) for one in ranges]

    @abstractmethod
    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """Return the id of the event stored with that key's digest, or None."""

    async def put_asides(self, asides: Sequence[Aside]) -> None:  # noqa: B027 - optional
        """Keep records beside their logs, each in the place of the one of that name; done when durable.

        An aside may lag behind its log, and is never read for what the log says: it is put after
        the append that it belongs to, or stands for itself. Those of different logs share a commit
        where the store can, and each is kept whole or not at all. Asides of logs that do not exist
        or are deleted are passed over. Names are PARTIALS and MEMORY, bodies of at most
        MAX_ASIDE_BYTES bytes.

        Raises AppendFailed, AppendUnknown: some may be kept. This default keeps nothing.
        """

    async def asides(self, conversation_id: str) -> Mapping[str, bytes]:  # noqa: ARG002
        """Return the asides of a log by name; a damaged one is logged and left out.

        Raises StoreUnavailable. This default knows none.
        """
        return {}

    async def refold(  # noqa: B027 - optional
        self, conversation_id: str, next_id: int, summary: SummaryChange
    ) -> None:
        """Set what the record and the head derive from a log to the fold of the whole log.

        Nothing happens unless the log still ends before `next_id`. A field that is None in
        `summary` stays, except `last_state_id`. Raises AppendFailed, AppendUnknown. This default
        is for stores whose folds cannot differ.
        """

    async def index_keys(  # noqa: B027 - optional
        self, conversation_id: str, keys: Mapping[bytes, int]
    ) -> None:
        """Put digests of keys and the ids of their events into the index, over what it says.

        What of the index cannot be read is emptied first, so that all keys of the log must follow.
        Raises AppendFailed, AppendUnknown. This default is for stores whose index cannot be lost.
        """

    def when_failed_over(self, callback: Callable[[], None]) -> None:  # noqa: B027 - optional
        """Have `callback` told whenever the storage may have lost what it had acknowledged.

        It must neither wait nor raise. This default is for a storage that loses nothing.
        """

    @abstractmethod
    async def delete(self, conversation_id: str) -> None:
        """Write a tombstone, atomically and permanently, then drop the events and the asides.

        Deleting again, or an unknown log, is not an error. A late append gets ConversationDeleted;
        the id is never used again.
        """
