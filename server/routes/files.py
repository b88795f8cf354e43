"""The files of a running workspace: list, read one, take all of them home."""

import asyncio
import io
import logging
import zipfile
from collections.abc import Mapping, Sequence

import anyio
import anyio.to_thread
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from events.redaction import Redactor
from events.strictness import whole_text
from runtime_stub.base import Runtime
from runtime_stub.errors import (
    BadWorkspacePath,
    FileMissing,
    NotText,
    RuntimeUnavailable,
    WorkspaceError,
)
from server.errors import NotFound, TooLarge
from server.routes.describing import Tag, described
from server.routes.exchange import JsonResponse, Query, ResponseBody, principal_of, read_query
from server.routes.ignoring import Rule, RuleFile, read_rules, shown
from server.routes.running import running_runtime
from server.routes.services import Services
from server.routes.workspace import text_of

_LOG = logging.getLogger(__name__)

ROOT = "/workspace"
IGNORE_FILE = ".gitignore"
IGNORE_BYTES = 64 * 1024
"""A longer .gitignore is not heeded."""
IGNORE_DEPTH = 256
"""Folders, from the listed one up, whose .gitignore is read."""
LISTINGS_AT_ONCE = 2
"""Threads that match names; others wait."""
ARCHIVE_BYTES = 32 * 1024 * 1024
ARCHIVE_FILES = 10_000
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest one an archive can tell; the workspace keeps no dates."""


class FolderQuery(Query):
    """A folder, absolute or relative to the workspace's root."""

    path: str = ""


class FileQuery(Query):
    """A file, absolute or relative to the workspace's root."""

    file: str = Field(min_length=1)


class FileText(ResponseBody):
    """A file's text."""

    code: str


NOT_THERE = (NotFound, RuntimeUnavailable, TimeoutError)


class FileRoutes:
    """`/list-files`, `/select-file` and `/zip-directory` of one conversation; nothing is started."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listings = anyio.CapacityLimiter(LISTINGS_AT_ONCE)

    @described(
        Tag.WORKSPACE,
        query=FolderQuery,
        answer=list[str],
        raises=(*NOT_THERE, FileMissing, BadWorkspacePath, WorkspaceError),
    )
    async def names(self, request: Request) -> Response:
        """Names in a folder, folders with a trailing slash, secrets masked, without what is ignored."""
        path = read_query(request, FolderQuery).path
        async with running_runtime(request, self._services) as runtime:
            names = await runtime.list_files(path)
            files = await _rules_above(runtime, path)
        redactor = await self._services.users.redactor(principal_of(request).user_id)
        if not files:
            return JsonResponse([_told(redactor, name) for name in shown(names, ())[0]])
        found, heeded = await anyio.to_thread.run_sync(shown, names, files, limiter=self._listings)
        if not heeded:
            _LOG.warning("the rules of a .gitignore take too long; names they may hide are listed")
        return JsonResponse([_told(redactor, name) for name in found])

    @described(
        Tag.WORKSPACE,
        query=FileQuery,
        answer=FileText,
        raises=(*NOT_THERE, NotText, FileMissing, BadWorkspacePath, WorkspaceError),
    )
    async def read(self, request: Request) -> Response:
        """A file's text. Raises NotText, FileMissing, BadWorkspacePath."""
        path = read_query(request, FileQuery).file
        async with running_runtime(request, self._services) as runtime:
            content = await runtime.read_file(path)
        return JsonResponse(FileText(code=text_of(path, content)))

    @described(Tag.WORKSPACE, media_type="application/zip", raises=(*NOT_THERE, TooLarge))
    async def archive(self, request: Request) -> Response:
        """Every file of the workspace in one zip. Raises TooLarge past the bounds."""
        async with running_runtime(request, self._services) as runtime:
            contents = await _everything(runtime)
        body = await anyio.to_thread.run_sync(_zipped, contents)
        disposition = 'attachment; filename="workspace.zip"'
        return Response(
            body, media_type="application/zip", headers={"content-disposition": disposition}
        )


def _told(redactor: Redactor, name: str) -> str:
    # A runtime may give bytes that are no UTF-8 as lone surrogates.
    return redactor.redact_text(whole_text(name))


async def _rules_above(runtime: Runtime, path: str) -> list[RuleFile]:
    """The rules that hold in a folder: its own first, then those of the folders around it."""
    inside = path.removeprefix(ROOT).strip("/")
    parts = inside.split("/") if inside else []
    found: list[RuleFile] = []
    for depth in range(len(parts), max(len(parts) - IGNORE_DEPTH, -1), -1):
        rules = await _rules_in(runtime, "/".join(parts[:depth]))
        if rules:
            found.append(RuleFile("".join(f"{part}/" for part in parts[depth:]), rules))
    return found


async def _rules_in(runtime: Runtime, folder: str) -> Sequence[Rule]:
    path = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
    try:
        content = await runtime.read_file(path)
    except WorkspaceError:
        return ()  # most folders have none; a folder of that name rules nothing
    return read_rules(content.decode(errors="replace")) if len(content) <= IGNORE_BYTES else ()


async def _everything(runtime: Runtime) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    size = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        for name in await _names_in(runtime, folder):
            path = f"{folder}{name}"
            if name.endswith("/"):
                folders.append(path)
                continue
            content = await runtime.read_file(path)
            size += len(content)
            if size > ARCHIVE_BYTES or len(contents) >= ARCHIVE_FILES:
                raise TooLarge("The workspace is too large for one archive")
            contents[path] = content
        await asyncio.sleep(0)
    return contents


async def _names_in(runtime: Runtime, folder: str) -> Sequence[str]:
    try:
        return await runtime.list_files(folder)
    except FileMissing:
        return []  # a command removed it meanwhile


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(contents):
            entry = zipfile.ZipInfo(path, FIXED_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[path], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
