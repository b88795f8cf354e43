"""The files of a running workspace: list, read one, download all."""

import asyncio
import io
import logging
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import anyio
import anyio.to_thread
import regex
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
from server.routes.endpoint import Tag, described
from server.routes.request import (
    JsonResponse,
    Query,
    ResponseBody,
    owner_of,
    read_query,
    visible_id,
)
from server.routes.services import Services
from server.routes.workspace import action_deadline, running_runtime, text_of
from storage.keyed_locks import KeyedLocks

HIDDEN = frozenset(
    (".git/", ".DS_Store", "node_modules/", "__pycache__/", "lost+found/", ".vscode/")
)
MAX_RULES = 1000
"""Lines of one .gitignore that are used."""
MAX_LINE = 500
"""Characters of a line that is heeded."""
SECONDS = 1.0
"""Seconds for the rules of one folder; names not matched by then are shown."""
KNOWN_FILES = 64
"""Files whose compiled rules are remembered."""

_FOLDER_MARK = "ps_d"
"""The group of pathspec's expressions that matches the slash after a folder."""


class Rule:
    """One line of a .gitignore."""

    def __init__(self, expression: str, *, ignores: bool) -> None:
        self.ignores = ignores
        self._expression = expression

    @cached_property
    def _compiled(self) -> regex.Pattern[str] | None:
        try:
            return regex.compile(self._expression)
        except regex.error:
            return None  # `[z-a]`: git leaves such a line out too

    def fits(self, path: str, deadline: float) -> bool:
        """Return whether the rule names `path` itself, not only a folder above it.

        `path` is relative; a folder's ends in `/`. Raises TimeoutError past the deadline, a moment
        of `time.monotonic`.
        """
        compiled = self._compiled
        if compiled is None:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        found = compiled.search(path, timeout=left, concurrent=True)
        if found is None:
            return False
        marked = _FOLDER_MARK in compiled.groupindex and found.end(_FOLDER_MARK)
        return not marked or marked in (-1, len(path))


class RuleFile(NamedTuple):
    """The rules of one .gitignore, the last first, and the path from its folder to the listed one."""

    below: str
    rules: Sequence[Rule]


@lru_cache(maxsize=KNOWN_FILES)
def read_rules(text: str) -> Sequence[Rule]:
    """Return the rules of a .gitignore, the last line's first: it is the one that counts."""
    return tuple(_rules_of(text.splitlines()[:MAX_RULES]))[::-1]


def shown(names: Iterable[str], files: Sequence[RuleFile]) -> tuple[list[str], bool]:
    """Return the names of one folder to show, and whether all rules were applied; blocks.

    The file nearest to the folder comes first in `files`. If the rules take longer than SECONDS,
    all remaining names are shown.
    """
    visible = [name for name in names if name not in HIDDEN]
    deadline = time.monotonic() + SECONDS
    found: list[str] = []
    for place, name in enumerate(visible):
        try:
            if not _is_ignored(name, files, deadline):
                found.append(name)
        except TimeoutError:
            return found + visible[place:], False
    return found, True


def _is_ignored(name: str, files: Sequence[RuleFile], deadline: float) -> bool:
    for file in files:
        path = file.below + name
        for rule in file.rules:
            if rule.fits(path, deadline):
                return rule.ignores
    return False


def _rules_of(lines: Iterable[str]) -> Iterator[Rule]:
    from pathspec.patterns.gitignore import (  # noqa: PLC0415 - few folders that are listed have rules
        GitIgnorePatternError,
    )
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415

    for line in lines:
        if len(line) > MAX_LINE:
            continue
        try:
            expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(line)
        except GitIgnorePatternError:
            continue  # as git does with a line that it cannot read
        if expression is not None:
            yield Rule(expression, ignores=bool(ignores))


_LOG = logging.getLogger(__name__)

