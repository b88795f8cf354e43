"""The handlers, with connections counted and named in the log."""

from structlog.contextvars import bound_contextvars

from server.errors import Refused, answer_for
from server.observability.counters import Tallies
from server.sockets.handlers import Arrival, SocketHandlers, SocketParts

TEXTS = {
    "invalid_session_api_key": "wrong_key",
    "Conversation not found": "conversation_not_found",
    "The client has left": "client_left",
}
"""Refusals that no other error stands behind; all others are about the query."""


class WatchedHandlers(SocketHandlers):
    """Counts who joins and who is refused; nothing is done for an event."""

    def __init__(self, parts: SocketParts, tallies: Tallies) -> None:
        super().__init__(parts)
        self._connections = parts.connections
        self._tallies = tallies

    async def join(self, arrival: Arrival) -> None:
        """See SocketHandlers. What it begins carries the connection's id."""
        with bound_contextvars(connection_id=arrival.connection_id):
            try:
                await super().join(arrival)
            except Refused as refused:
                self._tallies.refused[reason_of(refused)] += 1
                raise
        self._tallies.connections += 1

    async def leave(self, connection_id: str) -> None:
        """See SocketHandlers. What it was brought past is counted on."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            self._tallies.delivered += connection.delivered
        await super().leave(connection_id)


def reason_of(refused: Refused) -> str:
    """One of few words for why a connection was refused."""
    cause = refused.__cause__
    if isinstance(cause, Exception) and not isinstance(cause, Refused):
        return answer_for(cause).code
    return TEXTS.get(str(refused), "bad_query")
