"""Holds deletions by age back when the system's clock has gone ahead."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from storage.audit.base import AuditLog, AuditRecord
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter
from storage.errors import StorageError

logger = logging.getLogger(__name__)

LEAP = timedelta(days=1)
"""A clock that is further ahead than this is not believed at once."""
HOLD = timedelta(days=1)
"""The time for which nothing is deleted after that."""
WHO = "retention"
HELD = "hold deletions by age back"
NEWEST_ACTS = 200
"""Records of the audit among which one of an earlier process is looked for."""
ALL_ACTS = 2**63 - 1

Now = Callable[[], datetime]
"""Returns the time of the system's clock, in UTC."""
Monotonic = Callable[[], float]
"""Returns seconds of a clock that nobody sets."""


def system_now() -> datetime:
    """Return the time of the system's clock, in UTC."""
    return datetime.now(UTC)


def last_used(record: ConversationMetadata) -> datetime:
    """Return the time of a conversation's last event, or of its creation if that is later."""
    return max(record.created_at, record.last_updated_at or record.created_at)


class ClockGuard:
    """Compares the system's clock with one that nobody sets, and at first with what is stored.

    A clock that went a day or more ahead makes conversations seem older than they are. It may also
    be right: the machine slept, or the storage was not used for days. So nothing is deleted for a
    day, the log and the audit say why, and after that day the clock is believed. Set back within
    the day, it is believed at once. A process that is started within the day finds it in the audit.
    """

    def __init__(
        self,
        stores: ConversationStores,
        audit: AuditLog,
        now: Now = system_now,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._stores = stores
        self._audit = audit
        self._now = now
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        self._held_since: datetime | None = None

    @property
    def held_until(self) -> datetime | None:
        """The end of the time for which nothing may be deleted; None if anything may."""
        since = self._held_since
        if since is None or not since <= self._now() < since + HOLD:
            return None
        return since + HOLD

    async def look(self) -> datetime | None:
        """Compare the clocks, and return what `held_until` is now. Raises StorageError."""
        now, beat = self._now(), self._monotonic()
        if self._last is None:
            ahead = await self._ahead_of_storage(now)
        else:
            before, then = self._last
            ahead = now - before - timedelta(seconds=beat - then)
        self._last = now, beat
        if ahead >= LEAP:
            self._held_since = now
            await self._tell(now, ahead)
        return self.held_until

    async def _ahead_of_storage(self, now: datetime) -> timedelta:
        """Return how far the clock is ahead of the newest that is stored; 0 where that is known."""
        acts = await self._audit.page(ALL_ACTS, NEWEST_ACTS, only_acts=True)
        known = next((act for act in acts if act.who == WHO), None)
        if known is not None and known.at <= now < known.at + HOLD + LEAP:
            if known.action == HELD:
                self._held_since = known.at
            return timedelta()
        newest = (await self._stores.search_all(None, 1)).results
        if not newest:
            return timedelta()
        ahead = now - last_used(newest[0])
        if ahead >= LEAP:
            # Created long ago is not unused: this one looks at every record, and only here.
            recent = ConversationFilter(updated_since=now - LEAP)
            if (await self._stores.search_all(None, 1, filters=recent)).results:
                return timedelta()
        return ahead

    async def _tell(self, now: datetime, ahead: timedelta) -> None:
        days = ahead / timedelta(days=1)
        until = (now + HOLD).isoformat(timespec="seconds")
        text = f"the clock went ahead by {days:.1f} days: nothing is deleted by age until {until}"
        logger.warning("%s; if it is wrong, set it right before that", text)
        act = AuditRecord(
            at=now, last_at=now, who=WHO, client=None, action=HELD, outcome=text, acting=True
        )
        try:
            await self._audit.add(act)
        except StorageError:
            logger.exception("cannot record in the audit that deletions by age are held back")
