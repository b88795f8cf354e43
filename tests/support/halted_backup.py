"""A program that is in the middle of a backup: it has written half of one, and waits to be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from events.transfer.contents import Stores, open_stores
from events.transfer.schedule import Backups
from storage.config import SqliteStorage
from storage.conversations.metadata import ConversationMetadata


class HaltedStores(Stores):
    """Stores whose second record never comes."""

    async def records(self) -> AsyncIterator[ConversationMetadata]:
        """Yield the first one, say that it was written when the next is asked for, and wait."""
        async for record in Stores.records(self):
            yield record
            sys.stdout.write("halted\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


async def main() -> None:
    """Make a backup of the directory that is the first argument, in the folder that is the second."""
    data, folder = map(Path, sys.argv[1:])
    async with open_stores(SqliteStorage(data_dir=data)) as stores:
        halted = HaltedStores(stores.storage, stores.events, stores.workspaces)
        await Backups(halted, folder).make()


if __name__ == "__main__":
    asyncio.run(main())
