"""Files for a conversation's workspace."""

import asyncio
import re
import unicodedata
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import PurePosixPath

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from events.event import StoredEvent
from runtime_stub.base import Runtime
from runtime_stub.errors import RuntimeUnavailable, WorkspaceError
from server.conversations.conversation import ServerConversation
from server.errors import (
    BadRequest,
    ModelKeyMissing,
    NotAvailable,
    SettingsNotFound,
    TooLarge,
    UnsupportedMedia,
)
from server.routes.endpoint import Tag, described
from server.routes.request import JsonResponse, ResponseBody, owner_of, visible_id
from server.routes.services import Services
from server.routes.workspace import action_deadline
from storage.keyed_locks import KeyedLocks
from storage.unicode_text import fold_case

MAX_FILES = 100
MAX_FILE_MB = 3
MAX_FILE_BYTES = MAX_FILE_MB * 1024 * 1024
START_SECONDS = 20.0
"""Seconds an upload waits for the workspace, unless an action may take less."""

_PATH_MARKS = re.compile(r"[\\/]")


UPLOAD = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_FILES,
            "items": {"type": "string", "format": "binary"},
        }
    },
}
"""The form, read part by part."""


class SkippedFile(ResponseBody):
    """A file that was not taken, and why."""

    name: str
    reason: str


class Uploaded(ResponseBody):
    """Paths of the files that were written, and those that were not."""

    uploaded_files: list[str]
    skipped_files: list[SkippedFile]


class UploadRoutes:
    """`/upload-files` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._locks: KeyedLocks[str] = KeyedLocks()
        self._start_seconds = min(START_SECONDS, services.config.action_timeout_seconds)

    @described(
        Tag.WORKSPACE,
        body_schema=UPLOAD,
        body_type="multipart/form-data",
        answer=Uploaded,
        raises=(
            BadRequest,
            UnsupportedMedia,
            TooLarge,
            SettingsNotFound,
            ModelKeyMissing,
            NotAvailable,
            RuntimeUnavailable,
            TimeoutError,
        ),
        statuses={422: "No file was sent under `files`"},
    )
    async def upload(self, request: Request) -> Response:
        """Write files into the workspace, starting the agent loop if necessary.

        A file whose name is taken gets a new name, which the response gives. A file that cannot
        be stored is reported with the reason, and the others are stored. Raises
        NotAvailable when the workspace is not ready in time, TimeoutError when other uploads take too long.
        """
        conversation_id = await visible_id(request, self._services.conversation_stores)
        if "content-type" not in request.headers:
            raise UnsupportedMedia("The body must be multipart/form-data")
        self._services.check_intake()
        owner = owner_of(request)
        await self._services.users.admit(owner)
        manager = self._services.manager
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FILES) as form:
            files = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
            if not files:
                raise HTTPException(422, "files: at least one file is required")
            async with manager.attach(conversation_id, owner) as conversation:
                await manager.maybe_start_agent_loop(conversation_id, None, owner)
                runtime = await self._runtime_of(conversation)
                # Two uploads at one time must not take the same name.
                async with AsyncExitStack() as stack:
                    async with action_deadline(self._services):
                        await stack.enter_async_context(self._locks.of(conversation_id))
                    return JsonResponse(await _write_all(runtime, files))

    async def _runtime_of(self, conversation: ServerConversation) -> Runtime:
        news = asyncio.Event()

        async def hear(_: Sequence[StoredEvent]) -> None:
            news.set()

        # A loop that is up says so by an event.
        subscription = conversation.stream.subscribe("upload", hear)
        try:
            async with asyncio.timeout(self._start_seconds):
                while True:
                    loop = conversation.loop
                    if loop is not None and conversation.ready:
                        # Taken now: the loop may be stopped while this unsubscribes.
                        return loop.runtime
                    news.clear()
                    await news.wait()
        except TimeoutError as error:
            raise NotAvailable("The workspace is not ready yet; try again") from error
        finally:
            await conversation.stream.unsubscribe(subscription)


async def _write_all(runtime: Runtime, files: Sequence[UploadFile]) -> Uploaded:
    written: list[str] = []
    skipped: list[SkippedFile] = []
    taken = {fold_case(name.rstrip("/")) for name in await runtime.list_files()}
    for file in files:
        name = base_name(file.filename or "")
        try:
            path = await _write(runtime, name, file, taken)
        except WorkspaceError as error:
            skipped.append(SkippedFile(name=name, reason=str(error)))
        else:
            written.append(path)
    return Uploaded(uploaded_files=written, skipped_files=skipped)


async def _write(runtime: Runtime, name: str, file: UploadFile, taken: set[str]) -> str:
    if name in ("", ".", ".."):
        raise WorkspaceError("The file has no usable name")
    if (file.size or 0) > MAX_FILE_BYTES:
        raise WorkspaceError(f"The file exceeds {MAX_FILE_MB} MB")
    free = free_name(name, taken)
    path = await runtime.write_file(free, await file.read())
    taken.add(fold_case(free))
    return path


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name, with a number before its suffix if it is taken.

    `taken` are names after `fold_case`: some file systems do not distinguish others.
    """
    if fold_case(name) not in taken:
        return name
    path = PurePosixPath(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    return next(one for one in numbered if fold_case(one) not in taken)


def base_name(name: str) -> str:
    """Return the last part of a path of any system, without control characters; may be empty."""
    last = _PATH_MARKS.split(name)[-1]
    return "".join(c for c in last if not unicodedata.category(c).startswith("C")).strip()
