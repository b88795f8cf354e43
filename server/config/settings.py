"""Settings: the only reader of the environment and of parley.toml."""

import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import limits
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from server.config.sources import (
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    ConfigError,
    ExistingDirectory,
    Layer,
    public_name,
    read_environment,
    read_overrides,
    read_toml,
)
from server.origins import given_host, given_origin
from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _check_network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError("an address (127.0.0.1) or a network (10.0.0.0/8) is needed") from error
    return value


def _check_rate(value: str) -> str:
    try:
        limits.parse(value)
    except ValueError as error:
        raise ValueError("a rate is written 600/minute or 20/5 seconds") from error
    return value


Names = Annotated[
    list[Annotated[str, AfterValidator(given_host)]], NoDecode, BeforeValidator(_split)
]
Networks = Annotated[
    list[Annotated[str, AfterValidator(_check_network)]], NoDecode, BeforeValidator(_split)
]
Rate = Annotated[str, AfterValidator(_check_rate)]


class Bounds(BaseModel):
    """Limits per address, user and connection, and for all together."""

    permitted_hosts: Names = Field(
        default_factory=list,
        description="Names under which the server is reached (`chat.example.org`), as a list or "
        "separated by commas, besides its own. Empty: any if there is a `session_api_key`, else none.",
    )
    https: bool = Field(
        default=False,
        description="Clients reach the server by https only, through a proxy that ends TLS: its own "
        "origin is https, and browsers are told to keep to it (HSTS).",
    )
    trusted_proxies: Networks = Field(
        default_factory=list,
        description="Addresses or networks of proxies whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed, as a list or separated by commas.",
    )
    unlimited_addresses: Networks = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="Addresses or networks to which rates and counts per address do not apply, as a "
        "list or separated by commas.",
    )
    rate_reads: Rate = Field(
        default="6000/minute", description="Requests of a user or an address that change nothing."
    )
    rate_writes: Rate = Field(
        default="3000/minute", description="Requests of a user or an address that change something."
    )
    rate_creations: Rate = Field(
        default="300/minute", description="Conversations a user or an address may create."
    )
    rate_uploads: Rate = Field(default="120/minute", description="Uploads of a user or an address.")
    rate_handshakes: Rate = Field(
        default="600/minute", description="Socket connections an address may open."
    )
    rate_polls: Rate = Field(
        default="12000/minute", description="Requests of an address for sockets that poll."
    )
    rate_failures: Rate = Field(
        default="60/minute",
        description="Wrong keys and foreign origins of an address; beyond it, it is not served.",
    )
    rate_violations: Rate = Field(
        default="20/minute",
        description="Breaches of the protocol by an address; beyond it, its connections are cut for "
        "10 seconds.",
    )
    actions_per_second: FiniteFloat = Field(
        default=50,
        gt=0,
        description="Events the sockets of an address may send a second, over time.",
    )
    action_burst: int = Field(
        default=50, ge=1, description="Events the sockets of an address may send at once."
    )
    max_connections: int = Field(
        default=10_000, ge=1, description="Connections that may be open, of all clients."
    )
    max_connections_per_address: int = Field(
        default=500, ge=1, description="Connections that may be open from one address."
    )
    max_handshakes: int = Field(
        default=2048,
        ge=8,
        description="Connections that may be open and have not joined a conversation or asked for "
        "anything yet; then the oldest gives way. One address may have an eighth.",
    )


_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[:.][^\W\d]\w*")


def _check_class_name(value: str) -> str:
    if _CLASS_NAME.fullmatch(value) is None:
        raise ValueError("a class is written package.module:Class")
    return value


ClassName = Annotated[str, AfterValidator(_check_class_name)]
"""`package.module:Class`; a dot before the class is taken as well."""


class Extensions(BaseModel):
    """One setting per contract that a custom class may fill; None leaves the built-in one."""

    agent_class: ClassName | None = Field(
        default=None,
        description="An own agent class as `package.module:Class`, used in place of the built-in.",
    )
    runtime_class: ClassName | None = Field(
        default=None,
        description="An own class that builds runtimes, a `RuntimeBuilder`, as `package.module:Class`.",
    )
    conversation_store_class: ClassName | None = Field(
        default=None,
        description="An own class of conversation records, a `ConversationStore`, as `package.module:Class`; "
        "events stay where `storage` keeps them.",
    )
    settings_store_class: ClassName | None = Field(
        default=None,
        description="An own class of users' settings, a `SettingsStore`, as `package.module:Class`.",
    )
    secrets_store_class: ClassName | None = Field(
        default=None,
        description="An own class of users' secrets, a `SecretsStore`, as `package.module:Class`; it seals "
        "them itself.",
    )
    conversation_manager_class: ClassName | None = Field(
        default=None,
        description="An own `ConversationManager` as `package.module:Class`; it is made with the parts that "
        "the built-in one is made with.",
    )
    monitoring_listener_class: ClassName | None = Field(
        default=None,
        description="An own `MonitoringListener` as `package.module:Class`, told of sessions, events and loops.",
    )
    user_auth_class: ClassName | None = Field(
        default=None,
        description="An own `UserAuth` as `package.module:Class`, which tells users apart by what they send.",
    )


