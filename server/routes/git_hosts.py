"""`/api/user`: what git hosts know of a user. No git host is connected."""

from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response

from server.errors import GitTokenRequired, NotSupported
from server.routes.describing import Tag, described
from server.routes.exchange import principal_of
from server.routes.services import Services

TOKEN = "Git provider token required. (such as GitHub)."  # noqa: S105 - a text for people
TOKEN_FOR_SEARCH = "Git provider token required."  # noqa: S105
NO_PROVIDERS = "No providers set."
REFUSALS = (GitTokenRequired, NotSupported)


class GitHostRoutes:
    """Without a token each answers 401 with the text that pages of this protocol know.

    With one a git host would have to be asked: 501, as this server asks none.
    """

    def __init__(self, services: Services) -> None:
        self._users = services.users

    @described(Tag.GIT_HOSTS, answer=NoReturn, raises=REFUSALS)
    async def nothing(self, request: Request) -> Response:
        """Who one is there, repositories, branches, microagents."""
        await self._refuse(request, TOKEN)

    @described(Tag.GIT_HOSTS, answer=NoReturn, raises=REFUSALS)
    async def branches(self, request: Request) -> Response:
        """Branches by a text in their name."""
        await self._refuse(request, TOKEN_FOR_SEARCH)

    @described(Tag.GIT_HOSTS, answer=NoReturn, raises=REFUSALS)
    async def suggested_tasks(self, request: Request) -> Response:
        """Work that git hosts offer."""
        await self._refuse(request, NO_PROVIDERS)

    async def _refuse(self, request: Request, without_token: str) -> NoReturn:
        secrets = await self._users.secrets(principal_of(request).user_id)
        if not secrets.provider_tokens:
            raise GitTokenRequired(without_token)
        raise NotSupported("This server asks no git host")
