"""The composition root: names every concrete class once and ties their lives together."""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import socketio
from starlette.applications import Starlette
from starlette.routing import Mount

from events.batch import ByteBudget
from events.checkpoints import Checkpoints
from events.page_reader import PageReader
from events.partials import Pace
from events.search.finder import Finder
from events.search.indexer import Indexer, OpenIndex
from events.search.opening import open_indexer
from events.stores.base import EventStore
from events.stores.opening import open_event_store, open_workspaces, storage_problems
from events.stream import EVENT_BYTES, StreamLimits
from events.usage import UsageLedger
from runtime_stub.tools import McpOptions
from server.access.auth import Authenticator
from server.access.client_address import Addresses
from server.access.connection_limits import ConnectionLimits
from server.access.rate_limits import RateLimits
from server.agent.contained import Deadlines, try_settings
from server.agent.states import LoopSettings
from server.agent.workspaces import Workspaces
from server.components import Components, instantiate, load_components, load_tracing
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.conversations.connections import ConnectionRegistry
from server.conversations.conversation import LoopDependencies
from server.conversations.drain import Drain
from server.conversations.embedded import EmbeddedConversationManager
from server.conversations.manager import (
    ConversationManager,
    ManagerDependencies,
    register_embedding,
)
from server.conversations.monitoring import Monitor, MonitoringListener
from server.conversations.retention import AgeLimits, Retention
from server.conversations.users import Users
from server.custom_stores import CustomConversationStores
from server.http.body_limits import ENVELOPE_BYTES
from server.http.middleware import exception_handlers, middleware
from server.observability.event_loop_watch import LoopWatch
from server.observability.metrics import Metrics, MetricSources
from server.observability.readiness import DRAINING, STOPPING, Prove, Readiness, nobody
from server.routes import routes
from server.routes.admin.table import AdminStores, administration
from server.routes.services import Services
from server.sockets.asyncapi import asyncapi_document
from server.sockets.direct.connection import unsupported
from server.sockets.direct.upgrade import Acceptor, no_upgrade, parse_upgrade
from server.sockets.frames import FrameReader
from server.sockets.handlers import HandlerDependencies, SocketHandlers
from server.sockets.library.polling import PollingRules
from server.sockets.library.server import SocketServer
from server.sockets.protocol import sent_body
from server.sockets.transport.stall_watch import Traffic
from server.turns.memory import AsideMemory
from storage.audit.base import AuditLog
from storage.config import StorageConfig
from storage.conversations.base import ConversationStore, ConversationStores
from storage.medium import Medium
from storage.opening import identity_of, open_storage
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.snapshot import WorkspaceLimits

if TYPE_CHECKING:
    from events.transfer.schedule import Backups
    from server.cluster.node import Node

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Application:
    """A composed server: its ASGI application and what its runner must do in order.

    `acceptor` admits connections, and serves websockets directly.
    """

    asgi: Starlette
    acceptor: Acceptor
    traffic: Traffic
    manager: ConversationManager
    handlers: SocketHandlers
    library: SocketServer
    connections: ConnectionRegistry
    watch: LoopWatch
    retention: Retention
    stopping: bool = False
    draining: bool = False

    def reasons(self) -> list[str]:
        """Return why the server is not ready; nothing when it is."""
        found = {STOPPING: self.stopping, DRAINING: self.draining}
        return [reason for reason, holds in found.items() if holds]

    def stop_intake(self) -> None:
        """Refuse new connections and events, and say so on /ready."""
        self.stopping = True
        self.handlers.stopping = self.handlers.ending = True

    def drain_intake(self, lasts: bool) -> None:  # noqa: FBT001 - the listener's signature
        """Refuse new connections while a drain lasts."""
        self.draining = lasts
        self.handlers.stopping = self.stopping or lasts


