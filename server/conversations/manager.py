"""The ConversationManager contract: who may talk to which conversation, and where it lives."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from events.actions import Action
from events.batch import Appended, Settled
from events.checkpoints import Checkpoints
from events.errors import AppendUnknown
from events.page_reader import PageReader
from events.stores.base import EventStore
from events.stream import EventStream, StreamLimits
from server.agent.states import LoopSettings
from server.config.settings import ServerConfig
from server.conversations.connections import ConnectionRegistry
from server.conversations.conversation import LoopDependencies, ServerConversation
from server.conversations.loop_entries import NO_LOOP, LoopStatus
from server.conversations.users import Users
from server.errors import NotAvailable, NotSupported
from storage.conversations.base import ConversationStores
from storage.promise import Promise


@dataclass(frozen=True, slots=True)
class ManagerDependencies:
    """Dependencies of the manager; their owner opens and closes them."""

    event_store: EventStore
    page_reader: PageReader
    conversation_stores: ConversationStores
    connections: ConnectionRegistry
    loop_dependencies: LoopDependencies
    default_settings: LoopSettings
    users: Users
    checkpoints: Checkpoints
    """Recovers the texts that a crash cut short in a conversation that is opened."""
    stream_limits: StreamLimits = StreamLimits()  # noqa: RUF009 - immutable
    metadata_in_commit: bool = False
    max_concurrent_conversations: int = 3
    close_delay_seconds: float = 3600.0
    secrets: Mapping[str, str] | None = None
    before_deletion: Callable[[str, str | None], Awaitable[None]] | None = None
    """Told of a conversation and its owner just before its log is dropped. Raises nothing."""


class ConversationStatus(StrEnum):
    """A conversation's life as REST shows it."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


class InUse(StrEnum):
    """The uses for which a conversation is not deleted by its age."""

    OPEN = "open"
    """An agent loop runs or waits, a client is connected, or a request is under way."""
    APPROVAL = "approval"
    """The agent has asked for an approval that nobody has decided."""


@dataclass(frozen=True, slots=True)
class AgentLoopInfo:
    """The location and state of a conversation's agent loop."""

    conversation_id: str
    url: str | None
    session_api_key: str | None
    event_store: EventStream | None
    """The live log; None where another process has the loop and it is not open here."""
    status: ConversationStatus
    runtime_status: str | None
    queued: bool = False
    """The loop waits for a slot: the user's limit of running loops is reached."""
    user_id: str | None = None
    working: bool = False
    """The agent is at something now."""
    loop: LoopStatus = NO_LOOP
    """The state of the loop's entry, since when, and what it waits for."""
    next_id: int = 0
    """The id behind the newest event of the log."""
    node: str | None = None
    """The name of the process that runs the loop; None where that is this one, or nobody yet."""


class Joined(NamedTuple):
    """A connection is attached: to which conversation, and where its agent loop is."""

    conversation: ServerConversation
    info: AgentLoopInfo


class Accepted(NamedTuple):
    """A client's event is durable: its id, whether its key was known, whether a loop must wait."""

    id: int
    duplicate: bool = False
    queued: bool = False

    def body(self) -> dict[str, Any]:
        """Return the fields of an acknowledgement."""
        body: dict[str, Any] = {"id": self.id, "duplicate": self.duplicate}
        return body | {"queued": True} if self.queued else body


