"""Deletes conversations that were not used for longer than the limit of their owner.

A conversation's age counts from its last event, or from its creation if that is later. One that is
open - a loop, a client, a request - or in which an approval waits for its user is left for a later
sweep. Each is deleted as its owner would delete it, one at a time, and stands in the audit.
"""

import asyncio
import logging
import random
import time
from asyncio import Task
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Self

import orjson

from events.damage import with_markers
from events.errors import ConversationDeleted, DamagedHead, EventsError, StreamClosed
from events.stores.base import EventStore
from server.config.settings import FOREVER, ServerConfig
from server.conversations.clock_guard import (
    WHO,
    ClockGuard,
    Monotonic,
    Now,
    last_used,
    system_now,
)
from server.conversations.manager import ConversationManager, InUse
from server.errors import NotSupported, ServerError
from server.observability.counters import ServerCounters
from storage.audit.base import AuditLog, AuditRecord
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import ConversationMetadata, ConversationMetadataResultSet
from storage.conversations.paging import MAX_LIMIT, ListPosition
from storage.errors import ConversationNotFound, StorageError

logger = logging.getLogger(__name__)

AT_MOST = 500
"""Conversations that one sweep deletes; where more are due, the next one comes soon."""
FAILURES = 20
"""Deletions that fail one after the other until a sweep ends: it is the storage then."""
FIRST_SECONDS, EVERY_SECONDS, SOON_SECONDS = 60.0, 3600.0, 60.0
"""Seconds from the start to the first sweep, to the next one, and to the next one if more is due."""
JITTER = 0.2
"""The part of those seconds by which they vary: servers started together do not sweep together."""
PAGE_SECONDS = 60.0
DELETION_SECONDS = 120.0
"""Seconds a sweep waits for one deletion, which goes on by itself."""
READ_EVENTS = 500
READ_BYTES = 4 * 1024 * 1024
SWEEP, DELETE = "sweep by age", "delete by age"


class AgeLimits(NamedTuple):
    """Days without use after which conversations are deleted; None is never."""

    days: int | None = None
    by_user: Mapping[str, int | None] = {}
    """The limits of users who have their own, in place of `days`."""

    @classmethod
    def of(cls, config: ServerConfig) -> Self:
        """Return the limits that the settings name."""
        users = config.retention_days_by_user
        return cls(
            config.retention_days,
            {user: None if days == FOREVER else int(days) for user, days in users.items()},
        )

    @property
    def any(self) -> bool:
        """Whether anything is ever deleted."""
        return self.days is not None or any(days is not None for days in self.by_user.values())


class Due(NamedTuple):
    """A conversation past its limit: not used since `before`."""

    record: ConversationMetadata
    days: int
    before: datetime


@dataclass(slots=True)
class Swept:
    """The outcome of one sweep, in conversations."""

    deleted: int = 0
    waiting: int = 0
    """Due, but in use."""
    failed: int = 0
    more: bool = False
    """The sweep has ended at its bound."""
    held_until: datetime | None = None
    """Nothing was done because of the clock, see ClockGuard."""

    def summary(self) -> str:
        """Return the numbers in one line."""
        return f"{self.deleted} deleted, {self.waiting} in use, {self.failed} failed"


@dataclass(slots=True)
class UserDue:
    """The conversations of one user that are past the limit; times are of the last use."""

    user_id: str | None
    days: int
    conversations: int = 0
    waiting: int = 0
    """Of these, how many are in use and would stay for now."""
    events: int = 0
    size_bytes: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, one: "Looked") -> None:
        """Count one more."""
        used = last_used(one.due.record)
        self.conversations += 1
        self.waiting += one.in_use is not None
        self.events += one.events
        self.size_bytes += one.size_bytes
        self.oldest = used if self.oldest is None else min(self.oldest, used)
        self.newest = used if self.newest is None else max(self.newest, used)

    def line(self, now: datetime) -> str:
        """Return it as a line for people."""
        name = "no user" if self.user_id is None else self.user_id
        ages = [(now - used).days for used in (self.newest, self.oldest) if used is not None]
        waiting = f", {self.waiting} of them in use" if self.waiting else ""
        return (
            f"{name}: {self.conversations} conversations, {self.events} events,"
            f" {self.size_bytes} bytes, last used {ages[0]} to {ages[-1]} days ago,"
            f" the limit is {self.days} days{waiting}"
        )


