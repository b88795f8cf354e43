"""`/api/user`: what git hosts know of a user. No git host is connected."""

from typing import Annotated, NoReturn

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from server.errors import GitTokenRequired, NotSupported
from server.routes.describing import Tag, described
from server.routes.exchange import JsonResponse, Query, ResponseBody, principal_of, read_query
from server.routes.services import Services
from storage.conversations.metadata import MAX_COUNT

TOKEN = "Git provider token required. (such as GitHub)."  # noqa: S105 - a text for people
TOKEN_FOR_SEARCH = "Git provider token required."  # noqa: S105
NO_PROVIDERS = "No providers set."


class BranchQuery(Query):
    """Which page of a repository's branches."""

    page: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 30


class BranchPage(ResponseBody):
    """A page of a repository's branches."""

    branches: Annotated[list[JsonValue], Field(max_length=0)]
    has_next_page: bool
    current_page: int
    per_page: int
    total_count: int


class GitHostRoutes:
    """Without a token each answers 401 with the text that pages of this protocol know.

    With one a git host would have to be asked, and this server asks none: lists are empty, so that
    pages show that there is nothing, and single things are refused with 501.
    """

    def __init__(self, services: Services) -> None:
        self._users = services.users

    @described(Tag.GIT_HOSTS, answer=NoReturn, raises=(GitTokenRequired, NotSupported))
    async def nothing(self, request: Request) -> Response:
        """Who one is there, the text of a microagent."""
        await self._check_token(request, TOKEN)
        raise NotSupported("This server asks no git host")

    @described(Tag.GIT_HOSTS, answer=list[JsonValue], raises=(GitTokenRequired,))
    async def empty_list(self, request: Request) -> Response:
        """Repositories, installations, microagents: none, as no git host is asked."""
        await self._check_token(request, TOKEN)
        return JsonResponse([])

    @described(Tag.GIT_HOSTS, query=BranchQuery, answer=BranchPage, raises=(GitTokenRequired,))
    async def page_of_branches(self, request: Request) -> Response:
        """Branches of a repository: none."""
        await self._check_token(request, TOKEN)
        query = read_query(request, BranchQuery)
        return JsonResponse(
            BranchPage(
                branches=[],
                has_next_page=False,
                current_page=query.page,
                per_page=query.per_page,
                total_count=0,
            )
        )

    @described(Tag.GIT_HOSTS, answer=list[JsonValue], raises=(GitTokenRequired,))
    async def branches(self, request: Request) -> Response:
        """Branches by a text in their name: none."""
        await self._check_token(request, TOKEN_FOR_SEARCH)
        return JsonResponse([])

    @described(Tag.GIT_HOSTS, answer=list[JsonValue], raises=(GitTokenRequired,))
    async def suggested_tasks(self, request: Request) -> Response:
        """Work that git hosts offer: none."""
        await self._check_token(request, NO_PROVIDERS)
        return JsonResponse([])

    async def _check_token(self, request: Request, without_token: str) -> None:
        secrets = await self._users.secrets(principal_of(request).user_id)
        if not secrets.provider_tokens:
            raise GitTokenRequired(without_token)