class ConversationManager(ABC):
    """Handles join, start of agent loops and dispatch of messages.

    `sid` is the conversation id. `user_id` is the id of the owner, an opaque text; None means
    conversations without an owner, never all. Unknown, deleted and foreign conversations raise
    ConversationNotFound alike. Use as an async context manager: leaving it closes every
    conversation in order. A class that a setting names is made with the parts, which stay their
    owner's to open and close.
    """

    def __init__(self, parts: ManagerDependencies) -> None:
        self._parts = parts

    @classmethod
    def get_instance(cls, config: ServerConfig) -> "ConversationManager":
        """Return the manager of this process over the storage that `config` names, for any program.

        It is opened at its first use and closed when the event loop ends. A data directory has one
        manager: the settings of the first call apply. A server has its own.
        """
        if _EmbeddingRegistration.embed is None:
            raise NotAvailable("ConversationManager must be imported from `server`")
        return _EmbeddingRegistration.embed(config)

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Begin."""

    @abstractmethod
    async def __aexit__(self, *error: object) -> None:
        """Close every conversation: loops stop, accepted events become durable."""

    @abstractmethod
    async def shutdown(self) -> None:
        """Stop every loop, make accepted events durable and publish them; final."""

    @abstractmethod
    def attach(
        self, sid: str, user_id: str | None
    ) -> AbstractAsyncContextManager[ServerConversation]:
        """Yield the conversation, kept open inside the `async with`. Starts no loop."""

    def opened(self, sid: str, user_id: str | None) -> ServerConversation | None:  # noqa: ARG002
        """Return the user's conversation if it is open in this process; nothing is asked for it.

        This default is for managers that do not tell.
        """
        return None

    @abstractmethod
    async def join_conversation(
        self, sid: str, connection_id: str, settings: LoopSettings | None, user_id: str | None
    ) -> Joined:
        """Attach a connection (until `disconnect_from_session`) and start the loop if it can.

        The conversation stays open until then. `settings` are those of a loop that starts, None the
        manager's own; what the user has stored goes before them, here and wherever they are given.
        """

    @abstractmethod
    async def disconnect_from_session(self, connection_id: str) -> None:
        """Detach a connection; the loop goes on. Unknown connections are ignored."""

    @abstractmethod
    async def maybe_start_agent_loop(
        self,
        sid: str,
        settings: LoopSettings | None,
        user_id: str | None,
        initial_user_msg: str | None = None,
        *,
        image_urls: Sequence[str] | None = None,
        file_urls: Sequence[str] | None = None,
        client_id: str | None = None,
        replay: Sequence[Action] = (),
        record_checked: bool = False,
    ) -> AgentLoopInfo:
        """Start the loop unless it runs, starts or waits for a slot already.

        An initial message is durable when this returns; the loop takes it up like any other. In a
        conversation without any event the agent first does what `replay` says; in others that is
        ignored. With `record_checked` the caller has just found or written the user's record of
        this id, which is then not looked up again.
        """

    @abstractmethod
    def take(
        self,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        """Enqueue a client's event and start the loop if there is none.

        Never waits itself. Raises BadEvent and what enqueueing raises. `settled` is told later
        what became of the append; `must_wait` is called if the loop has to wait for a slot.
        """

    async def accept(self, conversation: ServerConversation, data: object) -> Accepted:
        """Append an event as `take` does, and wait until it is durable.

        Raises AppendUnknown past the deadline of appends: then the event may be in the log, or come
        into it, and whoever sends it again does so under its key.
        """
        appended: Promise[Appended] = Promise()
        waits: list[bool] = []
        self.take(conversation, data, appended.settle, partial(waits.append, True))  # noqa: FBT003
        seconds = conversation.stream.append_seconds
        try:
            async with asyncio.timeout(seconds):
                outcome = await appended
        except TimeoutError as error:
            raise AppendUnknown(f"no outcome within {seconds:g} s") from error
        return Accepted(outcome.id, outcome.duplicate, queued=bool(waits))

    @abstractmethod
    async def send_to_event_stream(self, connection_id: str, data: object) -> Accepted:
        """Call `accept` for a connection's conversation, or raise ConversationNotFound."""

    @abstractmethod
    async def send_event_to_conversation(self, sid: str, data: object) -> Accepted:
        """Call `accept` for a conversation open in this process, or raise ConversationNotFound.

        Meant for programs in this process: the caller has checked who asks.
        """

    @abstractmethod
    async def close_session(self, sid: str) -> bool:
        """Stop the conversation's loop; return whether there was one. Connections stay attached."""

    @abstractmethod
    async def delete_conversation(self, sid: str, user_id: str | None) -> bool:
        """Tell clients `stopped`, leave the tombstone, drop transports; False when unknown."""

    async def use_of(self, sid: str, user_id: str | None) -> InUse | None:  # noqa: ARG002
        """Return the use because of which `delete_unused` would leave a conversation; None if none.

        Raises ConversationDeleted, DamagedHead, StoreUnavailable. This default raises NotSupported.
        """
        raise NotSupported("This conversation manager cannot delete conversations by their age")

    async def delete_unused(
        self,
        sid: str,
        user_id: str | None,
        confirm: Callable[[], Coroutine[Any, Any, bool]],  # noqa: ARG002
    ) -> bool:
        """Delete a conversation as `delete_conversation` does, but only if nobody uses it.

        `confirm` is asked last, when nobody can open the conversation any more; it may refuse.
        Whoever comes meanwhile waits for the end. Return whether it was deleted. Raises as `use_of`,
        what `confirm` raises, and what the stores raise. This default raises NotSupported.
        """
        await self.use_of(sid, user_id)
        return False

    @abstractmethod
    async def is_agent_loop_running(self, sid: str) -> bool:
        """Return whether a loop is running or starting."""

    @abstractmethod
    async def get_running_agent_loops(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> set[str]:
        """Return the owner's conversations with a loop. An empty filter matches none, None all."""

    @abstractmethod
    async def get_connections(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> Mapping[str, str]:
        """Connection id -> conversation id, filtered likewise."""

    @abstractmethod
    async def get_agent_loop_info(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> list[AgentLoopInfo]:
        """Return the owner's loops that run, start or wait for a slot, filtered likewise."""

    async def every_agent_loop(self) -> list[AgentLoopInfo]:
        """Return the loops of all owners that run, start or wait; for administration only.

        This default, and those below, raise NotSupported.
        """
        raise NotSupported("This conversation manager cannot list the loops of all owners")

    async def drain(self, seconds: float) -> None:  # noqa: ARG002 - the contract's
        """Start no loop from now on, stop each when it rests, and all of them after `seconds`.

        Done when none is left. Messages are taken as before; their loops wait for `resume`.
        """
        raise NotSupported("This conversation manager cannot drain its agent loops")

    def resume(self) -> None:
        """Start loops again, first those that have waited."""
        raise NotSupported("This conversation manager cannot drain its agent loops")


Embed: TypeAlias = Callable[[ServerConfig], ConversationManager]


def register_embedding(embed: Embed) -> None:
    """Register how `ConversationManager.get_instance` finds a manager; the last call counts.

    The contract must not know the module that names its back-ends, so that one comes here.
    """
    _EmbeddingRegistration.embed = embed


class _EmbeddingRegistration:
    embed: ClassVar[Embed | None] = None