class Looked(NamedTuple):
    """A conversation that is due, and what would go with it; `size_bytes` are those of its events."""

    due: Due
    in_use: InUse | None
    events: int
    size_bytes: int

    def line(self) -> bytes:
        """Return it as a line of JSON."""
        record = self.due.record
        fields = {
            "conversation_id": record.conversation_id,
            "user_id": record.user_id,
            "last_used": last_used(record),
            "days": self.due.days,
            "events": self.events,
            "bytes": self.size_bytes,
            "in_use": self.in_use,
        }
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(slots=True)
class Survey:
    """The conversations that are due, by user, in the order in which they were found."""

    users: list[UserDue] = field(default_factory=list)
    complete: bool = True
    """Whether everything that is due was looked at."""

    def add(self, one: Looked) -> None:
        """Count one more."""
        user_id = one.due.record.user_id
        known = next((user for user in self.users if user.user_id == user_id), None)
        if known is None:
            known = UserDue(user_id, one.due.days)
            self.users.append(known)
        known.add(one)

    def lines(self, now: datetime) -> list[str]:
        """Return a line for each user, and one for all together."""
        counted = sum(user.conversations for user in self.users)
        events = sum(user.events for user in self.users)
        size = sum(user.size_bytes for user in self.users)
        total = f"{counted} conversations, {events} events, {size} bytes"
        return [
            *(user.line(now) for user in self.users),
            f"past the limit: {total}; nothing was deleted",
        ]


