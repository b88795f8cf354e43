"""The classes of a server: the built-in ones, or those that settings name."""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

from starlette.middleware import Middleware

from runtime_stub.agent import Agent, Example
from runtime_stub.base import RuntimeBuilder
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntimeBuilder
from runtime_stub.turn import AgentSettings, ModelOptions
from server.access.auth import AnyUser, UserAuth
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.conversations.conversation import Step, plain_step
from server.conversations.manager import ConversationManager, ManagerDependencies
from server.conversations.monitoring import MonitoringListener
from server.conversations.standalone import StandaloneConversationManager
from server.conversations.users import Users
from server.custom_stores import CustomConversationStores, CustomSecretsStores, CustomSettingsStores
from server.observability.counters import ServerCounters
from server.sockets.handlers import CountedHandlers, HandlerDependencies, SocketHandlers
from server.tracing import TracedHandlers, TracedRequests, Tracing, traced_manager, traced_step
from server.user_code import reason_of
from storage.backends.base import OpenedStorage
from storage.conversations.base import ConversationStore, ConversationStores
from storage.counters import Counters
from storage.users.base import SecretsStore, SecretsStores, SettingsStore, SettingsStores

if TYPE_CHECKING:
    from server.cluster.node import Node

logger = logging.getLogger(__name__)

TRACING_EXTRA = "otel"
MODEL_EXTRA = "llm"
MODEL_ROOM = "runtime_stub.llm"
T = TypeVar("T")