IGNORE_FILE = ".gitignore"
IGNORE_BYTES = 64 * 1024
"""A longer .gitignore is not heeded."""
IGNORE_DEPTH = 256
"""Folders, from the listed one up, whose .gitignore is read."""
ARCHIVES_AT_ONCE = 2
"""Threads that pack archives; others wait, and leave alone the threads that all requests share."""
LISTINGS_AT_ONCE = 2
"""Threads that match names; others wait."""
ARCHIVE_BYTES = 32 * 1024 * 1024
ARCHIVE_FILES = 10_000
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date of a zip archive; the workspace has no dates."""


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
        self._locks: KeyedLocks[str] = KeyedLocks()

    @cached_property
    def _listings(self) -> anyio.CapacityLimiter:
        # At the start it would bring in all of anyio.
        return anyio.CapacityLimiter(LISTINGS_AT_ONCE)

    @cached_property
    def _archives(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(ARCHIVES_AT_ONCE)

    @described(
        Tag.WORKSPACE,
        query=FolderQuery,
        answer=list[str],
        raises=(*NOT_THERE, FileMissing, BadWorkspacePath, WorkspaceError),
    )
    async def names(self, request: Request) -> Response:
        """List the names in a folder, except ignored ones, folders with a trailing slash."""
        path = read_query(request, FolderQuery).path
        async with running_runtime(request, self._services) as runtime:
            names = await runtime.list_files(path)
            files = await _rules_above(runtime, path)
        redactor = await self._services.users.redactor(owner_of(request))
        if not files:
            return JsonResponse([_told(redactor, name) for name in shown(names, ())[0]])
        async with action_deadline(self._services):
            found, heeded = await anyio.to_thread.run_sync(
                shown, names, files, limiter=self._listings
            )
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
        """Return the text of a file. Raises NotText, FileMissing, BadWorkspacePath."""
        path = read_query(request, FileQuery).file
        conversation_id = await visible_id(request, self._services.conversation_stores)
        # Each reader holds a whole file.
        async with (
            action_deadline(self._services),
            self._locks.of(conversation_id),
            running_runtime(request, self._services) as runtime,
        ):
            content = await runtime.read_file(path)
        return JsonResponse(FileText(code=text_of(path, content)))

    @described(Tag.WORKSPACE, media_type="application/zip", raises=(*NOT_THERE, TooLarge))
    async def archive(self, request: Request) -> Response:
        """Return all files of the workspace as a zip archive. Raises TooLarge past the bounds."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        # An archive holds all files twice.
        async with action_deadline(self._services), self._locks.of(conversation_id):
            async with running_runtime(request, self._services) as runtime:
                contents = await _everything(runtime)
            body = await anyio.to_thread.run_sync(zipped, contents, limiter=self._archives)
        disposition = 'attachment; filename="workspace.zip"'
        return Response(
            body, media_type="application/zip", headers={"content-disposition": disposition}
        )


def _told(redactor: Redactor, name: str) -> str:
    # A runtime may give bytes that are no UTF-8 as lone surrogates.
    return redactor.redact_text(whole_text(name))


async def _rules_above(runtime: Runtime, path: str) -> list[RuleFile]:
    """Return the rules that apply in a folder: its own first, then those of its parents."""
    inside = path.removeprefix(runtime.root).strip("/")
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
    looked_at = 0
    while folders:
        folder = folders.pop()
        for name in await _names_in(runtime, folder):
            path = f"{folder}{name}"
            looked_at += 1
            if looked_at > ARCHIVE_FILES:
                raise TooLarge("The workspace has too many files for a zip archive")
            if name.endswith("/"):
                folders.append(path)
                continue
            try:
                content = await runtime.read_file(path)
            except (FileMissing, BadWorkspacePath):
                continue  # a command removed it meanwhile, or it is no file: a symbolic link
            size += len(content)
            if size > ARCHIVE_BYTES:
                raise TooLarge("The workspace is too large for a zip archive")
            contents[path] = content
        await asyncio.sleep(0)
    return contents


async def _names_in(runtime: Runtime, folder: str) -> Sequence[str]:
    try:
        return await runtime.list_files(folder)
    except (FileMissing, BadWorkspacePath):
        return []  # a command removed it meanwhile, or its name cannot be asked for


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return the files, given by their paths, as a zip archive; blocks.

    Paths that are no Unicode are written as they are listed, with a number where two look alike.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        used: Counter[str] = Counter()
        for path in sorted(contents):
            name = whole_text(path)
            used[name] += 1
            entry = zipfile.ZipInfo(name if used[name] == 1 else f"{name}-{used[name]}", FIXED_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[path], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
