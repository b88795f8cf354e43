"""The composition root: names every concrete class once and ties their lives together."""

import importlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import socketio
from starlette.applications import Starlette
from starlette.routing import Mount

from events.page_reader import PageReader
from events.stores.base import EventStore
from events.stores.database import DatabaseEventStore
from events.stores.memory import MemoryEventStore
from events.stream import StreamLimits
from runtime_stub.agent import Agent
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntimeBuilder
from server.auth import Authenticator
from server.config import ServerConfig
from server.connections import ConnectionRegistry
from server.conversation import LoopParts
from server.loop_settings import LoopSettings
from server.managers.base import ConversationManager
from server.managers.standalone import ManagerParts, StandaloneConversationManager
from server.middleware import exception_handlers, middleware
from server.prerequisites import missing
from server.routes import routes
from server.routes.services import Services
from server.sockets.direct import unsupported
from server.sockets.handlers import SocketHandlers, SocketParts
from server.sockets.library import SocketServer
from server.sockets.upgrade import Entrance
from server.sockets.wire import FrameReader
from server.sources import ConfigError
from storage.conversations.base import ConversationStores
from storage.opening import OpenedStorage, open_storage

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Application:
    """A composed server: its ASGI application and what its runner must do in order.

    `entrance` takes the websockets that go the short way; None where none does.
    """

    asgi: Starlette
    entrance: Entrance | None
    manager: ConversationManager
    handlers: SocketHandlers
    library: SocketServer
    connections: ConnectionRegistry
    stopping: bool = False

    def reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        return ["stopping"] if self.stopping else []

    def stop_intake(self) -> None:
        """Refuse new connections and say so on /ready."""
        self.stopping = True
        self.handlers.stopping = True


@asynccontextmanager
async def create_app(config: ServerConfig) -> AsyncIterator[Application]:
    """Open everything the server needs and close it in the opposite order.

    Raises ConfigError, DataDirectoryLocked and what opening a storage raises.
    """
    async with open_storage(config.storage) as storage:
        event_store = await _event_store(storage)
        async with compose(config, storage.conversations, event_store) as application:
            yield application


@asynccontextmanager
async def compose(
    config: ServerConfig, conversation_stores: ConversationStores, event_store: EventStore
) -> AsyncIterator[Application]:
    """A server over stores that are open; they stay open. Raises ConfigError."""
    make_agent = agent_factory(config)
    model = make_agent().model
    reader = PageReader(
        event_store, page_size=config.page_size, cache_bytes=config.page_cache_bytes // 4
    )
    connections = ConnectionRegistry()
    settings = LoopSettings(
        max_iterations=config.max_iterations,
        max_budget_per_task=config.max_budget_per_task,
        confirmation_mode=config.confirmation_mode,
        action_timeout_seconds=config.action_timeout_seconds,
    )
    parts = ManagerParts(
        event_store=event_store,
        page_reader=reader,
        conversation_stores=conversation_stores,
        connections=connections,
        loop_parts=LoopParts(make_agent, StubRuntimeBuilder()),
        default_settings=settings,
        stream_limits=StreamLimits(
            waiting_appends=config.max_waiting_appends,
            subscription_queue=config.subscription_queue,
            append_seconds=config.append_deadline_seconds,
        ),
        metadata_in_commit=event_store.folds_metadata,
        max_concurrent_conversations=config.max_concurrent_conversations,
        close_delay_seconds=config.close_delay_seconds,
        secrets=_secrets(config),
    )
    async with StandaloneConversationManager(parts) as manager:
        authenticator = Authenticator(config)
        handlers = SocketHandlers(
            SocketParts(
                manager=manager,
                connections=connections,
                authenticator=authenticator,
                frames=FrameReader(reader, config.page_cache_bytes * 3 // 4),
                settings=settings,
                handshake_seconds=config.handshake_seconds,
                refusal=missing(require_settings=config.require_settings, model=model),
            )
        )
        library = SocketServer(handlers, authenticator)
        entrance = Entrance(handlers, authenticator) if _is_direct(config) else None
        application = Application(Starlette(), entrance, manager, handlers, library, connections)
        services = Services(
            config=config,
            manager=manager,
            conversation_stores=conversation_stores,
            event_store=event_store,
            page_reader=reader,
            connections=connections,
            default_settings=settings,
            agent_model=model,
            is_ready=application.reasons,
            started_at=datetime.now(UTC),
        )
        sockets = socketio.ASGIApp(library, socketio_path=None)
        application.asgi = Starlette(
            routes=[Mount("/socket.io", sockets), *routes(services)],
            middleware=middleware(config),
            exception_handlers=exception_handlers(),
        )
        yield application


def agent_factory(config: ServerConfig) -> Callable[[], Agent]:
    """How agents are made: the scripted one, or `agent_class` by its dotted name.

    Raises ConfigError when the name leads to no Agent.
    """
    if config.agent_class is None:
        return ScriptedAgent
    module_name, _, class_name = config.agent_class.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"agent_class: cannot import {config.agent_class}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise ConfigError(f"agent_class: {config.agent_class} is not an Agent")
    return found


async def _event_store(storage: OpenedStorage) -> EventStore:
    if storage.database is None:
        return MemoryEventStore(storage.fold)
    store = DatabaseEventStore(storage.database)
    await store.place_arrivals()
    finished = await store.finish_deletions()
    if finished:
        logger.info("finished %d deletion(s) that were cut short", finished)
    return store


def _is_direct(config: ServerConfig) -> bool:
    reason = unsupported()
    if config.delivery == "direct" and reason is not None:
        logger.warning("websockets are served the plain way: %s", reason)
    return config.delivery == "direct" and reason is None


def _secrets(config: ServerConfig) -> dict[str, str]:
    key = config.session_api_key
    return {} if key is None else {"SESSION_API_KEY": key.get_secret_value()}