@asynccontextmanager
async def create_app(config: ServerConfig) -> AsyncIterator[Application]:
    """Open everything the server needs and close it in the opposite order.

    Raises ConfigError, DataDirectoryLocked, WrongKey and what opening a storage raises.
    """
    components = load_components(config)
    tracing = load_tracing(config.otel_endpoint)
    async with open_storage(config.storage) as storage, AsyncExitStack() as stack:
        event_store = await open_event_store(storage, stack)
        workspaces = _workspaces(config, partial(open_workspaces, storage, event_store))
        if tracing is not None:
            stack.push_async_callback(tracing.close)
            components = components.traced(tracing, event_store.counters)
        records = components.records(config, storage)
        users = components.users(config, storage.settings, storage.secrets)
        storage.inventory.check = partial(storage_problems, config.storage)

        @cache
        def backups() -> "Backups":
            from events.transfer.schedule import backups_of  # noqa: PLC0415 - few servers make any

            in_a_file = config.secret_key is None and config.storage_kind != "memory"
            return backups_of(
                storage,
                event_store,
                config.backup_dir or config.data_dir / "backups",
                every_seconds=config.backup_every,
                keep=config.backup_keep,
                key_folder=config.data_dir if in_a_file else None,
            )

        stores = AdminStores(storage.usage, storage.audit, storage.inventory, backups)
        if config.backup_every is not None:
            await stack.enter_async_context(backups())
        indexer = await search_indexer(
            config, components, storage.open_index, event_store, records, stack
        )
        opened = compose(
            config,
            *(records, event_store, users, stores, components),
            prove=storage.prove,
            medium=storage.medium,
            workspaces=workspaces,
            indexer=indexer,
            node=await enter_cluster(config, event_store, stack),
        )
        async with opened as application:
            yield application


