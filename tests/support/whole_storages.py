"""Whole storages of every kind: how each is configured, filled with everything, and read back."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import SecretStr

from events.batch import digest_of
from events.conformance.records import append, record, records
from events.event import EventFlag, StoredEvent
from events.stores.base import MEMORY, Aside
from events.transfer.contents import Stores, open_stores
from events.transfer.digest import conversation_digest
from events.usage import UsageLedger
from storage.audit.base import AuditRecord
from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig
from storage.conversations.metadata import ConversationMetadata
from storage.usage.model import ConversationUsage, UsageLine
from storage.users import CustomSecret, Secrets, Settings
from storage.workspaces.snapshot import Snapshot
from tests.support.postgres import postgres_settings, postgres_storage
from tests.support.s3 import cloud_environment, storage_of
from tests.support.servers import environment_of

KINDS = ("sqlite", "local", "memory")
EVERY_KIND = ("sqlite", "local", "postgres", "cloud", "memory")
DURABLE = ("sqlite", "local")
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
OWNERS = (None, "ann", "bob")


def config_of(kind: str, folder: Path, secret_key: str | None = None) -> StorageConfig:
    """Return the configuration of a storage of that kind in a folder."""
    key = None if secret_key is None else SecretStr(secret_key)
    if kind == "memory":
        return MemoryStorage()
    if kind == "local":
        return LocalStorage(data_dir=folder, secret_key=key)
    return SqliteStorage(data_dir=folder, secret_key=key)


class Whole(NamedTuple):
    """An open storage, and how it is configured."""

    stores: Stores
    config: StorageConfig


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Whole]:
    """A storage of that kind that belongs to a folder, open until the block is left."""
    if kind == "postgres":
        async with postgres_storage(folder) as shared, open_stores(shared) as stores:
            yield Whole(stores, shared)
        return
    config = storage_of(folder) if kind == "cloud" else config_of(kind, folder)
    async with open_stores(config) as stores:
        yield Whole(stores, config)


class Served(NamedTuple):
    """A storage that a server is to work on: its settings, and how others open it."""

    arguments: Sequence[str]
    environment: dict[str, str]
    config: StorageConfig


@asynccontextmanager
async def served(kind: str, folder: Path) -> AsyncIterator[Served]:
    """The settings of a server over a storage of that kind that belongs to a folder."""
    if kind == "postgres":
        async with postgres_settings(folder) as settings, postgres_storage(folder) as config:
            yield Served((), environment_of(storage="postgres", **settings), config)
    elif kind == "cloud":
        yield Served((), cloud_environment(folder), storage_of(folder))
    else:
        yield Served(("--storage", kind), {}, config_of(kind, folder))


def measured(event_id: int, key: str) -> StoredEvent:
    """Return an event with an idempotency key and metrics."""
    metrics = {
        "accumulated_cost": event_id / 8,
        "accumulated_token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "model": "m"},
    }
    more = {"client_id": key, "llm_metrics": metrics}
    payload = orjson.loads(record(event_id, f"measured {key}").body) | more
    return StoredEvent(event_id, EventFlag.PLAIN, orjson.dumps(payload))


async def fill(stores: Stores, conversations: int = 12, events: int = 230) -> list[str]:
    """Fill a storage with some of everything; the ids of the conversations."""
    storage, ids = stores.storage, []
    for number in range(conversations):
        key, owner = f"c{number:04}", OWNERS[number % len(OWNERS)]
        ids.append(key)
        saved = ConversationMetadata(
            conversation_id=key,
            created_at=NOON.replace(minute=number % 60),
            title=f"Title {number} \N{SANDWICH}",
            selected_repository="o/r" if number % 2 else None,
            custom={"n": [number, None]},
        )
        await storage.conversations.for_user(owner).save_metadata(saved)
        if number % 5 == 4:
            continue  # it has no events
        await append(stores.events, key, records(0, events))
        await append(
            stores.events, key, [measured(events, f"k{number}")], keys={0: digest_of(f"k{number}")}
        )
        await append(stores.events, key, records(events + 1, number + 1))
        if number % 3 == 0:
            files = {"a.txt": b"a" * number, "d/b": bytes(range(256))}
            snapshot = Snapshot(files=files, folders=frozenset({"empty"}), own={"h": b"1"})
            await stores.workspaces.save(key, snapshot)
            await stores.events.put_asides([Aside(key, MEMORY, b'{"m": 1}')])
    for owner in OWNERS:
        value = CustomSecret(value=SecretStr(f"secret of {owner}"))
        await storage.secrets.for_user(owner).store(Secrets(custom_secrets={"TOKEN": value}))
        settings = Settings(language="de", llm_api_key=SecretStr(f"key of {owner}"))
        await storage.settings.for_user(owner).store(settings)
    await delete(stores, "deleted-log", records(0, 3))
    await delete(stores, "deleted-record")
    await UsageLedger(stores.events, storage.usage).catch_up(60)
    line = UsageLine(day=date(2026, 5, 4), model="m", events=4, cost=0.5)
    gone = ConversationUsage(conversation_id="gone", user_id="ann", position=4, lines=(line,))
    await storage.usage.save(gone, 0)
    for number in range(3):
        act = AuditRecord(
            at=NOON,
            last_at=NOON,
            who="ann",
            client=None,
            action=f"act {number}",
            outcome="done",
            acting=True,
        )
        await storage.audit.add(act)
    return ids


async def delete(stores: Stores, key: str, events: Sequence[StoredEvent] = ()) -> None:
    """Make a conversation and delete it, as the server does."""
    view = stores.storage.conversations.for_user("ann")
    await view.save_metadata(ConversationMetadata(conversation_id=key, created_at=NOON, title="T"))
    if events:
        await append(stores.events, key, [*events])
    await stores.events.delete(key)
    await view.delete_metadata(key)


async def everything(stores: Stores) -> dict[str, Any]:
    """Return all that a storage holds, in one form for all kinds; logs by their digests."""
    storage = stores.storage
    found: dict[str, object] = {}
    async for one in stores.records():
        key = one.conversation_id
        workspace = await stores.workspaces.load(key)
        usage = await storage.usage.load(key)
        payloads = [
            orjson.loads(event.body)
            async for part in stores.parts(key, (await stores.events.head(key)).next_id)
            for event in part.events
        ]
        keys = [one["client_id"] for one in payloads if "client_id" in one]
        found[key] = (
            await conversation_digest(stores, one),
            None if workspace is None else workspace.snapshot,
            dict(await stores.events.asides(key)),
            None if usage is None else (usage.user_id, usage.position, usage.lines),
            [await stores.events.find(key, digest_of(key_)) for key_ in keys],
        )
    for owner in OWNERS:
        found[f"user {owner}"] = (
            await storage.settings.for_user(owner).load(),
            await storage.secrets.for_user(owner).load(),
        )
    found["deleted"] = await storage.conversations.deleted()
    acts = await storage.audit.page(2**62, 1_000)
    found["audit"] = [one.model_copy(update={"id": 0}) for one in acts]
    found["gone"] = [
        None if one is None else one.lines for one in (await storage.usage.load("gone"),)
    ]
    return found
