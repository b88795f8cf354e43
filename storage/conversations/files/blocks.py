"""Stored lists of conversations: blocks of their entries on the medium."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import orjson

from storage.conversations.entries import MESSAGED, POSITION, ListEntry
from storage.conversations.listing import Listing
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ListPosition
from storage.errors import Damaged, NewerFormat
from storage.files.format import checked_body, with_checksum
from storage.unicode_text import fold_case

BLOCK = 500
"""Entries of a block, in order of creation: entries used together are stored together."""

_KIND = "list"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class StoredListing(Listing):
    """A listing in blocks; `dirty` holds blocks that differ from the medium."""

    def __init__(self) -> None:
        super().__init__()
        self.dirty: set[int] = set()
        self._blocks: defaultdict[int, dict[str, ListEntry]] = defaultdict(dict)
        self._newest = 0

    def put(self, record: ConversationMetadata) -> None:
        """See Listing."""
        key = record.conversation_id
        known = self.get(key)
        self.remove(key)
        if known is None and len(self._blocks[self._newest]) >= BLOCK:
            self._newest += 1
        entry = ListEntry.of(record, self._newest if known is None else known.block)
        self._blocks[entry.block][key] = entry
        self.dirty.add(entry.block)
        self._insert(key, entry)

    def touch(
        self, conversation_id: str, moment: datetime | None, message: datetime | None
    ) -> None:
        """See Listing."""
        super().touch(conversation_id, moment, message)
        entry = self.get(conversation_id)
        if entry is not None and moment is not None:
            self.dirty.add(entry.block)

    def remove(self, conversation_id: str) -> None:
        """See Listing."""
        entry = self.get(conversation_id)
        super().remove(conversation_id)
        if entry is not None:
            del self._blocks[entry.block][conversation_id]
            self.dirty.add(entry.block)

    def encode(self, block: int) -> bytes:
        """Return the file of a block."""
        rows = (
            (
                key,
                entry.owner,
                _number(entry.position.moment),
                entry.repository,
                entry.trigger,
                entry.title,
                _number(entry.updated),
                _number(entry.messaged.moment),
            )
            for key, entry in self._blocks[block].items()
        )
        return with_checksum(_KIND, b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def load(self, contents: Iterable[tuple[str, bytes]]) -> list[str]:
        """Load the files of blocks by key; return the keys of damaged ones.

        Raises NewerFormat: such a block must not be rewritten.
        """
        damaged: list[str] = []
        for key, content in contents:
            name = key.rpartition("/")[2]
            if not name.isdecimal():
                continue  # nothing of ours
            self._newest = max(self._newest, int(name))
            try:
                self._load(self._newest, checked_body(_KIND, content, key))
            except NewerFormat:
                raise
            except Damaged:
                damaged.append(key)
        return damaged

    def sort(self) -> None:
        """Bring the lists in order after `load`, before anything else."""
        for entries in self._lists.values():
            entries.sort(key=POSITION)
        for entries in self._messages.values():
            entries.sort(key=MESSAGED)

    def _load(self, block: int, body: bytes) -> None:
        for line in body.splitlines():
            key, owner, created, repository, trigger, title, updated, *rest = orjson.loads(line)
            position = ListPosition(_EPOCH + created * _MICROSECOND, key)
            moment = _EPOCH + updated * _MICROSECOND
            # Older versions folded the case of ASCII letters only.
            title = None if title is None else fold_case(title)
            # Where an older version did not say, the last event stands for the last message.
            message = _EPOCH + rest[0] * _MICROSECOND if rest else moment
            entry = ListEntry(block, position, owner, repository, trigger, title, moment, message)
            self._entries[key] = self._blocks[block][key] = entry
            self._updates.add(entry)
            self._messages[owner].append(entry)
            for name in entry.lists():
                self._lists[name].append(entry)


def _number(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