SHORTEST_SLOW_SECONDS = 0.2
"""Twice the time between two beats."""

_ENDPOINT = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/[!-?A-~]*")


class Observability(BaseModel):
    """Nothing of this costs anything for each event."""

    metrics: Literal["guarded", "open", "off"] = Field(
        default="guarded",
        description="Who may read `/metrics`. `guarded`: who shows the session key or `metrics_key`, and, where "
        "neither is set, who asks a loopback address directly; `open`: everybody; `off`: nobody.",
    )
    metrics_key: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        default=None,
        description="A key that opens `/metrics` and nothing else, sent as `Authorization: Bearer KEY`.",
    )
    access_log: bool = Field(
        default=True,
        description="Log a line for each request: method, route, status, milliseconds. Probes, "
        "the sockets' polling and the files of pages are logged at `debug` only.",
    )
    slow_callback_seconds: FiniteFloat = Field(
        default=0.5,
        ge=0,
        description="Seconds after which whatever holds up the event loop is logged, with the stack it was "
        "found in; at least 0.2, or 0 to not look.",
    )
    min_free_disk_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Free bytes of the data directory's disk below which `/ready` says that it is nearly full.",
    )
    otel_endpoint: str | None = Field(
        default=None,
        description="Where traces are sent by OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; "
        "needs the extra `otel`. Unset makes none.",
    )

    @field_validator("slow_callback_seconds")
    @classmethod
    def _check_seconds(cls, value: float) -> float:
        if 0 < value < SHORTEST_SLOW_SECONDS:
            raise ValueError(f"at least {SHORTEST_SLOW_SECONDS}, or 0")
        return value

    @field_validator("otel_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _ENDPOINT.fullmatch(value):
            raise ValueError("an endpoint is written http://host:port/v1/traces, without a key")
        return value


class Administrable(BaseModel):
    """Settings that say where they come from."""

    admin_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="The key of `/api/admin`. Unset, only this machine, without a proxy, may use it.",
    )
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def place_of(self, field: str) -> str:
        """Return a description of where a setting was found; "default" if nowhere."""
        return self._places.get(field, "default")


DEFAULT_TOML = Path("parley.toml")


