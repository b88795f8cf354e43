"""`/api/conversations`: create, list, show, rename, delete, start, stop."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from events.errors import BadEvent, BadRecording, StreamOverloaded
from server.access.auth import Owner
from server.conversations.manager import AgentLoopInfo, ConversationManager, ConversationStatus
from server.conversations.notices import title_notice
from server.errors import ModelKeyMissing, NotAvailable, SettingsNotFound
from server.routes.creation import ConversationCreator, NewConversation
from server.routes.endpoint import Tag, described
from server.routes.request import (
    JsonResponse,
    Moment,
    Query,
    RequestBody,
    ResponseBody,
    conversation_id_of,
    owner_of,
    read_body,
    read_query,
    store_of,
    visible_id,
)
from server.routes.services import Services
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationTrigger,
    MetadataChange,
    ProviderType,
    Text,
    default_title,
)
from storage.conversations.paging import DEFAULT_LIMIT, MAX_LIMIT, ConversationFilter, ListOrder
from storage.errors import BadCursor, BadKey, ConversationNotFound, KeyExists
from storage.unicode_text import one_line


class ConversationInfo(ResponseBody):
    """A conversation as pages and lists show it."""

    conversation_id: str
    title: str
    created_at: datetime
    last_updated_at: datetime | None
    last_message_at: datetime | None
    status: ConversationStatus
    runtime_status: str | None
    selected_repository: str | None
    selected_branch: str | None
    git_provider: ProviderType | None
    trigger: ConversationTrigger | None
    num_connections: int
    url: str | None
    session_api_key: str | None
    pr_number: list[int]
    # Pages open the socket of this protocol for exactly this version.
    conversation_version: Literal["V0"] = "V0"
    sub_conversation_ids: list[str] = Field(default_factory=list, max_length=0)


async def conversation_infos(
    manager: ConversationManager, owner: Owner, records: Sequence[ConversationMetadata]
) -> list[ConversationInfo]:
    """Return the conversations as pages and lists show them, in the order of the records."""
    ids = {record.conversation_id for record in records}
    loops = {
        info.conversation_id: info
        for info in await manager.get_agent_loop_info(owner, filter_to_sids=ids)
    }
    connections = Counter((await manager.get_connections(owner, filter_to_sids=ids)).values())
    return [
        _info(record, loops.get(record.conversation_id), connections[record.conversation_id])
        for record in records
    ]


async def status_of(
    manager: ConversationManager, owner: Owner, conversation_id: str
) -> ConversationStatus:
    """Return the status of one conversation's loop."""
    found = await manager.get_agent_loop_info(owner, filter_to_sids={conversation_id})
    return found[0].status if found else ConversationStatus.STOPPED


def _info(
    record: ConversationMetadata, loop: AgentLoopInfo | None, num_connections: int
) -> ConversationInfo:
    status = ConversationStatus.STOPPED if loop is None else loop.status
    return ConversationInfo(
        conversation_id=record.conversation_id,
        title=one_line(record.title or "") or default_title(record.conversation_id),
        created_at=record.created_at,
        last_updated_at=record.last_updated_at,
        last_message_at=record.last_message_at,
        status=status,
        runtime_status=None if loop is None else loop.runtime_status,
        selected_repository=record.selected_repository,
        selected_branch=record.selected_branch,
        git_provider=record.git_provider,
        trigger=record.trigger,
        num_connections=num_connections,
        url=None if loop is None else loop.url,
        session_api_key=None if loop is None else loop.session_api_key,
        pr_number=record.pr_number,
    )


def _line(title: str) -> str:
    line = one_line(title)
    if not line:
        raise ValueError("must contain a visible character")
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


class TitleChange(RequestBody):
    """A new title."""

    title: Title


class StartRequest(RequestBody):
    """Git hosts the page knows tokens for; there are none to use yet."""

    providers_set: list[ProviderType] | None = None


class ConversationPage(ResponseBody):
    """One page of conversations; `next_page_id` is null on the last one."""

    results: list[ConversationInfo]
    next_page_id: str | None


class LoopReport(ResponseBody):
    """A conversation and what its loop is doing."""

    status: Literal["ok"] = "ok"
    conversation_id: str
    message: str | None = None
    conversation_status: ConversationStatus


UNPREPARED = (SettingsNotFound, ModelKeyMissing, NotAvailable)
"""The errors for which no loop can begin."""


