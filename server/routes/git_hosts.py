"""`/api/user`: what git hosts know of a user. No git host is connected."""

from starlette.requests import Request
from starlette.responses import Response

from server.errors import GitTokenRequired
from server.routes.services import Services

TOKEN = "Git provider token required. (such as GitHub)."  # noqa: S105 - a text for people
TOKEN_FOR_SEARCH = "Git provider token required."  # noqa: S105
NO_PROVIDERS = "No providers set."


class GitHostRoutes:
    """Each answers 401 with the text that pages of this protocol know, as there is no token."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def nothing(self, _request: Request) -> Response:
        """Who one is there, repositories, branches, microagents."""
        raise GitTokenRequired(TOKEN)

    async def branches(self, _request: Request) -> Response:
        """Branches by a text in their name."""
        raise GitTokenRequired(TOKEN_FOR_SEARCH)

    async def suggested_tasks(self, _request: Request) -> Response:
        """Work that git hosts offer."""
        raise GitTokenRequired(NO_PROVIDERS)
