"""The one table from a back-end's name to the thing itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage.conversations.base import ConversationStores
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.memory import MemoryConversations
from storage.database.sqlite import SqliteDatabase

CONVERSATION_STORES = ("memory", "sqlite")

DURABLE = frozenset({"sqlite"})
"""Kinds that hold after closing what they held before."""


@asynccontextmanager
async def open_conversation_stores(kind: str, folder: Path) -> AsyncIterator[ConversationStores]:
    """Open the conversation records of that kind in `folder`, and close them."""
    match kind:
        case "memory":
            yield MemoryConversations()
        case "sqlite":
            database = await SqliteDatabase.open(folder / "parley.db")
            try:
                yield DatabaseConversationStores(database)
            finally:
                await database.close()
        case _:
            raise ValueError(f"no such back-end: {kind}")