class ConversationRoutes:
    """Endpoints of the user's conversations. Reading one neither opens nor starts it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stores = services.conversation_stores
        self._creator = ConversationCreator(services)

    @described(
        Tag.CONVERSATIONS,
        body=NewConversation,
        answer=LoopReport,
        takes_key=True,
        raises=(
            *UNPREPARED,
            BadEvent,
            BadRecording,
            BadKey,
            KeyExists,
            StreamOverloaded,
            TimeoutError,
        ),
    )
    async def create(self, request: Request) -> Response:
        """Create a conversation, post its first message and start its agent loop.

        A retry with the same Idempotency-Key returns the same conversation and adds no message.
        If the setting `allow_set_conversation_id` is on, the body may have a `conversation_id`.
        """
        return _started(await self._creator.create(request))

    @described(Tag.CONVERSATIONS, query=ListQuery, answer=ConversationPage, raises=(BadCursor,))
    async def search(self, request: Request) -> Response:
        """List conversations, newest first by `sort`; filters apply before paging."""
        query = read_query(request, ListQuery)
        return await self._list(request, query, query.conversation_trigger)

    @described(Tag.CONVERSATIONS, query=ListQuery, answer=ConversationPage, raises=(BadCursor,))
    async def of_microagents(self, request: Request) -> Response:
        """List the conversations that were created to write a microagent."""
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
        owner = owner_of(request)
        infos = await conversation_infos(self._services.manager, owner, page.results)
        return JsonResponse(ConversationPage(results=infos, next_page_id=page.next_page_id))

    @described(Tag.CONVERSATIONS, answer=ConversationInfo | None)
    async def show(self, request: Request) -> Response:
        """Return a conversation; null if it does not exist or is not visible to the user."""
        conversation_id = conversation_id_of(request)
        try:
            record = await store_of(request, self._stores).get_metadata(conversation_id)
        except ConversationNotFound:
            return JsonResponse(None)
        owner = owner_of(request)
        return JsonResponse((await conversation_infos(self._services.manager, owner, [record]))[0])

    @described(Tag.CONVERSATIONS, body=TitleChange, answer=Literal[True])
    async def rename(self, request: Request) -> Response:
        """Set the title, with secrets masked, and notify connected clients."""
        conversation_id = await visible_id(request, self._stores)
        title = await self._services.users.masked(
            owner_of(request), (await read_body(request, TitleChange)).title
        )
        await store_of(request, self._stores).update_metadata(
            conversation_id, MetadataChange(title=title)
        )
        if self._services.finder is not None:
            self._services.finder.indexer.note(conversation_id, owner_of(request))
        self._services.connections.notify(conversation_id, title_notice(conversation_id, title))
        return JsonResponse(content=True)

    @described(Tag.CONVERSATIONS, answer=bool)
    async def delete(self, request: Request) -> Response:
        """Delete a conversation for good; false if it does not exist or is not visible to the user."""
        conversation_id = conversation_id_of(request)
        owner = owner_of(request)
        deleted = await self._services.manager.delete_conversation(conversation_id, owner)
        return JsonResponse(deleted)

    @described(Tag.CONVERSATIONS, body=StartRequest, answer=LoopReport, raises=UNPREPARED)
    async def start(self, request: Request) -> Response:
        """Start the agent loop unless it is running."""
        conversation_id = await visible_id(request, self._stores)
        await read_body(request, StartRequest)
        self._services.check_intake()
        owner = owner_of(request)
        await self._services.users.admit(owner)
        manager = self._services.manager
        return _started(await manager.maybe_start_agent_loop(conversation_id, None, owner))

    @described(Tag.CONVERSATIONS, answer=LoopReport)
    async def stop(self, request: Request) -> Response:
        """Stop the agent loop and return its status before that."""
        conversation_id = await visible_id(request, self._stores)
        manager = self._services.manager
        before = await status_of(manager, owner_of(request), conversation_id)
        had_loop = await manager.close_session(conversation_id)
        message = (
            "Conversation stopped successfully" if had_loop else "Conversation was not running"
        )
        return JsonResponse(
            LoopReport(conversation_id=conversation_id, message=message, conversation_status=before)
        )

    def _since(self, asked: datetime | None) -> datetime | None:
        max_age = self._services.config.conversation_max_age_seconds
        if max_age is None:
            return asked
        oldest = datetime.now(UTC) - timedelta(seconds=max_age)
        return oldest if asked is None else max(asked, oldest)


def _started(info: AgentLoopInfo) -> Response:
    return JsonResponse(
        LoopReport(conversation_id=info.conversation_id, conversation_status=info.status)
    )
