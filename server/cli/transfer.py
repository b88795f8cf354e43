"""Commands on whole storages, which run without a server."""

import asyncio

from events.transfer.contents import open_stores
from events.transfer.repair import repair
from server.cli.progress import shown_async_progress
from server.config.settings import ServerConfig
from storage.backends import backend_of


def repair_storage(config: ServerConfig) -> None:
    """Make anew what is derived from the logs, and print what that was. Raises StorageError."""

    async def run() -> list[str]:
        with shown_async_progress() as progress:
            async with open_stores(config.storage) as stores:
                return await repair(stores, progress)

    backend = backend_of(config.storage)
    if backend.path is not None and not backend.path.exists():
        return  # a repair of nothing makes nothing
    for line in asyncio.run(run()):
        print(f"repair: {line}")
