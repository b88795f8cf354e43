"""The back-end of plain files in a local folder."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from storage.audit.base import AuditRecord
from storage.audit.file import FileAudit
from storage.backends.base import DirectoryBackend, OpenedFiles, check_format
from storage.conversations.check import check_records, content_of, shortened
from storage.conversations.files.documents import Document
from storage.conversations.files.store import FileConversationStores
from storage.conversations.listing import Listing
from storage.errors import Damaged
from storage.files.base import FileStore
from storage.files.format import FORMAT, FORMAT_KEY, checked_body, format_in
from storage.files.local import LocalFileStore
from storage.inventory import Inventory, StorageReport, Track, size_of
from storage.keys import FILES_NAME, KEY_MARK, PROOF, RECORDS
from storage.sealing.key import SealingKey
from storage.usage.file import FileUsage
from storage.usage.model import ConversationUsage
from storage.users.file import FileKeyMark, FileUserRecords
from storage.workspaces.check import check_workspaces

WALK_SECONDS = 60.0
"""Seconds that counting the files may take."""


async def probe_files(files: FileStore) -> None:
    """Write a file and remove it. Raises StorageError."""
    await files.write(PROOF, b"")
    await files.delete(PROOF)


async def open_stores(
    files: FileStore,
    key: SealingKey,
    inventory: Callable[[Listing], Inventory],
    stack: AsyncExitStack,
    *,
    is_read_only: bool = False,
) -> OpenedFiles:
    """Open the stores over files, which `stack` closes. Raises WrongKey, Unavailable, NewerFormat."""
    await key.for_reading()
    records = await FileConversationStores.open(files)
    if not is_read_only:
        stack.push_async_callback(records.close)
    return OpenedFiles(
        conversations=records,
        users=FileUserRecords(files),
        key=key,
        usage=FileUsage(files, records.listing),
        audit=FileAudit(files),
        inventory=inventory(records.listing),
        prove=partial(probe_files, files),
        files=files,
        folded=records,
        is_read_only=is_read_only,
    )


class LocalBackend(DirectoryBackend):
    """See Backend."""

    kind = "local"
    name = FILES_NAME

    async def open(self, stack: AsyncExitStack) -> OpenedFiles:
        """See Backend."""
        files = await LocalFileStore.open(self.path)
        stack.push_async_callback(files.close)
        await check_format(files)
        self.guard(files, stack)
        key = SealingKey(FileKeyMark(files), self.data_dir, self.secret_key)
        return await open_stores(files, key, partial(FileInventory, self.path), stack)

    def contents(self) -> str:
        """See DirectoryBackend."""
        return f"{sum(map(_is_there, (self.path / RECORDS).glob('*')))} conversations"

    def problems(self, track: Track) -> tuple[list[str], list[str]]:
        """See DirectoryBackend."""
        root = self.path
        problems = [
            *check_records(root, track),
            *shortened(check_workspaces(root, track)),
            *_check_small_files(root, track),
        ]
        note = root / FORMAT_KEY
        try:
            if note.exists() and format_in(content_of(note)) > FORMAT:
                problems.insert(0, f"{FILES_NAME} is from a newer version")
        except Damaged as damage:
            problems.insert(0, str(damage))
        mark = root / KEY_MARK
        return problems, [mark.read_text("utf-8", "replace").strip()] if mark.exists() else []


class FileInventory(Inventory):
    """Of a folder of files."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        super().__init__()
        self._folder = folder
        self._listing = listing

    async def take(self, *, check: bool = False) -> StorageReport:
        """See Inventory."""
        if check:
            await self.run_check()
        async with asyncio.timeout(WALK_SECONDS):
            files, size = await asyncio.to_thread(_walk, self._folder)
        return StorageReport(
            medium="local",
            place=str(self._folder),
            bytes_used=size,
            files=files,
            conversations=len(self._listing),
            integrity=self.mark,
        )


def _is_there(record: Path) -> bool:
    """Return whether a record is none of a deleted conversation. Block."""
    try:
        return not Document.decode(record.name, content_of(record)).deleted
    except Damaged:
        return True


def _walk(folder: Path) -> tuple[int, int]:
    files = size = 0
    for parent, _, names in os.walk(folder):
        files += len(names)
        size += sum(size_of(Path(parent, name)) for name in names)
    return files, size


def _check_small_files(root: Path, track: Track) -> list[str]:
    """Read users' records, usage and audit of a folder of files."""
    found = [
        *((path.name, path) for path in sorted((root / "users").glob("*/*"))),
        *(("usage", path) for path in sorted((root / "usage").glob("*"))),
        *(("audit", path) for path in sorted((root / "audit").glob("*"))),
    ]
    problems = []
    for kind, path in track(found, "users, usage, audit", len(found)):
        key = str(path.relative_to(root))
        try:
            body = checked_body(kind, content_of(path), key)
            if kind == "usage":
                ConversationUsage.model_validate_json(body)
            elif kind == "audit":
                AuditRecord.model_validate_json(body)
        except Damaged as damage:
            problems.append(str(damage))
        except ValidationError:
            problems.append(f"{key} cannot be read")
    return shortened(problems)