class ServerConfig(Bounds, Extensions, Observability, Administrable, BaseSettings):
    """All settings of a server, checked and immutable.

    `ServerConfig(...)` takes plain arguments and defaults and reads nothing else; `load` reads the
    sources. Both raise ConfigError. Relative paths are relative to the working directory.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Any but a loopback address demands `session_api_key`, "
        "or `insecure`.",
    )
    port: int = Field(
        default=3000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    data_dir: Path = Field(
        default=Path("parley-data"),
        description="Directory that holds everything the server keeps; one process at a time.",
    )
    storage_kind: Literal["sqlite", "local", "memory"] = Field(
        default="sqlite",
        description="Where conversations are kept: a SQLite database in `data_dir`, plain files "
        "there, or memory, which forgets everything at the end.",
    )
    ui_dir: ExistingDirectory | None = Field(
        default=None,
        description="Directory of a static single-page build, served at `/` in place of the "
        "built-in page.",
    )
    serve_frontend: bool = Field(default=True, description="Serve a page at `/` at all.")

    session_api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        default=None,
        description="The key every request and every connection must show. Without one the server "
        "trusts whoever reaches it.",
    )
    secret_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="What stored secrets are sealed with; a long random text. Unset, a key is made "
        "at first need and kept in `secret.key` in `data_dir`.",
    )
    insecure: bool = Field(
        default=False,
        description="Listen on an address other machines can reach although there is no key.",
    )
    permitted_cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins (`https://example.org`) whose pages may use the server, as a list or "
        "separated by commas, besides its own.",
    )
    allow_set_conversation_id: bool = Field(
        default=False, description="Let the creator of a conversation choose its id."
    )
    require_settings: bool = Field(
        default=False,
        description="Refuse a conversation to a user who has stored no settings yet.",
    )

    max_concurrent_conversations: int = Field(
        default=3, ge=1, description="Agent loops that run at one time for one user."
    )
    conversation_max_age_seconds: int | None = Field(
        default=None,
        ge=1,
        description="Age after which a conversation is left out of lists; unset keeps all.",
    )
    close_delay_seconds: FiniteFloat = Field(
        default=3600,
        ge=0,
        description="Seconds after which an idle agent loop that nobody watches is closed; 0 "
        "never closes it.",
    )
    max_iterations: int = Field(
        default=500, ge=1, description="Steps an agent may take before it must ask to go on."
    )
    max_budget_per_task: FiniteFloat | None = Field(
        default=None,
        gt=0,
        description="US dollars an agent may spend before it must ask to go on; unset is no limit.",
    )
    confirmation_mode: bool = Field(
        default=False, description="Ask the user before the agent acts on its workspace."
    )
    default_agent: str = Field(
        default="scripted", min_length=1, description="Name of the agent of a new conversation."
    )
    action_timeout_seconds: FiniteFloat = Field(
        default=120,
        gt=0,
        description="Seconds the runtime may take to carry out one action, or to answer for a file.",
    )
    runtime_start_seconds: FiniteFloat = Field(
        default=60,
        gt=0,
        description="Seconds the runtime may take to be built, and again to connect.",
    )
    agent_close_seconds: FiniteFloat = Field(
        default=2,
        gt=0,
        description="Seconds an agent and its runtime may take to be closed, at most a quarter of "
        "`shutdown_seconds`; they are left behind then.",
    )

    append_deadline_seconds: FiniteFloat = Field(
        default=10, gt=0, description="Seconds one durable write may take until it counts as lost."
    )
    shutdown_seconds: FiniteFloat = Field(
        default=8,
        gt=0,
        description="Seconds an orderly stop may take; one second later the process is ended.",
    )
    handshake_seconds: FiniteFloat = Field(
        default=10,
        gt=0,
        description="Seconds a client may take to send a request's head or to ask to join, the "
        "server to let it in, and any part of a body to come.",
    )
    delivery: Literal["direct", "engine"] = Field(
        default="direct",
        description="How websockets are served: past Engine.IO's queue, or through it.",
    )
    stall_abort_seconds: FiniteFloat = Field(
        default=10,
        gt=0,
        description="Seconds a connection may take nothing at all off its buffer until it is cut.",
    )
    page_size: int = Field(default=100, ge=1, le=10_000, description="Events of one cached page.")
    page_cache_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, description="Bytes all cached pages may take together."
    )
    max_message_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        description="Bytes of the longest message taken in.",
    )
    max_recording_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Bytes of the longest recording (`replay_json`) that a conversation may begin "
        "with.",
    )
    max_waiting_appends: int = Field(
        default=10_000, ge=1, description="Appends of one conversation that may wait for the store."
    )
    max_waiting_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes of events of one conversation that may wait for the store.",
    )
    max_waiting_bytes_in_all: int = Field(
        default=128 * 1024 * 1024,
        ge=16 * 1024 * 1024,
        description="Bytes of events of all conversations that may wait for the store, beyond the "
        "first 64 KiB of each.",
    )
    subscription_queue: int = Field(
        default=1024,
        ge=1,
        description="Events one subscriber may lag behind until it is read from the log instead.",
    )

    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="Least severity that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or text for people."
    )

    @classmethod
    def load(
        cls,
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        toml_path: Path | None = None,
    ) -> Self:
        """Read all sources: overrides > `environ` > the toml file > defaults.

        `overrides` maps field names to values, None meaning not given. `environ` is the process's
        own by default. The file is `toml_path`, else the one named by PARLEY_CONFIG, else
        ./parley.toml if there is one. Raises ConfigError.
        """
        variables = os.environ if environ is None else environ
        path = toml_path
        if path is None and variables.get(CONFIG_VARIABLE):
            path = Path(variables[CONFIG_VARIABLE])
        if path is None and DEFAULT_TOML.exists():
            path = DEFAULT_TOML
        layer = Layer() if path is None else read_toml(cls, path)
        layer = layer.under(read_environment(cls, variables))
        layer = layer.under(read_overrides(overrides or {}))
        try:
            config = cls(**layer.values)
        except ConfigError as error:
            raise ConfigError(layer.sentence(error.problems), problems=error.problems) from None
        config._places = dict(layer.places)
        return config

    @property
    def storage(self) -> StorageConfig:
        """The configuration `storage.opening` opens the store with."""
        if self.storage_kind == "memory":
            return MemoryStorage()
        if self.storage_kind == "local":
            return LocalStorage(data_dir=self.data_dir, secret_key=self.secret_key)
        return SqliteStorage(data_dir=self.data_dir, secret_key=self.secret_key)

    @property
    def keyless(self) -> bool:
        """Whether the server trusts whoever reaches it."""
        return self.session_api_key is None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return _is_loopback(self.host)

    def masked(self) -> dict[str, Any]:
        """Every setting under its public name as JSON values, secrets as asterisks."""
        dumped = self.model_dump(mode="json")
        return {public_name(field): value for field, value in dumped.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Plain arguments only; `load` is explicit about the rest."""
        return (init_settings,)

    @field_validator("permitted_cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("permitted_cors_origins")
    @classmethod
    def _check_origins(cls, value: list[str]) -> list[str]:
        return [given_origin(origin) for origin in value if origin.strip()]

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = handler(data)
        except ValidationError as error:
            problems = list(_problems(error))
            raise ConfigError(Layer().sentence(problems), problems=problems) from None
        if config.keyless and not config.insecure and not config.local:
            reason = (
                f"{config.host} can be reached from other machines: set session_api_key "
                "(SESSION_API_KEY), or insecure (--insecure) to serve everyone without a key"
            )
            raise ConfigError(f"host: {reason}", problems=[("host", reason)])
        return config


def _problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        name, *inner = (str(part) for part in detail["loc"])
        unknown = detail["type"] == "extra_forbidden"
        text = "unknown setting" if unknown else detail["msg"].removeprefix("Value error, ")
        yield name, ": ".join([*inner, text])


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
