"""The one table from a back-end's name to the thing itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from events.stores.base import EventStore
from events.stores.database import DatabaseEventStore
from events.stores.memory import MemoryEventStore
from storage.conversations.base import ConversationStores
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.memory import MemoryConversations
from storage.database.sqlite import SqliteDatabase


class Opened(NamedTuple):
    """The stores of one medium."""

    conversations: ConversationStores
    events: EventStore


@asynccontextmanager
async def _memory(folder: Path) -> AsyncIterator[Opened]:
    conversations = MemoryConversations()
    yield Opened(conversations, MemoryEventStore(conversations.fold))


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[Opened]:
    database = await SqliteDatabase.open(folder / "parley.db")
    try:
        yield Opened(DatabaseConversationStores(database), DatabaseEventStore(database))
    finally:
        await database.close()


FACTORIES: dict[str, Callable[[Path], AbstractAsyncContextManager[Opened]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
}

CONVERSATION_STORES = tuple(FACTORIES)
EVENT_STORES = tuple(FACTORIES)

DURABLE = frozenset({"sqlite"})
"""Kinds that hold after closing what they held before."""


def open_stores(kind: str, folder: Path) -> AbstractAsyncContextManager[Opened]:
    """Open the stores of that kind in `folder`, and close them."""
    return FACTORIES[kind](folder)


@asynccontextmanager
async def open_conversation_stores(kind: str, folder: Path) -> AsyncIterator[ConversationStores]:
    """Open the conversation records of that kind in `folder`, and close them."""
    async with open_stores(kind, folder) as opened:
        yield opened.conversations


@asynccontextmanager
async def open_event_store(kind: str, folder: Path) -> AsyncIterator[EventStore]:
    """Open the event store of that kind in `folder`, and close it."""
    async with open_stores(kind, folder) as opened:
        yield opened.events