class Retention(AbstractAsyncContextManager["Retention"]):
    """Sweeps a storage; in an `async with` block once an hour by itself, if there are limits."""

    def __init__(
        self,
        limits: AgeLimits,
        manager: ConversationManager,
        stores: ConversationStores,
        events: EventStore,
        audit: AuditLog,
        counters: ServerCounters,
        *,
        now: Now = system_now,
        monotonic: Monotonic = time.monotonic,
        first_seconds: float = FIRST_SECONDS,
    ) -> None:
        self.limits = limits
        self._manager = manager
        self._stores = stores
        self._events = events
        self._audit = audit
        self._counters = counters
        self._now = now
        self._first_seconds = first_seconds
        self._guard = ClockGuard(stores, audit, now, monotonic)
        self._serial = asyncio.Lock()
        self._task: Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self.limits.any:
            # Before anybody can store anything under a clock that is wrong.
            with suppress(StorageError, ServerError):  # the first sweep looks again, and says it
                await self._guard.look()
            self._task = asyncio.create_task(self._run(), name="retention")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def held_until(self) -> datetime | None:
        """The time before which nothing is deleted because of the clock; None if anything may be."""
        return self._guard.held_until

    async def sweep(self, at_most: int = AT_MOST, *, clock_is_right: bool = False) -> Swept:
        """Delete what is due and not in use, at most `at_most`; one sweep at a time.

        With `clock_is_right` the clock is believed. What fails is logged, and is due again. Raises
        StorageError where the storage cannot be listed, StreamClosed once the manager is closed,
        NotSupported with a manager that cannot delete by age.
        """
        async with self._serial:
            swept = Swept()
            if not clock_is_right:
                swept.held_until = await self._guard.look()
            self._counters.retention_held = int(swept.held_until is not None)
            if swept.held_until is None:
                await self._sweep(swept, at_most)
                self._counters.retention_sweeps += 1
                self._counters.retention_waiting = swept.waiting
                logger.info("swept conversations by age: %s", swept.summary())
            return swept

    async def sweeps(self, *, clock_is_right: bool = False) -> AsyncGenerator[Swept]:
        """Sweep until nothing is left that can be deleted. Raises as `sweep`."""
        more = True
        while more:
            swept = await self.sweep(clock_is_right=clock_is_right)
            yield swept
            more = swept.more

    async def due(self) -> AsyncGenerator[Due]:
        """Yield the conversations past their limits: those of users with their own limit first.

        A list in the order of creation is read from each limit on: what was created since is not
        looked at. Raises StorageError, TimeoutError.
        """
        now = self._now()
        for user_id, days in self.limits.by_user.items():
            if days is not None:
                async for one in self._older(self._stores.for_user(user_id).search, now, days):
                    yield one
        if self.limits.days is not None:
            async for one in self._older(self._stores.search_all, now, self.limits.days):
                if one.record.user_id not in self.limits.by_user:
                    yield one

    async def looked(self, *, measure: bool) -> AsyncGenerator[Looked]:
        """Yield what is due and what would go with it; change nothing.

        With `measure` the events are read for their size, which is 0 otherwise. Raises as `due`.
        """
        async for due in self.due():
            try:
                yield await self._look(due, measure=measure)
            except (ConversationNotFound, ConversationDeleted):
                continue
            except DamagedHead:
                yield Looked(due, None, 0, 0)

    def new_survey(self) -> Survey:
        """Return a survey of nothing yet, for a caller that looks at each conversation itself."""
        return Survey()

    async def survey(self, at_most: int) -> Survey:
        """Return what is due by user, without sizes, of at most `at_most` conversations."""
        survey = Survey()
        count = 0
        async with aclosing(self.looked(measure=False)) as looked:
            async for one in looked:
                if count == at_most:
                    survey.complete = False
                    break
                survey.add(one)
                count += 1
        return survey

    async def _run(self) -> None:
        wait = self._first_seconds
        while True:
            await asyncio.sleep(wait * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret
            wait = EVERY_SECONDS
            try:
                if (await self.sweep()).more:
                    wait = SOON_SECONDS
            except StreamClosed:
                return
            except (StorageError, EventsError, ServerError, TimeoutError):
                logger.exception("cannot sweep conversations by age; trying again in an hour")

    async def _older(
        self,
        search: Callable[[str | None, int], Awaitable[ConversationMetadataResultSet]],
        now: datetime,
        days: int,
    ) -> AsyncGenerator[Due]:
        before = now - timedelta(days=days)
        page_id: str | None = ListPosition(before, "0").to_page_id()
        while page_id is not None:
            async with asyncio.timeout(PAGE_SECONDS):
                page = await search(page_id, MAX_LIMIT)
            for record in page.results:
                if last_used(record) < before:
                    yield Due(record, days, before)
            page_id = page.next_page_id
            await asyncio.sleep(0)  # a store in memory does not pause by itself

    async def _sweep(self, swept: Swept, at_most: int) -> None:
        failures = 0
        try:
            async with aclosing(self.due()) as all_due:
                async for due in all_due:
                    if swept.deleted >= at_most:
                        swept.more = True
                        break
                    before = swept.failed
                    await self._delete(due, swept)
                    failures = failures + 1 if swept.failed > before else 0
                    if failures == FAILURES:
                        logger.error("a sweep by age has ended: %d deletions failed", failures)
                        break
        finally:
            self._counters.retention_deleted += swept.deleted
            self._counters.retention_failed += swept.failed
        if swept.deleted or swept.failed:
            await self._quietly(self._audit.add(self._act(SWEEP, None, swept.summary())))

    async def _delete(self, due: Due, swept: Swept) -> None:
        key, owner = due.record.conversation_id, due.record.user_id
        begun: list[AuditRecord] = []

        async def confirm() -> bool:
            record = await self._stores.for_user(owner).get_metadata(key)
            if last_used(record) >= due.before:
                return False
            begun.append(await self._audit.add(self._act(DELETE, key, "begun")))
            return True

        try:
            async with asyncio.timeout(DELETION_SECONDS):
                is_gone = await self._manager.delete_unused(key, owner, confirm)
        except (StreamClosed, NotSupported):
            raise
        except (ConversationNotFound, ConversationDeleted):
            return
        except Exception:  # the manager may be of a custom class
            swept.failed += 1
            ids = {"conversation_id": key}
            logger.exception("cannot delete %s, which is past its age", key, extra=ids)
            outcome = "failed"
        else:
            swept.deleted += is_gone
            swept.waiting += not is_gone
            used = f"{last_used(due.record):%Y-%m-%d}"
            outcome = f"deleted: last used on {used}, the limit is {due.days} days"
        for act in begun:
            ended = act.model_copy(update={"outcome": outcome, "last_at": self._now()})
            await self._quietly(self._audit.change(ended))

    def _act(self, action: str, target: str | None, outcome: str) -> AuditRecord:
        """Return a record of the audit; one for each conversation must not displace acts of people."""
        now = self._now()
        return AuditRecord(
            at=now,
            last_at=now,
            who=WHO,
            client=None,
            action=action,
            target=target,
            outcome=outcome,
            acting=target is None,
        )

    async def _quietly(self, change: Awaitable[object]) -> None:
        try:
            await change
        except StorageError:
            logger.exception("cannot record a deletion by age in the audit")

    async def _look(self, due: Due, *, measure: bool) -> Looked:
        key, owner = due.record.conversation_id, due.record.user_id
        head = await self._events.head(key)
        in_use = await self._manager.use_of(key, owner)
        size = await self._size_of(key, head.next_id) if measure else 0
        return Looked(due, in_use, head.next_id, size)

    async def _size_of(self, key: str, end_id: int) -> int:
        """Return the bytes of a log's events; damaged ones count for nothing."""
        size = at = 0
        while at < end_id:
            end = min(at + READ_EVENTS, end_id)
            read = self._events.read_part(key, at, end, READ_BYTES)
            events, damage = await with_markers(read, at, end)
            if not events:
                break  # deleted meanwhile
            sound = events if damage is None else damage.sound
            size += sum(len(event.body) for event in sound)
            at = events[-1].id + 1
        return size
