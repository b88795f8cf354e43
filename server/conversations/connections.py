"""The live connections of this process: sockets fill it, managers and routes use it."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from server.conversations.conversation import ServerConversation

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


class ConnectionEntry:
    """Everything that is known of one connection, from its request to join until it is gone.

    The table keeps it while the connection is joining, is attached to a conversation by the manager,
    or has a session; a server adds its own fields in a subclass.
    """

    __slots__ = ("connection_id", "conversation", "joining", "session")

    def __init__(self, connection_id: str, *, joining: bool = False) -> None:
        self.connection_id = connection_id
        self.joining = joining
        """Whether its request to join is being checked."""
        self.conversation: ServerConversation | None = None
        """The conversation that the manager has attached it to."""
        self.session: Connection | None = None
        """Set while the client is connected and has joined."""


class ConnectionRegistry:
    """The table of connections: one entry each, and an index of the sessions by conversation.

    What is counted, listed and notified are sessions.
    """

    def __init__(self) -> None:
        self._entries: dict[str, ConnectionEntry] = {}
        self._by_conversation: dict[str, dict[str, Connection]] = {}

    @property
    def entries(self) -> Mapping[str, ConnectionEntry]:
        """The entries as they are at any time, by connection, the oldest first."""
        return self._entries

    def enter(self, entry: ConnectionEntry) -> None:
        """Add an entry. Raise ValueError if that connection is joining or has a session.

        One that a manager has failed to detach is replaced: its client may join again.
        """
        known = self._entries.get(entry.connection_id)
        if known is not None and (known.joining or known.session is not None):
            raise ValueError(f"the connection {entry.connection_id} is known already")
        self._entries[entry.connection_id] = entry

    def joined(self, entry: ConnectionEntry) -> None:
        """End the joining of a connection, which has succeeded or failed."""
        entry.joining = False
        self._forget_if_unused(entry)

    def attach(self, connection_id: str, conversation: ServerConversation) -> None:
        """Note the conversation of a connection. Raise ValueError if it has one already."""
        entry = self._entries.get(connection_id)
        if entry is None:
            entry = ConnectionEntry(connection_id)
            self.enter(entry)
        if entry.conversation is not None:
            raise ValueError(f"the connection {connection_id} has joined already")
        entry.conversation = conversation

    def detach(self, connection_id: str) -> ServerConversation | None:
        """Forget the conversation of a connection and return it; None if it has none."""
        entry = self._entries.get(connection_id)
        if entry is None:
            return None
        conversation, entry.conversation = entry.conversation, None
        self._forget_if_unused(entry)
        return conversation

    def add(self, session: Connection) -> None:
        """Set the session of a connection."""
        entry = self._entries.get(session.connection_id)
        if entry is None:
            entry = ConnectionEntry(session.connection_id)
            self.enter(entry)
        entry.session = session
        room = self._by_conversation.setdefault(session.conversation_id, {})
        room[session.connection_id] = session

    def remove(self, connection_id: str) -> None:
        """Remove the session of a connection, or end its joining; unknown ones are ignored."""
        entry = self._entries.get(connection_id)
        if entry is None:
            return
        session, entry.session, entry.joining = entry.session, None, False
        if session is not None:
            room = self._by_conversation[session.conversation_id]
            del room[connection_id]
            if not room:
                del self._by_conversation[session.conversation_id]
        self._forget_if_unused(entry)

    def get(self, connection_id: str) -> Connection | None:
        """Return the session of a connection."""
        entry = self._entries.get(connection_id)
        return None if entry is None else entry.session

    def all(self) -> list[Connection]:
        """Return every session, the oldest first."""
        return [entry.session for entry in self._entries.values() if entry.session is not None]

    def of(self, conversation_id: str) -> Iterable[Connection]:
        """Return the connections currently attached to a conversation."""
        return tuple(self._by_conversation.get(conversation_id, {}).values())

    def count(self, conversation_id: str) -> int:
        """Return how many connections a conversation has."""
        return len(self._by_conversation.get(conversation_id, ()))

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.all())

    def __len__(self) -> int:
        return sum(len(room) for room in self._by_conversation.values())

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

    def _forget_if_unused(self, entry: ConnectionEntry) -> None:
        used = entry.joining or entry.conversation is not None or entry.session is not None
        if not used and self._entries.get(entry.connection_id) is entry:
            del self._entries[entry.connection_id]
