"""The audit log over a Database: a row per record."""

from storage.audit.base import KEPT, TRIM, AuditLog, AuditRecord
from storage.database.base import Database, Row, Script, Statement


class DatabaseAudit(AuditLog):
    """A record is one row, and trimmed in the commit of a later one."""

    def __init__(self, database: Database, kept: int = KEPT) -> None:
        self._database = database
        self._kept = kept

    async def add(self, record: AuditRecord) -> AuditRecord:
        """See AuditLog."""
        added = await self._database.write(_add(record, self._kept))
        return record.model_copy(update={"id": added})

    async def change(self, record: AuditRecord) -> None:
        """See AuditLog."""
        await self._database.write(_change(record))

    async def page(self, before: int, limit: int, *, only_acts: bool = False) -> list[AuditRecord]:
        """See AuditLog."""
        wanted = Statement("list_audit", (before, int(only_acts), limit))
        rows = await self._database.read(_ask(wanted))
        return [
            AuditRecord.model_validate_json(body).model_copy(update={"id": key})
            for key, body in rows
        ]


def _ask(statement: Statement) -> Script[list[Row]]:
    return (yield statement).rows


def _add(record: AuditRecord, kept: int) -> Script[int]:
    values = (int(record.acting), record.model_dump_json())
    added = int((yield Statement("add_audit", values)).rows[0][0])
    if added % TRIM == 0:
        for acting in (0, 1):
            yield Statement("trim_audit", (acting, kept))
    return added


def _change(record: AuditRecord) -> Script[None]:
    yield Statement("change_audit", (record.model_dump_json(), record.id))
