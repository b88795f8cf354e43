"""The audit log over a FileStore: a file per record, named by its id and whether it is an act."""

import asyncio
import logging
from collections.abc import Iterator
from heapq import merge
from itertools import islice

from pydantic import ValidationError

from storage.audit.base import KEPT, TRIM, AuditLog, AuditRecord
from storage.errors import Damaged
from storage.files.base import FileStore
from storage.files.format import checked_body, with_checksum

_LOG = logging.getLogger(__name__)

_KIND = "audit"
_FOLDER = "audit/"
_ACTS, _LOOKS = "acts", "looks"


class FileAudit(AuditLog):
    """The log as files, whose names are in memory after the first use.

    Damaged files are left out and logged.
    """

    def __init__(self, files: FileStore, kept: int = KEPT) -> None:
        self._files = files
        self._kept = kept
        self._serial = asyncio.Lock()
        self._ids: dict[str, list[int]] = {}
        self._last_id = 0

    async def add(self, record: AuditRecord) -> AuditRecord:
        """See AuditLog."""
        async with self._serial:
            await self._read_names()
            self._last_id += 1
            added = record.model_copy(update={"id": self._last_id})
            await self._files.create(_key(added.id, _class(added)), _content(added))
            ids = self._ids[_class(added)]
            ids.append(added.id)
            if len(ids) >= self._kept + TRIM:
                spent = ids[: -self._kept]
                await self._files.delete(*(_key(one, _class(added)) for one in spent))
                del ids[: -self._kept]
            return added

    async def change(self, record: AuditRecord) -> None:
        """See AuditLog."""
        async with self._serial:
            await self._read_names()
            if record.id in self._ids[_class(record)]:
                await self._files.write(_key(record.id, _class(record)), _content(record))

    async def page(self, before: int, limit: int, *, only_acts: bool = False) -> list[AuditRecord]:
        """See AuditLog."""
        async with self._serial:
            await self._read_names()
            classes = (_ACTS,) if only_acts else (_ACTS, _LOOKS)
            names = merge(*(self._newest_first(name) for name in classes), reverse=True)
            fitting = (_key(*one) for one in names if one[0] < before)
            keys = list(islice(fitting, limit))
            contents = await self._files.read_all(keys)
        records = (_record(key, found) for key, found in zip(keys, contents, strict=True))
        return [record for record in records if record is not None]

    def _newest_first(self, name: str) -> Iterator[tuple[int, str]]:
        return ((one, name) for one in reversed(self._ids[name]))

    async def _read_names(self) -> None:
        if self._ids:
            return
        found = [key.removeprefix(_FOLDER) for key in await self._files.keys(_FOLDER)]
        pairs = [name.split("-") for name in found]
        self._ids = {
            one: sorted(
                int(number) for number, *kind in pairs if kind == [one] and number.isdecimal()
            )
            for one in (_ACTS, _LOOKS)
        }
        self._last_id = max((ids[-1] for ids in self._ids.values() if ids), default=0)


def _class(record: AuditRecord) -> str:
    return _ACTS if record.acting else _LOOKS


def _key(number: int, kind: str) -> str:
    return f"{_FOLDER}{number:012}-{kind}"


def _content(record: AuditRecord) -> bytes:
    return with_checksum(_KIND, record.model_dump_json().encode())


def _record(key: str, content: bytes | None) -> AuditRecord | None:
    try:
        return AuditRecord.model_validate_json(checked_body(_KIND, content or b"", key))
    except (Damaged, ValidationError):
        _LOG.exception("left out of the audit: %s", key)
        return None
