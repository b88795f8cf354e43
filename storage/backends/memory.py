"""The back-end of a storage that ends with its process."""

from collections.abc import Sized
from contextlib import AsyncExitStack

from storage.audit.memory import MemoryAudit
from storage.backends.base import Backend, OpenedMemory
from storage.config import MemoryStorage
from storage.conversations.memory import MemoryConversations
from storage.inventory import Inventory, StorageReport, Track, untracked
from storage.sealing.key import EphemeralKey
from storage.usage.memory import MemoryUsage
from storage.users.memory import MemoryUserRecords


class MemoryBackend(Backend):
    """See Backend."""

    kind = "memory"

    def __init__(self, config: MemoryStorage) -> None:
        self._config = config

    @property
    def identity(self) -> MemoryStorage:
        """See Backend."""
        return self._config

    async def open(self, stack: AsyncExitStack) -> OpenedMemory:  # noqa: ARG002 - nothing to close
        """See Backend."""
        records = MemoryConversations()
        return OpenedMemory(
            conversations=records,
            users=MemoryUserRecords(),
            key=EphemeralKey(),
            usage=MemoryUsage(records.all_owners),
            audit=MemoryAudit(),
            inventory=MemoryInventory(records),
            fold=records.fold,
        )

    def describe(self) -> str:
        """See Backend."""
        return "ok, in memory only"

    def check(self, track: Track = untracked) -> list[str]:  # noqa: ARG002 - nothing to check
        """See Backend."""
        return []


class MemoryInventory(Inventory):
    """Of records in memory."""

    def __init__(self, records: Sized) -> None:
        super().__init__()
        self._records = records

    async def take(self, *, check: bool = False) -> StorageReport:  # noqa: ARG002 - nothing to check
        """See Inventory."""
        return StorageReport(medium="memory", conversations=len(self._records))
