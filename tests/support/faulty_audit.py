"""An audit log that fails when it is told to."""

from storage.audit.base import AuditRecord
from storage.audit.memory import MemoryAudit
from storage.errors import Unavailable


class FaultyAudit(MemoryAudit):
    """Takes nothing while `fails`."""

    fails = False

    async def add(self, record: AuditRecord) -> AuditRecord:
        """See AuditLog."""
        if self.fails:
            raise Unavailable("the disk is full")
        return await super().add(record)
