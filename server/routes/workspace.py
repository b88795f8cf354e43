"""What a page asks of a conversation's workspace as soon as it opens it, and its changes."""

from dataclasses import asdict

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from runtime_stub.errors import NotText
from server.errors import NotFound
from server.routes.exchange import JsonResponse, Query, read_query, visible_id
from server.routes.running import running_runtime
from server.routes.services import Services

NO_REPOSITORY = "Not a git repository"
"""Pages look for this very text."""


class DiffQuery(Query):
    """A path as `git/changes` names it."""

    path: str = Field(min_length=1)


class WorkspaceRoutes:
    """Answers without starting anything."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def config(self, request: Request) -> Response:
        """Ids of runtime and session."""
        conversation_id = await self._visible(request)
        return JsonResponse({"runtime_id": None, "session_id": conversation_id})

    async def vscode_url(self, request: Request) -> Response:
        """No editor is offered."""
        await self._visible(request)
        return JsonResponse({"vscode_url": None})

    async def web_hosts(self, request: Request) -> Response:
        """No servers run in the workspace."""
        await self._visible(request)
        return JsonResponse({"hosts": {}})

    async def microagents(self, request: Request) -> Response:
        """No microagents are loaded, whatever the workspace holds."""
        await self._visible(request)
        return JsonResponse({"microagents": []})

    async def git_changes(self, request: Request) -> Response:
        """Uncommitted changes; NotFound without a running workspace that is a repository."""
        async with running_runtime(request, self._services, absent=NO_REPOSITORY) as runtime:
            changes = await runtime.changes()
        if changes is None:
            raise NotFound(NO_REPOSITORY)
        return JsonResponse([asdict(change) for change in changes])

    async def git_diff(self, request: Request) -> Response:
        """A changed file's text before and after, empty where it is not there.

        Raises NotFound without a repository or where the path is in neither, NotText, and what
        `running_runtime` raises.
        """
        path = read_query(request, DiffQuery).path
        async with running_runtime(request, self._services, absent=NO_REPOSITORY) as runtime:
            versions = await runtime.versions(path)
        if versions is None:
            raise NotFound(NO_REPOSITORY)
        if versions.original is None and versions.modified is None:
            raise NotFound("There is no such file, neither committed nor in the workspace")
        return JsonResponse(
            {
                "modified": text_of(path, versions.modified or b""),
                "original": text_of(path, versions.original or b""),
            }
        )

    async def _visible(self, request: Request) -> str:
        return await visible_id(request, self._services.conversation_stores)


def text_of(path: str, content: bytes) -> str:
    """The text of a file. Raises NotText for what is not UTF-8 or holds NUL."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise NotText(f"{path[:100]}: the file is not UTF-8 text") from error
    if "\0" in text:
        raise NotText(f"{path[:100]}: the file is not text")
    return text