@asynccontextmanager
async def compose(
    config: ServerConfig,
    conversation_stores: ConversationStores,
    event_store: EventStore,
    users: Users,
    stores: AdminStores,
    components: Components | None = None,
    prove: Prove | None = None,
    medium: Medium | None = None,
    workspaces: WorkspaceStore | None = None,
    indexer: Indexer | None = None,
    node: "Node | None" = None,
) -> AsyncIterator[Application]:
    """Yield a server over open stores, which stay open. Raises ConfigError.

    `prove` makes a small durable write after writes of the stores have failed; `medium` is the
    medium of the stores. Without `workspaces` those end with their loops. The `indexer`, which is
    begun and ended here, keeps the index of full-text search. `node` is the server's place in a cluster.
    """
    components = components or load_components(config)
    user_auth = instantiate("user_auth_class", components.user_auth)
    ledger = UsageLedger(event_store, stores.usage)
    parts = manager_parts(
        *(config, components, conversation_stores, event_store, users, workspaces, ledger, indexer)
    )
    server_counters = parts.loop_dependencies.server_counters
    frames = FrameReader(parts.page_reader, config.page_cache_bytes * 3 // 4, event_store.counters)
    async with (
        running_manager(components, parts, indexer, node) as manager,
        retention_of(config, parts, manager, stores.audit) as retention,
    ):
        authenticator = Authenticator(config, user_auth)
        rates = RateLimits(config, Addresses(config))
        pace = parts.stream_limits.pace
        watch = LoopWatch(config.slow_callback_seconds, *(() if pace is None else (pace.adapt,)))
        handlers = components.handlers(
            HandlerDependencies(
                manager=manager,
                connections=parts.connections,
                authenticator=authenticator,
                frames=frames,
                handshake_seconds=config.handshake_seconds,
                admit=users.admit,
            ),
            server_counters,
        )
        connection_limits = ConnectionLimits(config, rates)
        library = SocketServer(handlers, connection_limits)
        traffic = Traffic(config.stall_abort_seconds)
        reads = parse_upgrade if _is_direct(config) else no_upgrade
        acceptor = Acceptor(
            handlers, authenticator, traffic, connection_limits, server_counters, reads
        )
        application = Application(
            *(Starlette(), acceptor, traffic, manager, handlers, library, parts.connections, watch),
            retention,
        )
        services = Services(
            config=config,
            manager=manager,
            conversation_stores=conversation_stores,
            event_store=event_store,
            workspaces=workspaces,
            finder=None if indexer is None else Finder(indexer, event_store, conversation_stores),
            page_reader=parts.page_reader,
            connections=parts.connections,
            users=users,
            agent_model=users.model,
            agent_examples=components.examples(),
            try_settings=partial(try_settings, components.agent),
            not_ready=application.reasons,
            readiness=Readiness(
                config,
                *(application.reasons, event_store.counters, prove),
                medium=medium,
                others_answer=nobody if node is None else node.others_answer,
            ),
            metrics=Metrics(
                MetricSources(
                    event_store.counters,
                    server_counters,
                    parts.connections,
                    {"events": parts.page_reader.cache, "frames": frames.cache},
                    *(traffic, watch, connection_limits, rates),
                )
            ),
            rates=rates,
            started=time.monotonic(),
            socket_document=asyncapi_document,
            sent_body=sent_body,
        )
        plain = socketio.ASGIApp(library, socketio_path=None)
        sockets = PollingRules(plain, connection_limits, library.connections, handlers.check_joins)
        drain = Drain(manager, application.drain_intake)
        async with administration(config, stores, ledger, drain, retention, rates) as admin:
            application.asgi = Starlette(
                routes=[Mount("/socket.io", sockets), *routes(services, admin)],
                middleware=[
                    *components.middleware,
                    *middleware(config, authenticator, rates, server_counters),
                ],
                exception_handlers=exception_handlers(),
            )
            with watch:
                yield application


@asynccontextmanager
async def running_manager(
    components: Components,
    parts: ManagerDependencies,
    indexer: Indexer | None,
    node: "Node | None" = None,
) -> AsyncIterator[ConversationManager]:
    """Yield the manager, started with all that works beside it, and end them in order."""
    # The indexer hears of what the manager commits last.
    following = nullcontext() if indexer is None else indexer
    keeping = parts.loop_dependencies.workspaces
    async with following, parts.checkpoints, keeping, components.manage(parts, node) as manager:
        yield manager


async def enter_cluster(
    config: ServerConfig, event_store: EventStore, stack: AsyncExitStack
) -> "Node | None":
    """Return the server's place in its cluster, None without one; `stack` leaves it. Raise ConfigError."""
    if config.nodes == "one":
        return None
    from server.cluster.node import open_node  # noqa: PLC0415 - most servers are alone

    return await stack.enter_async_context(open_node(config, event_store))


def retention_of(
    config: ServerConfig, parts: ManagerDependencies, manager: ConversationManager, audit: AuditLog
) -> Retention:
    """Return the retention that deletes through the manager; it sweeps by itself once entered."""
    return Retention(
        *(AgeLimits.of(config), manager, parts.conversation_stores, parts.event_store, audit),
        parts.loop_dependencies.server_counters,
    )


def manager_parts(
    config: ServerConfig,
    components: Components,
    conversation_stores: ConversationStores,
    event_store: EventStore,
    users: Users,
    workspaces: WorkspaceStore | None = None,
    ledger: UsageLedger | None = None,
    indexer: Indexer | None = None,
) -> ManagerDependencies:
    """Return a conversation manager's dependencies over open stores. Raise ConfigError.

    The `ledger` counts what a conversation has used before it is deleted.
    """
    listener = instantiate("monitoring_listener_class", components.monitoring_listener)
    checkpoints = Checkpoints(
        event_store,
        config.partial_checkpoint_seconds,
        deadline_seconds=config.append_deadline_seconds,
    )
    return ManagerDependencies(
        event_store=event_store,
        page_reader=PageReader(
            event_store, page_size=config.page_size, cache_bytes=config.page_cache_bytes // 4
        ),
        conversation_stores=conversation_stores,
        connections=ConnectionRegistry(),
        loop_dependencies=LoopDependencies(
            components.agent,
            components.runtimes(config),
            deadlines=Deadlines(
                start=config.runtime_start_seconds,
                other=config.action_timeout_seconds,
                # A stop must have time for the rest.
                close=min(config.agent_close_seconds, config.shutdown_seconds / 4),
                stop=config.shutdown_seconds * 3 / 8,
            ),
            step=components.step,
            user=users.for_agent,
            agent_threads=config.agent_threads,
            monitor=Monitor(None if type(listener) is MonitoringListener else listener),
            memory=AsideMemory(event_store, config.append_deadline_seconds),
            workspaces=Workspaces(workspaces, close_seconds=config.shutdown_seconds / 8),
            approval_seconds=config.approval_seconds,
            changed=None if indexer is None else indexer.note,
            recover=checkpoints.recover,
            mcp=McpOptions(
                stdio=config.mcp_stdio,
                private_addresses=config.mcp_private_addresses,
                call_seconds=config.mcp_call_seconds,
            ),
        ),
        default_settings=LoopSettings(
            max_iterations=config.max_iterations,
            max_budget_per_task=config.max_budget_per_task,
            confirmation_mode=config.confirmation_mode,
            action_timeout_seconds=config.action_timeout_seconds,
            turn_seconds=config.turn_seconds,
            quiet_seconds=config.quiet_seconds,
            turn_tries=config.turn_tries,
            approval_patience=config.approval_patience,
        ),
        users=users,
        stream_limits=StreamLimits(
            event_bytes=max(EVENT_BYTES, 2 * config.max_message_bytes + ENVELOPE_BYTES),
            waiting_appends=config.max_waiting_appends,
            waiting_bytes=config.max_waiting_bytes,
            budget=ByteBudget(config.max_waiting_bytes_in_all),
            subscription_queue=config.subscription_queue,
            append_seconds=config.append_deadline_seconds,
            pace=Pace(config.delta_interval_seconds),
            on_partials=checkpoints.note,
        ),
        checkpoints=checkpoints,
        metadata_in_commit=event_store.folds_metadata
        and not isinstance(conversation_stores, CustomConversationStores),
        max_concurrent_conversations=config.max_concurrent_conversations,
        close_delay_seconds=config.close_delay_seconds,
        before_deletion=None if ledger is None else ledger.before_deletion,
        secrets=_secrets(config),
    )


async def search_indexer(
    config: ServerConfig,
    components: Components,
    open_index: OpenIndex | None,
    events: EventStore,
    records: ConversationStores,
    stack: AsyncExitStack,
) -> Indexer | None:
    """Return the indexer of full-text search, None where there is none; `stack` frees its directory.

    Without a directory for it the index is in the storage, if `open_index` opens one there. Records
    of a custom class cannot be listed for all owners, so there is no index of them. Raises
    DataDirectoryLocked, Unavailable.
    """
    if not config.full_text_search or components.conversation_store is not ConversationStore:
        return None
    if config.index_dir is not None:
        return await open_indexer(config.index_dir, events, records, stack)
    return None if open_index is None else Indexer(open_index, events, records)


def embedded(config: ServerConfig) -> ConversationManager:
    """Return the one manager over that storage for programs that are not servers. Raise ConfigError."""
    if config.nodes == "many":
        raise ConfigError("nodes: only servers can be many: leave it out in other programs")
    identity = identity_of(config.storage)
    if identity not in _embedded:
        _embedded[identity] = EmbeddedConversationManager(partial(_life_of_manager, config))
    return _embedded[identity]


@asynccontextmanager
async def pruning(config: ServerConfig) -> AsyncIterator[Retention]:
    """Open the retention over a storage as the server does, without a server.

    It does not sweep by itself. Raises what `create_app` raises, and ConfigError without a limit.
    """
    if not AgeLimits.of(config).any:
        raise ConfigError(
            "retention_days: no age limit is set: set it, or retention_days_by_user for some users"
        )
    components = load_components(config)
    async with open_storage(config.storage) as storage, AsyncExitStack() as stack:
        event_store = await open_event_store(storage, stack)
        records = components.records(config, storage)
        users = components.users(config, storage.settings, storage.secrets)
        workspaces = _workspaces(config, partial(open_workspaces, storage, event_store))
        indexer = await search_indexer(
            config, components, storage.open_index, event_store, records, stack
        )
        ledger = UsageLedger(event_store, storage.usage)
        parts = manager_parts(
            *(config, components, records, event_store, users, workspaces, ledger, indexer)
        )
        node = await enter_cluster(config, event_store, stack)
        async with running_manager(components, parts, indexer, node) as manager:
            yield retention_of(config, parts, manager, storage.audit)


async def _life_of_manager(config: ServerConfig) -> AsyncGenerator[ConversationManager]:
    # The one generator of it all: see storage.opening.StorageLease.
    components = load_components(config)
    async with open_storage(config.storage) as storage, AsyncExitStack() as stack:
        event_store = await open_event_store(storage, stack)
        records = components.records(config, storage)
        users = components.users(config, storage.settings, storage.secrets)
        workspaces = _workspaces(config, partial(open_workspaces, storage, event_store))
        ledger = UsageLedger(event_store, storage.usage)
        parts = manager_parts(config, components, records, event_store, users, workspaces, ledger)
        keeping = parts.loop_dependencies.workspaces
        async with parts.checkpoints, keeping, components.manage(parts) as manager:
            yield manager


_embedded: dict[StorageConfig, ConversationManager] = {}

register_embedding(embedded)


def _is_direct(config: ServerConfig) -> bool:
    reason = unsupported()
    if config.delivery == "direct" and reason is not None:
        logger.warning(
            "serving websockets through Engine.IO instead of delivery = direct: %s", reason
        )
    return config.delivery == "direct" and reason is None


def _workspaces(
    config: ServerConfig, open_store: Callable[[WorkspaceLimits], WorkspaceStore]
) -> WorkspaceStore | None:
    """Return the store of workspaces, None where none are to be kept."""
    if config.workspace_max_files == 0:
        return None
    return open_store(WorkspaceLimits(config.workspace_max_bytes, config.workspace_max_files))


def _secrets(config: ServerConfig) -> dict[str, str]:
    keys = {"SESSION_API_KEY": config.session_api_key, "ADMIN_KEY": config.admin_key}
    return {name: key.get_secret_value() for name, key in keys.items() if key is not None}
