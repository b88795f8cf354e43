"""The live connections of this process: sockets fill it, managers and routes use it."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

logger = logging.getLogger(__name__)


class Connection(Protocol):
    """One client that is attached to one conversation."""

    @property
    def connection_id(self) -> str:
        """Names the connection in this process."""

    @property
    def conversation_id(self) -> str:
        """The conversation it is attached to."""

    @property
    def user_id(self) -> str | None:
        """The owner."""

    @property
    def client(self) -> str | None:
        """The address it comes from; None where that is not known."""

    @property
    def position(self) -> int:
        """The last log id it was handed."""

    @property
    def head(self) -> int:
        """The id of the newest event in the log."""

    @property
    def queued_bytes(self) -> int:
        """Bytes for it that the network has not taken yet."""

    @property
    def live(self) -> bool:
        """Whether it has caught up with the log; otherwise it reads the log."""

    @property
    def waiting(self) -> int:
        """Its events that are taken and not yet answered."""

    @property
    def delivered(self) -> int:
        """Events of the log it has passed."""

    def notify(self, payload: Mapping[str, Any]) -> None:
        """Send a payload that is not an event of the log; lost if the connection is."""

    async def drop(self) -> None:
        """Flush for a bounded time, then close the transport, so that the client reconnects."""


class ConnectionRegistry:
    """Live connections by id and by conversation."""

    def __init__(self) -> None:
        self._by_id: dict[str, Connection] = {}
        self._by_conversation: dict[str, dict[str, Connection]] = {}

    def add(self, connection: Connection) -> None:
        """Enter a connection."""
        self._by_id[connection.connection_id] = connection
        room = self._by_conversation.setdefault(connection.conversation_id, {})
        room[connection.connection_id] = connection

    def remove(self, connection_id: str) -> None:
        """Remove a connection; unknown ones are ignored."""
        connection = self._by_id.pop(connection_id, None)
        if connection is None:
            return
        room = self._by_conversation[connection.conversation_id]
        del room[connection_id]
        if not room:
            del self._by_conversation[connection.conversation_id]

    def get(self, connection_id: str) -> Connection | None:
        """Return the connection with that id, if it is live."""
        return self._by_id.get(connection_id)

    def all(self) -> list[Connection]:
        """Return the current connections, the oldest first."""
        return list(self._by_id.values())

    def of(self, conversation_id: str) -> Iterable[Connection]:
        """Return the connections currently attached to a conversation."""
        return tuple(self._by_conversation.get(conversation_id, {}).values())

    def count(self, conversation_id: str) -> int:
        """Return how many connections a conversation has."""
        return len(self._by_conversation.get(conversation_id, ()))

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def notify(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """Send a payload that is not an event to every connection of a conversation.

        Never raises: a failing connection affects neither the others nor the caller.
        """
        for connection in self.of(conversation_id):
            try:
                connection.notify(payload)
            except Exception:
                ids = {"conversation_id": conversation_id}
                logger.exception("cannot notify a client of %s", conversation_id, extra=ids)
