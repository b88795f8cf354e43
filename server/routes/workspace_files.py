"""The files of a workspace, whether its agent loop is up or only a snapshot is kept: list, preview, download."""

import codecs
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal, NamedTuple
from urllib.parse import quote

from pydantic import AwareDatetime, Field
from starlette.requests import Request
from starlette.responses import Response

from events.piece_mask import PieceMask
from events.strictness import whole_text
from runtime_stub.base import Runtime
from runtime_stub.errors import (
    BadWorkspacePath,
    FileMissing,
    RuntimeUnavailable,
    WorkspaceError,
    named,
)
from runtime_stub.workspace import ROOT, resolve
from server.errors import TooLarge
from server.http.security_headers import PROTECTION
from server.routes.endpoint import Tag, described
from server.routes.files import HIDDEN
from server.routes.request import (
    JsonResponse,
    Query,
    ResponseBody,
    owner_of,
    read_query,
    visible_id,
)
from server.routes.services import Services
from server.routes.workspace import action_deadline, ready_runtime
from storage.errors import Damaged, KeyNotFound, Unavailable, WrongKey
from storage.keyed_locks import KeyedLocks
from storage.workspaces.base import Kept, WorkspaceStore

MOST_ENTRIES = 1000
"""Names of one folder that are listed."""
PREVIEW_BYTES = 256 * 1024
"""Bytes of a text that are shown."""
IMAGE_BYTES = 8 * 1024 * 1024
"""Bytes of the largest picture that is shown."""
DOWNLOAD_BYTES = 64 * 1024 * 1024
IMAGES: Mapping[str, Sequence[bytes]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}
"""First bytes of the pictures that browsers show without running anything; WebP is told apart below."""
BYTES = "application/octet-stream"
DOWNLOADED: Mapping[str, str] = {
    "content-security-policy": f"{PROTECTION['content-security-policy']}; sandbox",
    "x-content-type-options": "nosniff",
}
"""Headers of a download: opened as a page, it may do nothing and belongs to no site."""


class FolderQuery(Query):
    """A folder, absolute or relative to the workspace's root."""

    path: str = ""


class FileQuery(Query):
    """A file, absolute or relative to the workspace's root."""

    file: str = Field(min_length=1)


class FolderEntry(ResponseBody):
    """A name in a folder; `size` is in bytes, null for folders and where a runtime is up."""

    name: str
    path: str
    kind: Literal["file", "folder"]
    size: int | None


class WorkspaceFolder(ResponseBody):
    """A folder of a workspace.

    `running` tells whether these are the files of a runtime that is up; else they are those that
    were kept at `kept_at`. `more` counts the names that are left out because there are too many.
    """

    path: str
    running: bool
    kept_at: AwareDatetime | None
    entries: list[FolderEntry]
    more: int


class FilePreview(ResponseBody):
    """A file as it may be shown: `text` for a text, masked and perhaps cut, else null.

    An image is fetched from `workspace/download`. `size` is in bytes.
    """

    path: str
    kind: Literal["text", "image", "other"]
    size: int
    text: str | None
    cut: bool


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    size: int | None = None


class _Files:
    """The files of a workspace. Paths are relative to its root and checked. Here there are none."""

    running = False
    kept_at: datetime | None = None
    root = ROOT
    """The root, as absolute paths have it."""

    async def folder(self, path: str) -> Iterable[_Entry]:
        """Return the names in a folder. Raises FileMissing."""
        if path:
            raise FileMissing(f"{named(path)}: No such folder")
        return ()

    async def read(self, path: str) -> bytes:
        """Return a file. Raises FileMissing, BadWorkspacePath."""
        raise FileMissing(f"{named(path)}: No such file")


class _LiveFiles(_Files):
    """Those of a runtime that is up."""

    running = True

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.root = runtime.root

    async def folder(self, path: str) -> Iterable[_Entry]:
        """See _Files."""
        names = await self._runtime.list_files(path)
        return [_Entry(name.removesuffix("/"), name.endswith("/")) for name in names]

    async def read(self, path: str) -> bytes:
        """See _Files."""
        return await self._runtime.read_file(path)


class _KeptFiles(_Files):
    """Those of a snapshot."""

    def __init__(self, store: WorkspaceStore, conversation_id: str, kept: Kept) -> None:
        self.kept_at = kept.kept_at
        self._store = store
        self._id = conversation_id
        self._kept = kept

    async def folder(self, path: str) -> Iterable[_Entry]:
        """See _Files."""
        inside = f"{path}/" if path else ""
        found: dict[str, _Entry] = {}
        paths = (*self._kept.files.items(), *((f"{one}/", None) for one in self._kept.folders))
        for one, size in paths:
            if one.startswith(inside):
                name, slash, _ = one.removeprefix(inside).partition("/")
                found[name] = _Entry(name, bool(slash), None if slash else size)
        empty = found.pop("", None)  # the folder itself, with nothing in it
        if path and not found and empty is None:
            raise FileMissing(f"{named(path)}: No such folder")
        return found.values()

    async def read(self, path: str) -> bytes:
        """See _Files."""
        try:
            return await self._store.read(self._id, path)
        except KeyNotFound:
            raise FileMissing(f"{named(path)}: No such file") from None


