"""The workspace of a conversation: addresses a page asks for on opening, and its git changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from events.strictness import whole_text
from runtime_stub.base import Runtime
from runtime_stub.errors import BadWorkspacePath, NotText, RuntimeUnavailable, WorkspaceError
from server.errors import NotFound
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

NOT_RUNNING = "The conversation's workspace is not running"


@asynccontextmanager
async def running_runtime(
    request: Request, services: Services, *, absent: str = NOT_RUNNING
) -> AsyncIterator[Runtime]:
    """Yield the ready runtime of the conversation in the path; nothing is started for it.

    Raises BadKey, ConversationNotFound, and NotFound with the text `absent` where no loop is ready;
    TimeoutError when the block takes longer than an action may.
    """
    conversation_id = await visible_id(request, services.conversation_stores)
    async with ready_runtime(request, services, conversation_id) as runtime:
        if runtime is None:
            raise NotFound(absent)
        yield runtime


def action_deadline(services: Services) -> asyncio.Timeout:
    """Return the bound of a request that waits for a workspace: what an action may take."""
    return asyncio.timeout(services.config.action_timeout_seconds)


@asynccontextmanager
async def ready_runtime(
    request: Request, services: Services, conversation_id: str
) -> AsyncIterator[Runtime | None]:
    """Yield the ready runtime of a visible conversation, None where no loop is ready.

    Raises TimeoutError when the block takes longer than an action may.
    """
    manager = services.manager
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(action_deadline(services))
        loop = None
        if await manager.is_agent_loop_running(conversation_id):
            attached = manager.attach(conversation_id, owner_of(request))
            conversation = await stack.enter_async_context(attached)
            loop = conversation.loop if conversation.ready else None
        yield None if loop is None else loop.runtime


NO_REPOSITORY = "Not a git repository"
"""Pages look for this very text."""


class DiffQuery(Query):
    """A path as `git/changes` names it."""

    path: str = Field(min_length=1)


class WorkspaceIds(ResponseBody):
    """Ids of runtime and session."""

    runtime_id: str | None
    session_id: str


class EditorAddress(ResponseBody):
    """The address of an editor."""

    vscode_url: str | None


class WebHosts(ResponseBody):
    """Servers that run in the workspace, and their ports."""

    hosts: dict[str, int]


class Microagents(ResponseBody):
    """Microagents the workspace brings along."""

    microagents: list[str]


class FileChange(ResponseBody):
    """A file that differs from the last commit: modified, added, deleted, renamed, untracked."""

    status: Literal["M", "A", "D", "R", "U"]
    path: str


class FileVersions(ResponseBody):
    """A file's text before and after; empty where there was or is none."""

    modified: str
    original: str


class WorkspaceRoutes:
    """Answers without starting anything."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.WORKSPACE, answer=WorkspaceIds)
    async def config(self, request: Request) -> Response:
        """Return the ids of the runtime and the session."""
        conversation_id = await self._visible(request)
        return JsonResponse(WorkspaceIds(runtime_id=None, session_id=conversation_id))

    @described(Tag.WORKSPACE, answer=EditorAddress)
    async def vscode_url(self, request: Request) -> Response:
        """Return the address of an editor: always null."""
        await self._visible(request)
        return JsonResponse(EditorAddress(vscode_url=None))

    @described(Tag.WORKSPACE, answer=WebHosts)
    async def web_hosts(self, request: Request) -> Response:
        """Return the web servers in the workspace: always none."""
        await self._visible(request)
        return JsonResponse(WebHosts(hosts={}))

    @described(Tag.WORKSPACE, answer=Microagents)
    async def microagents(self, request: Request) -> Response:
        """List the loaded microagents: always none."""
        await self._visible(request)
        return JsonResponse(Microagents(microagents=[]))

    @described(
        Tag.WORKSPACE,
        answer=list[FileChange],
        raises=(NotFound, WorkspaceError, RuntimeUnavailable, TimeoutError),
    )
    async def git_changes(self, request: Request) -> Response:
        """List the uncommitted changes of the workspace.

        Raises NotFound without a git repository, and WorkspaceError where git fails.
        """
        async with running_runtime(request, self._services, absent=NO_REPOSITORY) as runtime:
            changes = await runtime.changes()
        if changes is None:
            raise NotFound(NO_REPOSITORY)
        redactor = await self._services.users.redactor(owner_of(request))
        return JsonResponse(
            [
                FileChange.model_validate(
                    asdict(one) | {"path": redactor.redact_text(whole_text(one.path))}
                )
                for one in changes
            ]
        )

    @described(
        Tag.WORKSPACE,
        query=DiffQuery,
        answer=FileVersions,
        raises=(
            *(NotFound, NotText, BadWorkspacePath, WorkspaceError),
            *(RuntimeUnavailable, TimeoutError),
        ),
    )
    async def git_diff(self, request: Request) -> Response:
        """Return a changed file's committed and present text, empty where the file does not exist.

        Raises NotFound without a repository or where the path is in neither, NotText, and what
        `running_runtime` raises.
        """
        path = read_query(request, DiffQuery).path
        async with running_runtime(request, self._services, absent=NO_REPOSITORY) as runtime:
            versions = await runtime.versions(path)
        if versions is None:
            raise NotFound(NO_REPOSITORY)
        if versions.original is None and versions.modified is None:
            raise NotFound("There is no such file in the last commit or in the workspace")
        return JsonResponse(
            FileVersions(
                modified=text_of(path, versions.modified or b""),
                original=text_of(path, versions.original or b""),
            )
        )

    async def _visible(self, request: Request) -> str:
        return await visible_id(request, self._services.conversation_stores)


def text_of(path: str, content: bytes) -> str:
    """Return the text of a file. Raises NotText unless it is UTF-8 without NUL."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise NotText(f"{path[:100]}: the file is not UTF-8 text") from error
    if "\0" in text:
        raise NotText(f"{path[:100]}: the file is not text")
    return text
