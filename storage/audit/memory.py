"""The audit log in memory: the reference back-end; nothing outlives the process."""

from itertools import islice

from storage.audit.base import KEPT, AuditLog, AuditRecord


class MemoryAudit(AuditLog):
    """No method awaits."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._records: dict[int, AuditRecord] = {}
        self._last_id = 0

    async def add(self, record: AuditRecord) -> AuditRecord:
        """See AuditLog."""
        self._last_id += 1
        added = record.model_copy(update={"id": self._last_id})
        self._records[added.id] = added
        alike = [one.id for one in self._records.values() if one.acting == record.acting]
        for spent in alike[: -self._kept]:
            del self._records[spent]
        return added

    async def change(self, record: AuditRecord) -> None:
        """See AuditLog."""
        if record.id in self._records:
            self._records[record.id] = record

    async def page(self, before: int, limit: int, *, only_acts: bool = False) -> list[AuditRecord]:
        """See AuditLog."""
        newest_first = (self._records[key] for key in reversed(self._records))
        fitting = (one for one in newest_first if one.id < before and (one.acting or not only_acts))
        return list(islice(fitting, limit))
