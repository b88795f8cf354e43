"""Endpoints that are not offered, and feedback, which is stored."""

from datetime import UTC, datetime
from typing import Annotated, Literal, NoReturn
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from server.errors import GitTokenRequired, NotSupported
from server.routes.endpoint import Tag, described
from server.routes.request import (
    JsonResponse,
    Query,
    RequestBody,
    ResponseBody,
    owner_of,
    read_body,
    read_query,
    store_of,
    visible_id,
)
from server.routes.services import Services
from storage.conversations.metadata import MAX_COUNT, MetadataChange
from storage.keyed_locks import KeyedLocks

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
    """Endpoints of git hosts.

    Without a token each answers 401 with the text that pages of this protocol know. With one, lists
    are empty and single resources are refused with 501, since this server connects to no git host.
    """

    def __init__(self, services: Services) -> None:
        self._users = services.users

    @described(Tag.GIT_HOSTS, answer=NoReturn, raises=(GitTokenRequired, NotSupported))
    async def nothing(self, request: Request) -> Response:
        """Refuse a request that needs a git host: none is connected."""
        await self._check_token(request, TOKEN)
        raise NotSupported("This server is not connected to a git host")

    @described(Tag.GIT_HOSTS, answer=list[JsonValue], raises=(GitTokenRequired,))
    async def empty_list(self, request: Request) -> Response:
        """Return an empty list: no git host is connected."""
        await self._check_token(request, TOKEN)
        return JsonResponse([])

    @described(Tag.GIT_HOSTS, query=BranchQuery, answer=BranchPage, raises=(GitTokenRequired,))
    async def page_of_branches(self, request: Request) -> Response:
        """List the branches of a repository: always none."""
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
        """Search the branches of a repository: always none."""
        await self._check_token(request, TOKEN_FOR_SEARCH)
        return JsonResponse([])

    @described(Tag.GIT_HOSTS, answer=list[JsonValue], raises=(GitTokenRequired,))
    async def suggested_tasks(self, request: Request) -> Response:
        """List the tasks that git hosts suggest: always none."""
        await self._check_token(request, NO_PROVIDERS)
        return JsonResponse([])

    async def _check_token(self, request: Request, without_token: str) -> None:
        secrets = await self._users.secrets(owner_of(request))
        if not secrets.provider_tokens:
            raise GitTokenRequired(without_token)


FEEDBACK = "feedback"
"""Key in a record's `custom`."""
MAX_FEEDBACK = 100
"""Feedback entries kept per conversation; the oldest are dropped first."""
MAX_TEXT = 10_000
FREE_TEXTS = frozenset(("email", "version", "feedback"))
"""Fields of a judgement that may hold anything, secrets among it."""


class RememberQuery(Query):
    """The event to remember."""

    event_id: int = Field(ge=0)


class Experiment(RequestBody):
    """Values of experiments."""

    config: dict[str, str] | None = None


class Feedback(BaseModel):
    """A judgement; what else a page sends along, the whole log for instance, is left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    polarity: Literal["positive", "negative"]
    permissions: Literal["public", "private"] = "private"
    email: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    version: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    feedback: Annotated[str, Field(max_length=MAX_TEXT)] | None = None


class FeedbackStored(ResponseBody):
    """The result of storing feedback, with its id."""

    status: Literal["ok"] = "ok"
    message: str = "Kept on this server"
    feedback_id: str


class ExtraRoutes:
    """Requests that a page makes seldom."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._locks: KeyedLocks[str] = KeyedLocks()

    @described(Tag.CONVERSATIONS, body=Feedback, answer=FeedbackStored)
    async def submit_feedback(self, request: Request) -> Response:
        """Store feedback in the conversation's record, with secrets masked; it is sent nowhere."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        judgement = await read_body(request, Feedback)
        feedback_id = uuid4().hex
        entry: dict[str, JsonValue] = {
            "id": feedback_id,
            "given_at": datetime.now(UTC).isoformat(),
            **await self._masked(request, judgement),
        }
        await self._keep(request, conversation_id, entry)
        return JsonResponse(FeedbackStored(feedback_id=feedback_id))

    @described(Tag.CONVERSATIONS, query=RememberQuery, answer=NoReturn, raises=(NotSupported,))
    async def remember_prompt(self, request: Request) -> Response:
        """Refuse to write a prompt: this server has no model."""
        await visible_id(request, self._services.conversation_stores)
        read_query(request, RememberQuery)
        raise NotSupported("This server has no model to write a prompt with")

    @described(Tag.CONVERSATIONS, body=Experiment, answer=NoReturn, raises=(NotSupported,))
    async def experiment(self, request: Request) -> Response:
        """Refuse an experiment's configuration: this server has no experiments."""
        await visible_id(request, self._services.conversation_stores)
        await read_body(request, Experiment)
        raise NotSupported("This server has no experiments")

    @described(Tag.CONVERSATIONS, answer=NoReturn, raises=(NotSupported,))
    async def security(self, request: Request) -> Response:
        """Refuse a request to the security analyzer: none is built in."""
        await visible_id(request, self._services.conversation_stores)
        raise NotSupported("This server has no security analyzer")

    async def _masked(self, request: Request, judgement: Feedback) -> dict[str, JsonValue]:
        owner = owner_of(request)
        masked = self._services.users.masked
        return {
            name: await masked(owner, value) if name in FREE_TEXTS and value else value
            for name, value in judgement.model_dump().items()
        }

    async def _keep(self, request: Request, conversation_id: str, entry: JsonValue) -> None:
        store = store_of(request, self._services.conversation_stores)
        # `custom` is replaced whole: two judgements at one time must not undo each other.
        async with self._locks.of(conversation_id):
            custom = (await store.get_metadata(conversation_id)).custom
            kept = custom.get(FEEDBACK)
            kept = [*kept, entry] if isinstance(kept, list) else [entry]
            change = MetadataChange(custom={**custom, FEEDBACK: kept[-MAX_FEEDBACK:]})
            await store.update_metadata(conversation_id, change)
