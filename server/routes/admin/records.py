"""Administration of stored data: all users' conversations, the storage, effective settings, the audit."""

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from server.config.settings import ServerConfig
from server.config.sources import public_name
from server.conversations.manager import ConversationStatus
from server.errors import BadRequest
from server.routes.admin.models import (
    Audit,
    AuditQuery,
    ConversationLine,
    Conversations,
    ConversationsQuery,
    SettingLine,
    SettingsInForce,
    StorageQuery,
    answer,
)
from server.routes.admin.trail import AuditTrail
from server.routes.endpoint import Tag, described
from server.routes.request import read_query
from server.routes.services import Services
from storage.audit.base import AuditLog
from storage.conversations.metadata import ConversationMetadata, ConversationMetadataResultSet
from storage.conversations.paging import ConversationFilter
from storage.errors import BadCursor
from storage.inventory import Inventory, StorageReport


class RecordRoutes:
    """Reads only."""

    def __init__(
        self, services: Services, inventory: Inventory, audit: AuditLog, trail: AuditTrail
    ) -> None:
        self._services = services
        self._inventory = inventory
        self._audit = audit
        self._trail = trail

    @described(
        Tag.ADMINISTRATION, answer=Conversations, query=ConversationsQuery, raises=(BadCursor,)
    )
    async def conversations(self, request: Request) -> Response:
        """List the conversations of all users, newest first. Raises BadCursor."""
        query = read_query(request, ConversationsQuery)
        found = await self._search(query)
        loops = {
            info.conversation_id: info for info in await self._services.manager.every_agent_loop()
        }
        watching = Counter(one.conversation_id for one in self._services.connections.all())

        def line(record: ConversationMetadata) -> ConversationLine:
            loop = loops.get(record.conversation_id)
            return ConversationLine(
                record=record,
                status=ConversationStatus.STOPPED if loop is None else loop.status,
                queued=loop is not None and loop.queued,
                working=loop is not None and loop.working,
                connections=watching[record.conversation_id],
            )

        lines = [line(record) for record in found.results]
        return answer(Conversations(results=lines, next_page_id=found.next_page_id))

    @described(Tag.ADMINISTRATION, answer=StorageReport, query=StorageQuery)
    async def storage(self, request: Request) -> Response:
        """Report the contents of the storage and the disk space it uses."""
        query = read_query(request, StorageQuery)
        return answer(await self._inventory.take(check=query.check))

    @described(Tag.ADMINISTRATION, answer=SettingsInForce)
    async def settings(self, _request: Request) -> Response:
        """List all settings in effect."""
        config = self._services.config
        values = config.masked()
        return answer(
            SettingsInForce(
                results=[
                    SettingLine(
                        name=public_name(field),
                        value=values[public_name(field)],
                        source=config.place_of(field),
                    )
                    for field in ServerConfig.model_fields
                ]
            )
        )

    @described(Tag.ADMINISTRATION, answer=Audit, query=AuditQuery)
    async def audit(self, request: Request) -> Response:
        """List the recorded admin requests, newest first."""
        query = read_query(request, AuditQuery)
        await self._trail.flush()
        records = await self._audit.page(query.before, query.limit + 1, only_acts=query.only_acts)
        page = records[: query.limit]
        more = len(records) > query.limit
        return answer(Audit(results=page, next_before=page[-1].id if more else None))

    async def _search(self, query: ConversationsQuery) -> ConversationMetadataResultSet:
        filters = ConversationFilter(
            selected_repository=query.selected_repository,
            trigger=query.conversation_trigger,
            title_contains=query.title,
            updated_since=query.updated_since,
        )
        stores = self._services.conversation_stores
        if query.unowned and query.owner is not None:
            raise BadRequest("owner and unowned cannot be combined")
        if query.unowned or query.owner is not None:
            store = stores.for_user(query.owner)
            return await store.search(query.page_id, query.limit, filters=filters)
        return await stores.search_all(query.page_id, query.limit, filters=filters)
