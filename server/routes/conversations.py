"""`/api/conversations`: create, list, show, rename, delete, start, stop."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from events.errors import BadEvent, BadRecording, StreamOverloaded
from server.conversations.manager import AgentLoopInfo, ConversationStatus
from server.conversations.notices import title_notice
from server.errors import ModelKeyMissing, NotAvailable, SettingsNotFound
from server.routes.creation import ConversationCreator, NewConversation
from server.routes.describing import Tag, described
from server.routes.exchange import (
    JsonResponse,
    Query,
    RequestBody,
    ResponseBody,
    conversation_id_of,
    principal_of,
    read_body,
    read_query,
    store_of,
    visible_id,
)
from server.routes.info import ConversationInfo, conversation_infos, status_of
from server.routes.moments import Moment
from server.routes.services import Services
from storage.conversations.metadata import (
    ConversationTrigger,
    MetadataChange,
    ProviderType,
    Text,
)
from storage.conversations.paging import DEFAULT_LIMIT, MAX_LIMIT, ConversationFilter, ListOrder
from storage.errors import BadCursor, BadKey, ConversationNotFound, KeyExists
from storage.unicode_text import one_line


def _line(title: str) -> str:
    line = one_line(title)
    if not line:
        raise ValueError("nothing of it can be seen")
    return line


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_line),
]
"""One line: white space becomes a space, controls are left out."""


PageId = Annotated[str, Field(json_schema_extra={"format": "page-id"})]


class ListQuery(Query):
    """Which conversations, and which page of them."""

    page_id: PageId | None = None
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    selected_repository: Text | None = None
    conversation_trigger: ConversationTrigger | None = None
    title: Text | None = None
    updated_since: Moment | None = None
    sort: ListOrder = ListOrder.CREATED


class Rename(RequestBody):
    """A new title."""

    title: Title


class Start(RequestBody):
    """Git hosts the page knows tokens for; there are none to use yet."""

    providers_set: list[ProviderType] | None = None


class ConversationPage(ResponseBody):
    """One page of conversations; `next_page_id` is null on the last one."""

    results: list[ConversationInfo]
    next_page_id: str | None


class LoopTold(ResponseBody):
    """A conversation and what its loop is doing."""

    status: Literal["ok"] = "ok"
    conversation_id: str
    message: str | None = None
    conversation_status: ConversationStatus


UNPREPARED = (SettingsNotFound, ModelKeyMissing, NotAvailable)
"""Why no loop can begin."""


class ConversationRoutes:
    """Conversations of whoever asks. Reading one neither opens it nor starts its loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stores = services.conversation_stores
        self._creator = ConversationCreator(services)

    @described(
        Tag.CONVERSATIONS,
        body=NewConversation,
        answer=LoopTold,
        takes_key=True,
        raises=(*UNPREPARED, BadEvent, BadRecording, BadKey, KeyExists, StreamOverloaded),
    )
    async def create(self, request: Request) -> Response:
        """Create a conversation, say its first message and start its loop if it can be.

        A retry with the same Idempotency-Key gives the same conversation and no second message.
        Where the setting `allow_set_conversation_id` is on, the body may have a `conversation_id`.
        """
        return _started(await self._creator.create(request))

    @described(Tag.CONVERSATIONS, query=ListQuery, answer=ConversationPage, raises=(BadCursor,))
    async def search(self, request: Request) -> Response:
        """A page of conversations, newest first by `sort`; filters apply before paging."""
        query = read_query(request, ListQuery)
        return await self._list(request, query, query.conversation_trigger)

    @described(Tag.CONVERSATIONS, query=ListQuery, answer=ConversationPage, raises=(BadCursor,))
    async def of_microagents(self, request: Request) -> Response:
        """The same, of those that were begun to write a microagent."""
        query = read_query(request, ListQuery)
        return await self._list(request, query, ConversationTrigger.MICROAGENT_MANAGEMENT)

    async def _list(
        self, request: Request, query: ListQuery, trigger: ConversationTrigger | None
    ) -> Response:
        page = await store_of(request, self._stores).search(
            query.page_id,
            query.limit,
            filters=ConversationFilter(
                selected_repository=query.selected_repository,
                trigger=trigger,
                title_contains=query.title,
                updated_since=self._since(query.updated_since),
                order=query.sort,
            ),
        )
        user_id = principal_of(request).user_id
        infos = conversation_infos(self._services.manager, user_id, page.results)
        return JsonResponse(ConversationPage(results=infos, next_page_id=page.next_page_id))

    @described(Tag.CONVERSATIONS, answer=ConversationInfo | None)
    async def show(self, request: Request) -> Response:
        """One conversation; null when there is none that whoever asks may see."""
        conversation_id = conversation_id_of(request)
        try:
            record = await store_of(request, self._stores).get_metadata(conversation_id)
        except ConversationNotFound:
            return JsonResponse(None)
        user_id = principal_of(request).user_id
        return JsonResponse(conversation_infos(self._services.manager, user_id, [record])[0])

    @described(Tag.CONVERSATIONS, body=Rename, answer=Literal[True])
    async def rename(self, request: Request) -> Response:
        """Set the title, secrets masked, and tell whoever is connected."""
        conversation_id = await visible_id(request, self._stores)
        title = await self._services.users.masked(
            principal_of(request).user_id, (await read_body(request, Rename)).title
        )
        await store_of(request, self._stores).update_metadata(
            conversation_id, MetadataChange(title=title)
        )
        self._services.connections.notify(conversation_id, title_notice(conversation_id, title))
        return JsonResponse(content=True)

    @described(Tag.CONVERSATIONS, answer=bool)
    async def delete(self, request: Request) -> Response:
        """Delete for ever; false when there is none that whoever asks may see."""
        conversation_id = conversation_id_of(request)
        user_id = principal_of(request).user_id
        deleted = await self._services.manager.delete_conversation(conversation_id, user_id)
        return JsonResponse(deleted)

    @described(Tag.CONVERSATIONS, body=Start, answer=LoopTold, raises=UNPREPARED)
    async def start(self, request: Request) -> Response:
        """Start the loop unless it is there."""
        conversation_id = await visible_id(request, self._stores)
        await read_body(request, Start)
        self._services.check_intake()
        user_id = principal_of(request).user_id
        await self._services.users.admit(user_id)
        return _started(
            await self._services.manager.maybe_start_agent_loop(
                conversation_id, self._services.default_settings, user_id
            )
        )

    @described(Tag.CONVERSATIONS, answer=LoopTold)
    async def stop(self, request: Request) -> Response:
        """Stop the loop; the status told is that before."""
        conversation_id = await visible_id(request, self._stores)
        manager = self._services.manager
        before = status_of(manager, principal_of(request).user_id, conversation_id)
        had_loop = await manager.close_session(conversation_id)
        told = "Conversation stopped successfully" if had_loop else "Conversation was not running"
        return JsonResponse(
            LoopTold(conversation_id=conversation_id, message=told, conversation_status=before)
        )

    def _since(self, asked: datetime | None) -> datetime | None:
        max_age = self._services.config.conversation_max_age_seconds
        if max_age is None:
            return asked
        oldest = datetime.now(UTC) - timedelta(seconds=max_age)
        return oldest if asked is None else max(asked, oldest)


def _started(info: AgentLoopInfo) -> Response:
    return JsonResponse(
        LoopTold(conversation_id=info.conversation_id, conversation_status=info.status)
    )
