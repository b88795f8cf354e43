"""Audit logs that fail, or take their time, when they are told to."""

import asyncio

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


class SlowAudit(MemoryAudit):
    """Adds nothing of one action before `go` is set; `asked` is set when somebody wants it to."""

    def __init__(self, slow_action: str) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._slow_action = slow_action

    async def add(self, record: AuditRecord) -> AuditRecord:
        """See AuditLog."""
        if record.action == self._slow_action:
            self.asked.set()
            await self.go.wait()
        return await super().add(record)