def load_class(setting: str, name: str | None, contract: type[T], default: type[T]) -> type[T]:
    """Return the class that `setting` names, a concrete subclass of `contract`.

    A `name` of None returns `default`. Raises ConfigError, with a message of one line, when the
    module cannot be imported or has no such class, or when the class does not fit the contract.
    """
    if name is None:
        return default
    module_name, _, class_name = name.rpartition(":" if ":" in name else ".")
    try:
        found = getattr(import_module(module_name), class_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = reason_of(error)
        if isinstance(error, ImportError) and module_name == MODEL_ROOM:
            raise ConfigError(
                f"{setting}: the agent `llm` needs the extra `{MODEL_EXTRA}`: "
                f"pip install 'parley-server[{MODEL_EXTRA}]' ({why})"
            ) from error
        raise ConfigError(f"{setting}: cannot import {name}: {why}") from error
    if not (isinstance(found, type) and issubclass(found, contract)):
        raise ConfigError(f"{setting}: {name} is not a subclass of {_name_of(contract)}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise ConfigError(
            f"{setting}: {name} does not implement these methods of {_name_of(contract)}: {missing}"
        )
    return found


def instantiate(setting: str, make: Callable[[], T]) -> T:
    """Call a class at start and return the object. Raise ConfigError with a message of one line."""
    try:
        return make()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = reason_of(error)
        raise ConfigError(f"{setting}: the class cannot be used: {why}") from error


def _name_of(contract: type) -> str:
    return f"{contract.__module__}.{contract.__name__}"


@dataclass(frozen=True, slots=True)
class Components:
    """One class per contract; an abstract store class selects the storage's own store."""

    agent: type[Agent]
    runtime_builder: type[RuntimeBuilder]
    conversation_store: type[ConversationStore]
    settings_store: type[SettingsStore]
    secrets_store: type[SecretsStore]
    conversation_manager: type[ConversationManager]
    monitoring_listener: type[MonitoringListener]
    user_auth: type[UserAuth]
    handlers: Callable[[HandlerDependencies, ServerCounters], SocketHandlers] = CountedHandlers
    step: Step = plain_step
    middleware: tuple[Middleware, ...] = ()
    """Middleware outside every other."""

    def records(self, config: ServerConfig, storage: OpenedStorage) -> ConversationStores:
        """Return the conversation records: those of the storage unless a custom class is set."""
        if self.conversation_store is ConversationStore:
            return storage.conversations
        seconds = config.append_deadline_seconds
        return CustomConversationStores(self.conversation_store, config, seconds)

    def settings(self, config: ServerConfig, kept: SettingsStores) -> SettingsStores:
        """Return the users' settings stores: `kept` unless a custom class is set."""
        if self.settings_store is SettingsStore:
            return kept
        return CustomSettingsStores(self.settings_store, config, config.append_deadline_seconds)

    def secrets(self, config: ServerConfig, kept: SecretsStores) -> SecretsStores:
        """Return the users' secrets stores: `kept` unless a custom class is set."""
        if self.secrets_store is SecretsStore:
            return kept
        return CustomSecretsStores(self.secrets_store, config, config.append_deadline_seconds)

    def users(
        self, config: ServerConfig, settings: SettingsStores, secrets: SecretsStores
    ) -> Users:
        """Return the users' records with the settings the server requires. Raise ConfigError."""
        return Users(
            self.settings(config, settings),
            self.secrets(config, secrets),
            require_settings=config.require_settings,
            model=instantiate("agent_class", self.agent).model,
            model_defaults=model_defaults(config),
        )

    def examples(self) -> Sequence[Example]:
        """Return the agent's example messages. Raise ConfigError."""
        return instantiate("agent_class", partial(_examples_of, self.agent))

    def traced(self, tracing: Tracing, counters: Counters) -> "Components":
        """Return the same components with tracing added."""
        return replace(
            self,
            conversation_manager=traced_manager(self.conversation_manager, tracing, counters),
            handlers=partial(TracedHandlers, tracing),
            step=traced_step(tracing),
            middleware=(Middleware(TracedRequests, tracing),),
        )

    def runtimes(self, config: ServerConfig) -> RuntimeBuilder:
        """Return the builder of runtimes. Raise ConfigError."""
        if config.runtime_kind == "memory":
            return instantiate("runtime_class", self.runtime_builder)
        return _local_runtimes(config)

    def manage(self, parts: ManagerDependencies, node: "Node | None" = None) -> ConversationManager:
        """Return the manager, not yet started; with `node` it is of a cluster. Raise ConfigError."""
        if node is not None:
            make: Any = self.conversation_manager
            manager = make(parts, node.claims, node.bell, node.following)
            node.listen(manager)
            node.serve(parts.users)
            return cast("ConversationManager", manager)
        return instantiate("conversation_manager_class", partial(self.conversation_manager, parts))


def load_components(config: ServerConfig) -> Components:
    """Find every class by its setting. Raises ConfigError for the first that cannot be used.

    A further setting is a line in `server/config/settings.py`, a field of `Components` and a line here.
    """

    def find(setting: str, contract: type[T], default: type[T] | None = None) -> type[T]:
        return load_class(setting, getattr(config, setting), contract, default or contract)

    manager: type[ConversationManager] = StandaloneConversationManager
    if config.nodes == "many":
        from server.conversations.clustered import ClusteredConversationManager  # noqa: PLC0415

        manager = ClusteredConversationManager

    return Components(
        agent=find("agent_class", Agent, ScriptedAgent),
        runtime_builder=find("runtime_class", RuntimeBuilder, StubRuntimeBuilder),
        conversation_store=find("conversation_store_class", ConversationStore),
        settings_store=find("settings_store_class", SettingsStore),
        secrets_store=find("secrets_store_class", SecretsStore),
        conversation_manager=find("conversation_manager_class", ConversationManager, manager),
        monitoring_listener=find("monitoring_listener_class", MonitoringListener),
        user_auth=find("user_auth_class", UserAuth, AnyUser),
    )


def model_defaults(config: ServerConfig) -> AgentSettings:
    """Return what agents are told of models for users who have chosen nothing."""
    return AgentSettings(
        llm_model=config.llm_model,
        llm_base_url=config.llm_base_url,
        llm_api_key=config.llm_api_key,
        model_options=ModelOptions(
            instructions=config.llm_instructions,
            vision=config.llm_vision,
            show_reasoning=config.llm_show_reasoning,
            context_tokens=config.llm_context_tokens,
            reserve_tokens=config.llm_reserve_tokens,
            first_token_seconds=config.llm_first_token_seconds,
            token_seconds=config.llm_token_seconds,
            tries=config.llm_tries,
        ),
    )


def _examples_of(agent: type[Agent]) -> Sequence[Example]:
    found = tuple(agent.examples)
    if not all(isinstance(one, Example) for one in found):
        raise TypeError("`examples` must hold only instances of runtime_stub.Example")
    return found


def _local_runtimes(config: ServerConfig) -> RuntimeBuilder:
    """Return the builder of runtimes on this machine, and log what that means. Raise ConfigError."""
    from runtime_stub.local.options import Limits, LocalOptions  # noqa: PLC0415 - few servers need it
    from runtime_stub.local.runtime import LocalRuntimeBuilder  # noqa: PLC0415

    first, last = map(int, config.local_uids.split("-"))
    limits = {name: getattr(config, f"local_{name}") for name in Limits._fields}
    options = LocalOptions(
        directory=config.local_dir,
        uids=range(first, last + 1),
        inherited=tuple(config.local_environment),
        limits=Limits(**limits),
    )
    try:
        builder = LocalRuntimeBuilder(options)
    except RuntimeUnavailable as error:
        raise ConfigError(f"runtime: {error}") from error
    logger.warning("%s", builder.warning())
    return builder


def load_tracing(endpoint: str | None) -> Tracing | None:
    """Return the trace exporter for an endpoint, if any. Raise ConfigError without the extra."""
    if endpoint is None:
        return None
    try:
        module = import_module("server.otel")
    except ImportError as error:
        raise ConfigError(
            f"otel_endpoint: tracing needs the extra `{TRACING_EXTRA}`: "
            f"pip install 'parley-server[{TRACING_EXTRA}]' ({error})"
        ) from error
    return cast("Tracing", module.OtelTracing(endpoint))
