"""Usage over a FileStore: a file per conversation, all loaded into memory on first use."""

import asyncio
import logging

from pydantic import ValidationError

from storage.conversations.listing import Listing
from storage.errors import Damaged
from storage.files.base import FileStore
from storage.files.format import checked_body, with_checksum
from storage.usage import counts
from storage.usage.base import PAGE, UsageStore
from storage.usage.counts import UpdatedRecord
from storage.usage.model import EVER, ConversationUsage, Span, UncountedLog, UsageTotal

_LOG = logging.getLogger(__name__)

_KIND = "usage"
_FOLDER = "usage/"
READ_AT_ONCE = 100


class FileUsage(UsageStore):
    """Counts of conversations whose lists are in memory. A damaged count is computed again."""

    def __init__(self, files: FileStore, listing: Listing) -> None:
        self._files = files
        self._listing = listing
        self._serial = asyncio.Lock()
        self._counts: dict[str, ConversationUsage] | None = None

    async def behind(self, after: str = "", limit: int = PAGE) -> list[UncountedLog]:
        """See UsageStore."""
        known = await self._known()
        moments = (
            UpdatedRecord(entry.position.conversation_id, entry.owner, entry.updated)
            for entry in self._listing.all_owners()
        )
        return counts.behind(moments, known, after, limit)

    async def counted(self, after: str = "", limit: int = PAGE) -> list[str]:
        """See UsageStore."""
        return sorted(one for one in await self._known() if one > after)[:limit]

    async def load(self, conversation_id: str) -> ConversationUsage | None:
        """See UsageStore."""
        return (await self._known()).get(conversation_id)

    async def save(self, usage: ConversationUsage, expected_position: int) -> None:
        """See UsageStore."""
        known = await self._known()
        async with self._serial:
            counts.check_position(known.get(usage.conversation_id), expected_position)
            content = with_checksum(_KIND, usage.model_dump_json().encode())
            await self._files.write(_FOLDER + usage.conversation_id, content)
            known[usage.conversation_id] = usage

    async def forget(self, conversation_id: str) -> None:
        """See UsageStore."""
        known = await self._known()
        async with self._serial:
            await self._files.delete(_FOLDER + conversation_id)
            known.pop(conversation_id, None)

    async def totals(self, span: Span = EVER, limit: int = 10_000) -> list[UsageTotal]:
        """See UsageStore."""
        return counts.totals((await self._known()).values(), span, limit)

    async def _known(self) -> dict[str, ConversationUsage]:
        async with self._serial:
            if self._counts is None:
                self._counts = await self._read()
            return self._counts

    async def _read(self) -> dict[str, ConversationUsage]:
        keys = await self._files.keys(_FOLDER)
        found: dict[str, ConversationUsage] = {}
        for begin in range(0, len(keys), READ_AT_ONCE):
            some = keys[begin : begin + READ_AT_ONCE]
            for key, content in zip(some, await self._files.read_all(some), strict=True):
                try:
                    body = checked_body(_KIND, content or b"", key)
                    count = ConversationUsage.model_validate_json(body)
                except (Damaged, ValidationError):
                    _LOG.exception("%s is counted anew", key)
                else:
                    found[count.conversation_id] = count
        return found