NOT_THERE = (FileMissing, BadWorkspacePath, WorkspaceError, RuntimeUnavailable, TimeoutError)
STORED = (Damaged, Unavailable, WrongKey)


class WorkspaceFileRoutes:
    """`/workspace` of one conversation and what is below it; nothing is started."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._locks: KeyedLocks[str] = KeyedLocks()

    @described(
        Tag.WORKSPACE, query=FolderQuery, answer=WorkspaceFolder, raises=(*NOT_THERE, *STORED)
    )
    async def folder(self, request: Request) -> Response:
        """List a folder of the workspace as it is now or was kept, folders first."""
        asked = read_query(request, FolderQuery).path or "."
        async with self._files(request) as files:
            path = _checked(asked, files.root)
            found = await files.folder(path)
        entries = sorted(
            (one for one in found if not (one.is_folder and f"{one.name}/" in HIDDEN)),
            key=lambda one: (not one.is_folder, one.name),
        )
        redactor = await self._services.users.redactor(owner_of(request))
        shown = [
            one._replace(name=redactor.redact_text(whole_text(one.name)))
            for one in entries[:MOST_ENTRIES]
        ]
        inside = f"{path}/" if path else ""
        return JsonResponse(
            WorkspaceFolder(
                path=path,
                running=files.running,
                kept_at=files.kept_at,
                entries=[
                    FolderEntry(
                        name=one.name,
                        path=inside + one.name,
                        kind="folder" if one.is_folder else "file",
                        size=one.size,
                    )
                    for one in shown
                ],
                more=len(entries) - len(shown),
            )
        )

    @described(Tag.WORKSPACE, query=FileQuery, answer=FilePreview, raises=(*NOT_THERE, *STORED))
    async def preview(self, request: Request) -> Response:
        """Return what can be shown of a file: its text, masked, up to 256 KiB, or that it is a picture."""
        path, content = await self._read(request)
        kind: Literal["text", "image", "other"] = "other"
        text = None
        if image_type(content) is None:
            text = text_in(content)
        elif len(content) <= IMAGE_BYTES:
            kind = "image"
        cut = text is not None and len(content) > PREVIEW_BYTES
        if text is not None:
            kind = "text"
            redactor = await self._services.users.redactor(owner_of(request))
            # Of a text that is cut no half of a secret may be left.
            text = PieceMask(redactor).feed(text, last=not cut)
        return JsonResponse(
            FilePreview(path=path, kind=kind, size=len(content), text=text, cut=cut)
        )

    @described(
        Tag.WORKSPACE, query=FileQuery, media_type=BYTES, raises=(*NOT_THERE, *STORED, TooLarge)
    )
    async def download(self, request: Request) -> Response:
        """Return a file, to be saved; browsers run nothing of it. Raises TooLarge beyond 64 MiB."""
        path, content = await self._read(request)
        if len(content) > DOWNLOAD_BYTES:
            raise TooLarge("The file is too large to be downloaded")
        name = path.rpartition("/")[2]
        headers = {
            **DOWNLOADED,
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        return Response(content, media_type=image_type(content) or BYTES, headers=headers)

    async def _read(self, request: Request) -> tuple[str, bytes]:
        """Return the checked path of the file that is asked for, and its content."""
        asked = read_query(request, FileQuery).file
        conversation_id = await visible_id(request, self._services.conversation_stores)
        # Each reader holds a whole file.
        async with (
            action_deadline(self._services),
            self._locks.of(conversation_id),
            self._files(request) as files,
        ):
            path = _checked(asked, files.root)
            return path, await files.read(path)

    @asynccontextmanager
    async def _files(self, request: Request) -> AsyncIterator[_Files]:
        services = self._services
        conversation_id = await visible_id(request, services.conversation_stores)
        async with ready_runtime(request, services, conversation_id) as runtime:
            if runtime is not None:
                yield _LiveFiles(runtime)
                return
            store = services.workspaces
            kept = None if store is None else await store.kept(conversation_id)
            if store is None or kept is None:
                yield _Files()
            else:
                yield _KeptFiles(store, conversation_id, kept)


def image_type(content: bytes) -> str | None:
    """Return the media type of a picture that can be shown, by its first bytes; None for all else."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    found = (kind for kind, begins in IMAGES.items() if content.startswith(tuple(begins)))
    return next(found, None)


def text_in(content: bytes) -> str | None:
    """Return the first PREVIEW_BYTES of a file as text; None if they are no text in UTF-8."""
    begin = content[:PREVIEW_BYTES]
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(begin, final=len(begin) == len(content))
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _checked(path: str, root: str) -> str:
    """Return a path relative to the workspace's root, "" for the root. Raises BadWorkspacePath."""
    return resolve(path, root, root).removeprefix(root).removeprefix("/")
