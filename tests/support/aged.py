"""Conversations of a given age, and what deletes them by it, under clocks that a test sets."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

from events.conformance.records import append, records
from events.event import EventFlag, StoredEvent
from events.stores.base import MEMORY, Aside
from events.transfer.contents import Stores
from events.usage import UsageLedger
from server.app import manager_parts
from server.components import load_components
from server.config.settings import ServerConfig
from server.conversations.manager import ConversationManager
from server.conversations.retention import AgeLimits, Retention
from server.observability.counters import ServerCounters
from storage.audit.base import AuditLog, AuditRecord
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.workspaces.snapshot import Snapshot

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class Clocks:
    """The system's clock and the one that nobody sets."""

    now: datetime = NOW
    seconds: float = 0.0

    def system(self) -> datetime:
        """Return the system's time."""
        return self.now

    def monotonic(self) -> float:
        """Return the seconds of the other."""
        return self.seconds

    def go(self, passed: timedelta) -> None:
        """Let time pass on both."""
        self.now += passed
        self.seconds += passed.total_seconds()


class Aged(NamedTuple):
    """A retention over open stores, and the manager that it works with."""

    retention: Retention
    manager: ConversationManager
    counters: ServerCounters


Before = Callable[[str, str | None], Awaitable[None]]


@asynccontextmanager
async def aged(
    stores: Stores,
    limits: AgeLimits,
    clocks: Clocks,
    *,
    conversations: ConversationStores | None = None,
    audit: AuditLog | None = None,
    before_deletion: Before | None = None,
    first_seconds: float | None = None,
) -> AsyncIterator[Aged]:
    """Yield a retention that sweeps when it is asked to, or by itself after `first_seconds`."""
    storage = stores.storage
    config = ServerConfig(storage_kind="memory")
    components = load_components(config)
    listed = conversations or storage.conversations
    parts = replace(
        manager_parts(
            *(config, components, listed, stores.events),
            components.users(config, storage.settings, storage.secrets),
            stores.workspaces,
        ),
        before_deletion=before_deletion
        or UsageLedger(stores.events, storage.usage).before_deletion,
    )
    counters = parts.loop_dependencies.server_counters
    keeping = parts.loop_dependencies.workspaces
    async with parts.checkpoints, keeping, components.manage(parts) as manager:
        retention = Retention(
            *(limits, manager, listed, stores.events, audit or storage.audit, counters),
            now=clocks.system,
            monotonic=clocks.monotonic,
            first_seconds=first_seconds or 0.0,
        )
        made = Aged(retention, manager, counters)
        if first_seconds is None:
            yield made
        else:
            async with retention:
                yield made


def ago(days: float, since: datetime = NOW) -> datetime:
    """Return the moment so many days before."""
    return since - timedelta(days=days)


def text_of(moment: datetime) -> str:
    """Return a moment as events have it."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def plant(
    stores: Stores,
    key: str,
    owner: str | None,
    used: datetime,
    *,
    created: datetime | None = None,
    events: int = 5,
    text: str = "hello",
) -> None:
    """Make a conversation whose last event is of a moment; without events, one created then."""
    record = ConversationMetadata(conversation_id=key, created_at=created or used, title=text)
    await stores.storage.conversations.for_user(owner).save_metadata(record)
    if events:
        await append(stores.events, key, records(0, events, text, text_of(used)))
        await stores.events.put_asides([Aside(key, MEMORY, text.encode())])
        snapshot = Snapshot(files={"a.txt": text.encode()}, folders=frozenset(), own={})
        await stores.workspaces.save(key, snapshot)


async def ask(stores: Stores, key: str, moment: datetime, *, first_id: int) -> None:
    """Append that the agent waits for an approval."""
    action = {
        "id": first_id,
        "timestamp": text_of(moment),
        "source": "agent",
        "action": "run",
        "args": {"command": "ls", "confirmation_state": "awaiting_confirmation"},
    }
    state = {
        "id": first_id + 1,
        "timestamp": text_of(moment),
        "source": "environment",
        "observation": "agent_state_changed",
        "content": "",
        "extras": {"agent_state": "awaiting_user_confirmation"},
    }
    events = [
        StoredEvent(first_id, EventFlag.PLAIN, orjson.dumps(action)),
        StoredEvent(first_id + 1, EventFlag.STATE, orjson.dumps(state)),
    ]
    await append(stores.events, key, events)


async def ids(stores: Stores) -> set[str]:
    """Return the ids of all conversations that are there."""
    return {one.conversation_id async for one in stores.records()}


async def acts_of(audit: AuditLog, action: str) -> list[AuditRecord]:
    """Return the records of the audit with that action, the newest first."""
    return [one for one in await audit.page(2**62, 1_000) if one.action == action]
