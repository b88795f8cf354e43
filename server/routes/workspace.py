"""What a page asks of a conversation's workspace as soon as it opens it."""

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from server.errors import NotFound
from server.routes.exchange import JsonResponse, principal_of, visible_id
from server.routes.services import Services

NO_REPOSITORY = "Not a git repository"
"""Pages look for this very text."""


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

    async def git_changes(self, request: Request) -> Response:
        """Uncommitted changes; NotFound without a running workspace that is a repository."""
        conversation_id = await self._visible(request)
        manager = self._services.manager
        if manager.is_agent_loop_running(conversation_id):
            user_id = principal_of(request).user_id
            async with manager.attach(conversation_id, user_id) as conversation:
                loop = conversation.loop
                changes = await loop.runtime.changes() if loop and conversation.ready else None
            if changes is not None:
                return JsonResponse([asdict(change) for change in changes])
        raise NotFound(NO_REPOSITORY)

    async def _visible(self, request: Request) -> str:
        return await visible_id(request, self._services.conversation_stores)
