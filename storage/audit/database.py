"""The audit log over a Database: a row per record."""

import logging
from collections.abc import Iterable

from pydantic import ValidationError

from storage.audit.base import KEPT, TRIM, AuditLog, AuditRecord
from storage.database.base import Database, Row, Statement, Steps, rerunnable

_LOG = logging.getLogger(__name__)


class DatabaseAudit(AuditLog):
    """The log as one row per record; old rows are removed in the commit of a new one.

    Damaged rows are left out and logged.
    """

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
        return await self._database.read(_page(before, limit, int(only_acts)))


@rerunnable
def _page(before: int, limit: int, only_acts: int) -> Steps[list[AuditRecord]]:
    """Read on until there are enough: records that cannot be read are left out."""
    found: list[AuditRecord] = []
    while True:
        wanted = limit - len(found)
        rows = (yield Statement("list_audit", (before, only_acts, wanted))).rows
        found += _readable(rows)
        if len(rows) < wanted or len(found) == limit:
            return found
        before = rows[-1][0]


def _readable(rows: Iterable[Row]) -> Iterable[AuditRecord]:
    for key, body, is_sound in rows:
        if not is_sound:
            _LOG.error("left out of the audit: record %s fails its checksum", key)
            continue
        try:
            record = AuditRecord.model_validate_json(body)
        except ValidationError:
            _LOG.exception("left out of the audit: record %s", key)
        else:
            yield record.model_copy(update={"id": key})


@rerunnable
def _add(record: AuditRecord, kept: int) -> Steps[int]:
    values = (int(record.acting), record.model_dump_json())
    added = int((yield Statement("add_audit", values)).rows[0][0])
    if added % TRIM == 0:
        for acting in (0, 1):
            yield Statement("trim_audit", (acting, kept))
    return added


@rerunnable
def _change(record: AuditRecord) -> Steps[None]:
    yield Statement("change_audit", (record.model_dump_json(), record.id))
