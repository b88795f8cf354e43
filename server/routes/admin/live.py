"""Live administration: loops, connections, figures, and the actions on them."""

import time
from collections import Counter
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from server.conversations.connections import Connection
from server.conversations.drain import Drain
from server.conversations.manager import AgentLoopInfo, ConversationStatus
from server.errors import NotFound
from server.observability.logs import FaultCounts
from server.routes.admin.models import (
    ConnectionCounts,
    ConnectionLine,
    Connections,
    ConnectionsQuery,
    Disconnected,
    DrainRequest,
    DrainState,
    EmptyBody,
    LoopClosed,
    LoopCounts,
    LoopLine,
    Loops,
    Overview,
    answer,
)
from server.routes.endpoint import Tag, described
from server.routes.process import ProcessFigures
from server.routes.request import conversation_id_of, read_body, read_query
from server.routes.services import Services


class LiveRoutes:
    """Endpoints for the current state of this process."""

    def __init__(self, services: Services, drain: Drain, faults: FaultCounts) -> None:
        self._services = services
        self._drain = drain
        self._faults = faults
        self._figures = ProcessFigures(services.config.data_dir)

    @described(Tag.ADMINISTRATION, answer=Overview, raises=(TimeoutError,))
    async def overview(self, _request: Request) -> Response:
        """Report the server's present state and its counters."""
        services = self._services
        lines = [_connection_line(one) for one in services.connections.all()]
        return answer(
            Overview(
                at=datetime.now(UTC),
                uptime_seconds=time.monotonic() - services.started,
                not_ready=services.not_ready(),
                loops=_loop_counts(await services.manager.every_agent_loop()),
                connections=ConnectionCounts(
                    total=len(lines),
                    behind=sum(line.lag > 0 for line in lines),
                    largest_lag=max((line.lag for line in lines), default=0),
                    queued_bytes=sum(line.queued_bytes for line in lines),
                ),
                counters=services.event_store.counters,
                faults={"warnings": self._faults.warnings, "errors": self._faults.errors},
                resources=await self._figures.read(),
            )
        )

    @described(Tag.ADMINISTRATION, answer=Loops)
    async def loops(self, _request: Request) -> Response:
        """List the agent loops of all users."""
        services = self._services
        watching = Counter(one.conversation_id for one in services.connections.all())
        return answer(
            Loops(
                results=[
                    LoopLine(
                        conversation_id=info.conversation_id,
                        user_id=info.user_id,
                        status=info.status,
                        runtime_status=info.runtime_status,
                        queued=info.queued,
                        working=info.working,
                        events=info.next_id,
                        connections=watching[info.conversation_id],
                    )
                    for info in await services.manager.every_agent_loop()
                ]
            )
        )

    @described(Tag.ADMINISTRATION, answer=LoopClosed, body=EmptyBody, raises=(NotFound,))
    async def close_loop(self, request: Request) -> Response:
        """Stop an agent loop, as its user could. Raises BadKey, NotFound if there is none."""
        await read_body(request, EmptyBody)
        conversation_id = conversation_id_of(request)
        known = {info.conversation_id for info in await self._services.manager.every_agent_loop()}
        if conversation_id not in known:
            raise NotFound("This conversation has no running agent loop")
        closed = await self._services.manager.close_session(conversation_id)
        return answer(LoopClosed(conversation_id=conversation_id, closed=closed))

    @described(Tag.ADMINISTRATION, answer=Connections, query=ConnectionsQuery)
    async def connections(self, request: Request) -> Response:
        """List all connections, or those of a conversation, furthest behind first."""
        only = read_query(request, ConnectionsQuery).conversation_id
        lines = [
            _connection_line(one)
            for one in self._services.connections.all()
            if only in (None, one.conversation_id)
        ]
        lines.sort(key=lambda line: line.lag, reverse=True)
        return answer(Connections(results=lines))

    @described(Tag.ADMINISTRATION, answer=Disconnected, body=EmptyBody, raises=(NotFound,))
    async def disconnect(self, request: Request) -> Response:
        """Close a connection after a bounded flush. Raises NotFound."""
        await read_body(request, EmptyBody)
        connection_id = request.path_params["connection_id"]
        connection = self._services.connections.get(connection_id)
        if connection is None:
            raise NotFound("There is no such connection")
        await connection.drop()
        return answer(Disconnected(connection_id=connection_id, disconnected=True))

    @described(Tag.ADMINISTRATION, answer=DrainState)
    async def drain_state(self, _request: Request) -> Response:
        """Report whether the server is draining, and its progress."""
        return answer(await self._state())

    @described(Tag.ADMINISTRATION, answer=DrainState, body=DrainRequest)
    async def drain(self, request: Request) -> Response:
        """Start a drain: refuse new work, stop idle loops, and stop all loops at the deadline."""
        body = await read_body(request, DrainRequest)
        self._drain.begin(body.deadline_seconds)
        return answer(await self._state())

    @described(Tag.ADMINISTRATION, answer=DrainState)
    async def undo_drain(self, _request: Request) -> Response:
        """End the drain, if there is one, and accept work again."""
        self._drain.end()
        return answer(await self._state())

    async def _state(self) -> DrainState:
        counts = _loop_counts(await self._services.manager.every_agent_loop())
        return DrainState(
            draining=self._drain.under_way,
            drained=self._drain.drained,
            failed=self._drain.failed,
            deadline=self._drain.deadline,
            loops=counts.running + counts.starting,
        )


def _loop_counts(infos: list[AgentLoopInfo]) -> LoopCounts:
    held = [info for info in infos if not info.queued]
    running = sum(info.status is ConversationStatus.RUNNING for info in held)
    return LoopCounts(
        running=running,
        starting=len(held) - running,
        waiting=len(infos) - len(held),
        working=sum(info.working for info in held),
    )


def _connection_line(connection: Connection) -> ConnectionLine:
    position, head = connection.position, connection.head
    return ConnectionLine(
        connection_id=connection.connection_id,
        client=connection.client,
        user_id=connection.user_id,
        conversation_id=connection.conversation_id,
        position=position,
        head=head,
        lag=max(head - position, 0),
        queued_bytes=connection.queued_bytes,
    )
