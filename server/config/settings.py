"""Settings: the only reader of the environment and of parley.toml."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

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

from server.config.origins import checked_origin, is_loopback, normal_host
from server.config.sources import (
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    PLAIN_VARIABLES,
    ConfigError,
    ExistingDirectory,
    Layer,
    public_name,
    read_environment,
    read_overrides,
    read_toml,
)
from storage.config import (
    CloudStorage,
    LocalStorage,
    MemoryStorage,
    PostgresStorage,
    SqliteStorage,
    StorageConfig,
)
from storage.database.postgres_url import check_hosts


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _check_network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError("not an address (127.0.0.1) or a network (10.0.0.0/8)") from error
    return value


def _check_rate(value: str) -> str:
    try:
        found = limits.parse_many(value)
    except ValueError as error:
        raise ValueError("not a rate such as 600/minute or 20/5 seconds") from error
    if len(found) > 1:
        raise ValueError("must be one rate")
    return value


_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.%-]*)(?::\d+)?"
_AUTHORITY = re.compile(rf"(?:[^:@]*(?::[^:@]*)?@)?{_HOST}(?:,{_HOST})*", re.ASCII)


CLOUD_URL = r"^(s3|gs|az)://[^\s?#@/]+(/[^\s?#@]*)?$"
"""The URL of a bucket; credentials belong in its options."""


def _check_options(value: SecretStr) -> SecretStr:
    try:
        found = json.loads(value.get_secret_value())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(one, str | bool) for one in found.values()
    ):
        raise ValueError("no JSON object of texts")
    return value


def _check_database_url(value: SecretStr) -> SecretStr:
    """Refuse what the driver may read in another way than it is meant: its words would quote parts."""
    try:
        parts = urlsplit(value.get_secret_value())
        named = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        raise ValueError(NO_DATABASE_URL) from None
    sound = parts.scheme in {"postgresql", "postgres"} and _AUTHORITY.fullmatch(parts.netloc)
    if not sound or "@" in parts.path or parts.fragment or any("@" in name for name, _ in named):
        raise ValueError(NO_DATABASE_URL)
    check_hosts(value.get_secret_value())
    return value


def _check_redis_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        is_socket = parts.scheme == "unix" and parts.path
        sound = is_socket or (
            parts.scheme in {"redis", "rediss"} and parts.hostname and parts.port != 0
        )
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("not an address such as redis://user:password@host:6379/0")
    return value


def _at_most(largest: int) -> AfterValidator:
    def check(value: float) -> float:
        if value > largest:
            raise ValueError(f"must be at most {largest}")
        return value

    return AfterValidator(check)


NO_DATABASE_URL = (
    "not an address such as postgresql://user:password@host:5432/name; reserved characters in the"
    " password are written with a percent sign"
)
LASTING_KEY = (
    "PARLEY_SECRET_KEY, a long random text that stays the same: there is no data directory for a"
    " key"
)
NEEDED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "postgres": {
            "database_url": "the address of a database: set PARLEY_DATABASE_URL to"
            " postgresql://user:password@host:5432/name, or run scripts/postgres, which starts one"
            " for trying it out and prints its address",
            "secret_key": LASTING_KEY,
        },
        "cloud": {
            "cloud_url": "a bucket: set PARLEY_CLOUD_URL to s3://bucket/folder",
            "secret_key": LASTING_KEY,
        },
    }
)
"""The settings that kinds of storage cannot do without, and the words that ask for them."""
LONGEST_SECONDS = 100 * 365 * 24 * 60 * 60
"""A hundred years. The system's timers end at 292 years, and the calendar begins with the year 1."""
LARGEST = 2**53 - 1
"""The largest whole number that every reader of JSON can count to."""

Seconds = Annotated[FiniteFloat, _at_most(LONGEST_SECONDS)]
Count = Annotated[int, _at_most(LARGEST)]

LONGEST_DAYS = 36_500
FOREVER: Literal["forever"] = "forever"
"""The limit of users whose conversations are kept."""


def _check_days(value: object) -> object:
    """Refuse what is not plainly a number of days: it decides what is deleted."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_DAYS:
        raise ValueError(f"must be a whole number of days from 1 to {LONGEST_DAYS}")
    return value


def _check_user_days(value: object) -> object:
    if value == FOREVER:
        return value
    try:
        return _check_days(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "{FOREVER}"') from None


def _read_table(value: object) -> object:
    """Read a table from the environment, where it is a JSON object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise ValueError('not a table of users, in the environment a JSON object: {"ann": 30}')  # noqa: TRY004 - a bad value as well
    return value


Days = Annotated[int, Field(ge=1, le=LONGEST_DAYS), BeforeValidator(_check_days)]
UserDays = Annotated[int | Literal["forever"], BeforeValidator(_check_user_days)]
UserId = Annotated[str, Field(min_length=1)]

Names = Annotated[
    list[Annotated[str, AfterValidator(normal_host)]], NoDecode, BeforeValidator(_split)
]
Networks = Annotated[
    list[Annotated[str, AfterValidator(_check_network)]], NoDecode, BeforeValidator(_split)
]
Rate = Annotated[str, AfterValidator(_check_rate)]


class AccessLimits(BaseModel):
    """Limits per address, user and connection, and for all together."""

    permitted_hosts: Names = Field(
        default_factory=list,
        description="Host names under which clients reach the server (`chat.example.org`), in addition to"
        " its own, as a list or comma-separated. Empty accepts any host name if "
        "`session_api_key` is set, and none otherwise.",
    )
    https: bool = Field(
        default=False,
        description="Clients reach the server only by https, through a proxy that terminates TLS: the "
        "server's own origin is https, and browsers are told to use nothing else (HSTS).",
    )
    trusted_proxies: Networks = Field(
        default_factory=list,
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` "
        "headers are trusted, as a list or comma-separated.",
    )
    unlimited_addresses: Networks = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="Addresses or networks exempt from rate limits and from limits per address, as a list"
        " or comma-separated.",
    )
    rate_reads: Rate = Field(
        default="6000/minute",
        description="Rate limit for requests that change nothing, per user and per address.",
    )
    rate_writes: Rate = Field(
        default="3000/minute",
        description="Rate limit for requests that change something, per user and per address.",
    )
    rate_creations: Rate = Field(
        default="300/minute",
        description="Rate limit for creating conversations, per user and per address.",
    )
    rate_uploads: Rate = Field(
        default="120/minute", description="Rate limit for uploads, per user and per address."
    )
    rate_searches: Rate = Field(
        default="600/minute",
        description="Rate limit for full-text searches, per user and per address.",
    )
    rate_handshakes: Rate = Field(
        default="600/minute", description="Rate limit for new socket connections, per address."
    )
    rate_polls: Rate = Field(
        default="12000/minute",
        description="Rate limit for requests of polling sockets, per address.",
    )
    rate_failures: Rate = Field(
        default="60/minute",
        description="Rate limit for wrong keys and foreign origins, per address; an address that exceeds "
        "it is refused.",
    )
    rate_violations: Rate = Field(
        default="20/minute",
        description="Rate limit for protocol violations, per address; the connections of an address that "
        "exceeds it are closed for 10 seconds.",
    )
    actions_per_second: Annotated[FiniteFloat, _at_most(LARGEST)] = Field(
        default=50,
        gt=0,
        description="Events per second that the sockets of one address may send on average.",
    )
    action_burst: Count = Field(
        default=50, ge=1, description="Events that the sockets of one address may send at once."
    )
    max_connections: Count = Field(
        default=10_000, ge=1, description="Maximum number of open connections."
    )
    max_connections_per_address: Count = Field(
        default=500, ge=1, description="Maximum number of open connections from one address."
    )
    max_handshakes: Count = Field(
        default=2048,
        ge=8,
        description="Maximum number of open connections that have neither joined a conversation nor sent "
        "a request; beyond it, the oldest is closed. One address may hold an eighth of it.",
    )


_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[:.][^\W\d]\w*")


def _check_class_name(value: str) -> str:
    if _CLASS_NAME.fullmatch(value) is None:
        raise ValueError("not a class name of the form package.module:Class")
    return value


ClassName = Annotated[str, AfterValidator(_check_class_name)]
"""`package.module:Class`; a dot before the class is taken as well."""

AGENTS: Mapping[str, str] = MappingProxyType(
    {"llm": "runtime_stub.llm:LlmAgent", "scripted": "runtime_stub.scripted:ScriptedAgent"}
)
"""The agents that come with the server, by the names that stand for their classes."""


def _check_agent(value: str) -> str:
    return AGENTS.get(value) or _check_class_name(value)


AgentName = Annotated[str, AfterValidator(_check_agent)]
"""One of AGENTS, or a class."""


class Extensions(BaseModel):
    """One setting per contract that a custom class may fill; None leaves the built-in one."""

    agent_class: AgentName | None = Field(
        default=None,
        description="The agent: `scripted`, which needs no model; `llm`, which asks the model of the "
        "settings and needs the extra `llm`; or the class of another, as `package.module:Class`.",
    )
    runtime_class: ClassName | None = Field(
        default=None,
        description="Class that builds runtimes, a `RuntimeBuilder`, as `package.module:Class`; replaces "
        "the built-in one.",
    )
    conversation_store_class: ClassName | None = Field(
        default=None,
        description="Class that stores conversation records, a `ConversationStore`, as "
        "`package.module:Class`; replaces the built-in one. Events are still stored as "
        "`storage` says.",
    )
    settings_store_class: ClassName | None = Field(
        default=None,
        description="Class that stores users' settings, a `SettingsStore`, as `package.module:Class`; "
        "replaces the built-in one.",
    )
    secrets_store_class: ClassName | None = Field(
        default=None,
        description="Class that stores users' secrets, a `SecretsStore`, as `package.module:Class`; "
        "replaces the built-in one and must encrypt the secrets itself.",
    )
    conversation_manager_class: ClassName | None = Field(
        default=None,
        description="Class of the `ConversationManager`, as `package.module:Class`; replaces the built-in"
        " one and is constructed with the same dependencies.",
    )
    monitoring_listener_class: ClassName | None = Field(
        default=None,
        description="Class of the `MonitoringListener`, as `package.module:Class`, which is notified of "
        "sessions, events and agent loops.",
    )
    user_auth_class: ClassName | None = Field(
        default=None,
        description="Class of the `UserAuth`, as `package.module:Class`, which identifies users by their "
        "requests' headers.",
    )


class ModelDefaults(BaseModel):
    """The model of users who have chosen none, and how agents ask models."""

    llm_model: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Model of users who have set none: a name, `provider/name`, or `provider:name`.",
    )
    llm_base_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        default=None,
        description="Address of the model's provider for users who have set none, such as "
        "`http://127.0.0.1:11434/v1`; unset means the provider's own.",
    )
    llm_api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        default=None,
        description="API key of the model's provider for users who have set none. It is sent to no "
        "address and no provider but the server's own: a user who chooses another needs a key.",
    )
    llm_instructions: str = Field(
        default="", description="Instructions to the model; empty means the built-in ones."
    )
    llm_vision: bool = Field(
        default=False, description="Send pictures to the model; otherwise it is told there is one."
    )
    llm_show_reasoning: bool = Field(
        default=True, description="Show what the model thinks before it answers."
    )
    llm_context_tokens: Annotated[int, Field(ge=1024), _at_most(LARGEST)] | None = Field(
        default=None,
        description="Tokens the model takes in all. At 80 % of them the beginning of a conversation is "
        "summarised. Unset: what is known of the model, else 32000.",
    )
    llm_reserve_tokens: Count = Field(
        default=4096, ge=1, description="Tokens of them that are left for the model's answer."
    )
    llm_first_token_seconds: Seconds = Field(
        default=60, gt=0, description="Seconds a model may take to begin its answer."
    )
    llm_token_seconds: Seconds = Field(
        default=30, gt=0, description="Seconds a model may pause within an answer."
    )
    llm_tries: Count = Field(
        default=4,
        ge=1,
        description="Times a request is made to a model that is busy, fails or cannot be reached, before"
        " the turn fails.",
    )


class ToolServerSettings(BaseModel):
    """The MCP servers that users may set, and the calls of their tools."""

    mcp_stdio: bool = Field(
        default=False,
        description="Permit tool servers (MCP) that are programs. They run on the server's machine as the "
        "server's own user: whoever may change settings may then run anything there.",
    )
    mcp_private_addresses: bool = Field(
        default=False,
        description="Permit tool servers (MCP) on this machine and in private networks. Off, only public "
        "addresses are asked, and directly: a proxy of the environment is not used.",
    )
    mcp_call_seconds: Seconds = Field(
        default=60,
        gt=0,
        description="Seconds the call of a tool server's tool may take, unless the user's settings for the "
        "server say otherwise. `action_timeout_seconds` bounds both.",
    )


SHORTEST_SLOW_SECONDS = 0.2
"""Twice the time between two beats."""

_ENDPOINT = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/[!-?A-~]*")


class Observability(BaseModel):
    """Nothing of this costs anything for each event."""

    metrics: Literal["guarded", "open", "off"] = Field(
        default="guarded",
        description="Access to `/metrics`. `guarded`: requests that carry the session key or "
        "`metrics_key` and, if neither is set, direct requests to a loopback address; `open`:"
        " all requests; `off`: none.",
    )
    metrics_key: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        default=None,
        description="Key that gives access to `/metrics` only, sent as `Authorization: Bearer KEY`.",
    )
    access_log: bool = Field(
        default=True,
        description="Log a line for each request: method, route, status, milliseconds. Health probes, "
        "polling of sockets and the pages' files are logged only at `debug`.",
    )
    slow_callback_seconds: Seconds = Field(
        default=0.5,
        ge=0,
        description="Seconds after which code that blocks the event loop is logged, with its stack; at "
        "least 0.2, or 0 to turn the watch off.",
    )
    min_free_disk_bytes: Count = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Free bytes on the data directory's disk below which `/ready` reports that the disk "
        "is nearly full.",
    )
    otel_endpoint: str | None = Field(
        default=None,
        description="Endpoint to which traces are sent by OTLP over HTTP, such as "
        "`http://127.0.0.1:4318/v1/traces`; needs the extra `otel`. Unset turns tracing off.",
    )

    @field_validator("slow_callback_seconds")
    @classmethod
    def _check_seconds(cls, value: float) -> float:
        if 0 < value < SHORTEST_SLOW_SECONDS:
            raise ValueError(f"must be at least {SHORTEST_SLOW_SECONDS}, or 0")
        return value

    @field_validator("otel_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _ENDPOINT.fullmatch(value):
            raise ValueError(
                "not an endpoint of the form http://host:port/v1/traces, without a key"
            )
        return value


class AdminSettings(BaseModel):
    """Settings that say where they come from."""

    admin_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="Key of `/api/admin`. If unset, only direct requests from this machine, without a "
        "proxy, are accepted, and none with `runtime` = `local`.",
    )
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def place_of(self, field: str) -> str:
        """Return a description of where a setting was found; "default" if nowhere."""
        return self._places.get(field, "default")


LEAST_FILES = 256
"""Open files that a shell and what it runs need."""
LEAST_UID = 1000
_UIDS = re.compile(r"(\d{1,10})-(\d{1,10})")


class LocalRuntimes(BaseModel):
    """What `runtime` = `local` needs to know. docs/local.md says what it holds, and what it does not."""

    runtime_kind: Literal["memory", "local"] = Field(
        default="memory",
        description="Where agents work. `memory`: in a small imitation of a shell and a repository, which"
        " touches nothing; `local`: with real commands and files of this machine, in a directory per "
        "conversation ([what holds them, and what does not](local.md)).",
    )
    local_dir: Path = Field(
        default=Path("parley-workspaces"),
        description="Directory for the workspaces of `runtime` = `local`. Users of the workspaces must be "
        "able to pass through it and what is above it, so it is not in `data_dir`.",
    )
    local_uids: str = Field(
        default="1900000000-1900009999",
        description="First and last of the user ids that workspaces of `runtime` = `local` get, one each, if "
        "the server runs as root; nothing else on the machine may use them.",
    )
    local_environment: Annotated[list[str], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=lambda: ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"],
        description="Variables of the server's environment that commands see, as a list or comma-separated; "
        "they see no other one.",
    )
    local_processes: Count = Field(
        default=512, ge=16, description="Processes and threads of one workspace, all together."
    )
    local_memory_bytes: Count = Field(
        default=4 * 1024**3,
        ge=64 * 1024**2,
        description="Memory in bytes of one process of a workspace, and of all together.",
    )
    local_cpu_seconds: Count = Field(
        default=600, ge=1, description="Seconds of processor time of one process of a workspace."
    )
    local_file_bytes: Count = Field(
        default=1024**3,
        ge=1024**2,
        description="Size in bytes of the largest file that commands write.",
    )
    local_open_files: int = Field(
        default=1024,
        ge=LEAST_FILES,
        le=1024**2,
        description="Files that one process of a workspace may have open.",
    )
    local_disk_bytes: Count = Field(
        default=4 * 1024**3,
        ge=1024**2,
        description="Bytes on the disk of one workspace, with its home and its temporary files; looked at "
        "while commands run.",
    )
    local_disk_entries: Count = Field(
        default=200_000,
        ge=100,
        description="Files and folders of one workspace, with its home and its temporary files.",
    )
    local_output_bytes: Count = Field(
        default=64 * 1024**2,
        ge=1024**2,
        description="Output in bytes after which a command is ended.",
    )

    @field_validator("local_uids")
    @classmethod
    def _check_uids(cls, value: str) -> str:
        found = _UIDS.fullmatch(value)
        if found is None:
            raise ValueError("not two user ids such as 1900000000-1900009999")
        first, last = int(found[1]), int(found[2])
        if not LEAST_UID <= first <= last < 2**31:
            raise ValueError(
                f"must be user ids from {LEAST_UID} to {2**31 - 1}, the first one first"
            )
        return value

    @field_validator("local_environment")
    @classmethod
    def _check_environment(cls, value: list[str]) -> list[str]:
        """Refuse variables that hold settings: some of them are keys."""
        for name in value:
            if name.upper().startswith(ENVIRONMENT_PREFIX) or name.upper() in PLAIN_VARIABLES:
                raise ValueError(
                    "a variable that holds a setting of the server is not for commands"
                )
        return value


DEFAULT_TOML = Path("parley.toml")


class ServerConfig(
    AccessLimits,
    Extensions,
    LocalRuntimes,
    ModelDefaults,
    ToolServerSettings,
    Observability,
    AdminSettings,
    BaseSettings,
):
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
        description="Address to listen on. An address other than loopback requires `session_api_key` or "
        "`insecure`.",
    )
    port: int = Field(
        default=3000, ge=0, le=65535, description="Port to listen on; 0 picks a free one."
    )
    data_dir: Path = Field(
        default=Path("parley-data"),
        description="Directory for all data of the server; only one process at a time may use it.",
    )
    backup_every: Annotated[Seconds, Field(ge=1)] | None = Field(
        default=None,
        description="Seconds between two backups that the server makes into `backup_dir`; unset, it makes "
        "none by itself. 86400 is once a day.",
    )
    backup_keep: Count = Field(
        default=7,
        ge=1,
        description="Backups to keep in `backup_dir`; after each one made by `backup_every` older ones are "
        "removed.",
    )
    backup_dir: Path | None = Field(
        default=None,
        description="Directory for backups; unset, it is `backups` in `data_dir`. It should be on another "
        "disk.",
    )
    retention_days: Days | None = Field(
        default=None,
        description="Days after their last event at which conversations are deleted ([what is deleted, and "
        "when](erasure.md#by-age)); unset, they are kept.",
    )
    retention_days_by_user: Annotated[
        dict[UserId, UserDays], NoDecode, BeforeValidator(_read_table)
    ] = Field(
        default_factory=dict,
        description="Days for the conversations of single users, in place of `retention_days`, by their ids: "
        '`{"ann": 7, "bob": "forever"}`.',
    )
    storage_kind: Literal["sqlite", "local", "postgres", "cloud", "memory"] = Field(
        default="sqlite",
        description="Storage of conversations: a SQLite database in `data_dir`, plain files in "
        "`data_dir`, the PostgreSQL database that `database_url` names, files in the bucket `cloud_url` "
        "of an object store, or memory, which is lost when the process ends.",
    )
    database_url: Annotated[SecretStr, AfterValidator(_check_database_url)] | None = Field(
        default=None,
        description="Address of the database for `storage` = `postgres`, "
        "`postgresql://user:password@host:5432/name?sslmode=verify-full`; reserved characters in the "
        "password are written with a percent sign, hosts are separated by commas.",
    )
    database_direct_url: Annotated[SecretStr, AfterValidator(_check_database_url)] | None = Field(
        default=None,
        description="Address of the same database past the pooler to which `database_url` leads: migrations "
        "use it, and the lock that keeps a second server away. Without it they go where everything goes.",
    )
    database_schema: Annotated[str, Field(pattern="^[a-z_][a-z0-9_]{0,62}$")] = Field(
        default="parley",
        description="Schema of the database that holds everything; made at the first start.",
    )
    database_connections: Count = Field(
        default=8,
        ge=4,
        description="Maximum number of connections to the database: a quarter each for appends and for "
        "records, the rest for reads. Full-text search has up to three more.",
    )
    database_pooler: bool = Field(
        default=False,
        description="`database_url` leads to a pooler in transaction mode, such as pgbouncer: statements "
        "are not kept prepared.",
    )
    nodes: Literal["one", "many"] = Field(
        default="one",
        description="Servers that work on the database at the same time. With `many` any number of them "
        "form [a cluster](cluster.md), in which each serves every client; that needs `storage` = `postgres`.",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_check_redis_url)] | None = Field(
        default=None,
        description="Address of a Redis over which servers with `nodes` = `many` tell each other of new "
        "events, `redis://user:password@host:6379/0`, `rediss://` with TLS, or `unix:///path` of a socket; "
        "unset, the database carries that.",
    )
    node_name: Annotated[str, Field(pattern=r"^[\w.:\[\]-]{1,100}$")] | None = Field(
        default=None,
        description="Name of this server in its cluster, by which logs and administrators know it; unset, "
        "the machine's name and the port.",
    )
    node_url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")] | None = Field(
        default=None,
        description="Address at which the other servers of the cluster reach this one; unset, `http://` "
        "with `host`, or the machine's name where that is every address, and the port.",
    )
    lease_seconds: Seconds = Field(
        default=6,
        ge=1,
        description="Seconds after which a server of a cluster that says nothing is declared dead and its "
        "agent loops go to others. One that cannot reach the database for as long begins nothing anew.",
    )
    look_seconds: Seconds = Field(
        default=2,
        ge=0.1,
        description="Seconds between two looks at the open conversations for events of other servers, "
        "while those cannot be heard; otherwise it is 15 seconds.",
    )
    cloud_url: Annotated[str, Field(pattern=CLOUD_URL)] | None = Field(
        default=None,
        description="Bucket of an object store and a folder in it, for `storage` = `cloud`: "
        "`s3://bucket/folder`, `gs://bucket/folder` or `az://container/folder`. Only one server at "
        "a time may use it.",
    )
    cloud_options: Annotated[SecretStr, AfterValidator(_check_options)] | None = Field(
        default=None,
        description="What the object store needs besides its URL, as a JSON object or a table: for S3 "
        "`endpoint`, `region`, `access_key_id`, `secret_access_key`. The usual variables of the service "
        "(`AWS_ACCESS_KEY_ID` and so on) and the identity of a machine in its cloud work too.",
    )
    cloud_lease_seconds: Seconds = Field(
        default=6,
        ge=1,
        description="Seconds for which a server that was killed keeps others off its bucket, itself when it "
        "starts again included. One that cannot reach the object store for so long writes nothing "
        "until it can.",
    )
    full_text_search: bool = Field(
        default=True,
        description="Keep an index of titles, messages, thoughts and outputs for `/api/search`, where there is "
        "a directory for it or the storage keeps it itself.",
    )
    search_dir: Path | None = Field(
        default=None,
        description="Directory for the index of full-text search, which may be deleted at any time; it need not "
        "be backed up. Default: `data_dir` with `storage` = `sqlite`, the database with `postgres`, none "
        "and no full-text search otherwise.",
    )
    ui_dir: ExistingDirectory | None = Field(
        default=None,
        description="Directory of a static single-page build to serve at `/` instead of the built-in "
        "page.",
    )
    serve_frontend: bool = Field(default=True, description="Serve a page at `/`.")

    session_api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        default=None,
        description="Key that every request and every connection must carry. If unset, the server trusts "
        "every client that can reach it.",
    )
    secret_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="Key that encrypts stored secrets and kept workspaces; a long random text. If unset, "
        "one is generated when first needed and stored in `data_dir` as `secret.key`.",
    )
    insecure: bool = Field(
        default=False,
        description="Allow listening on an address that other machines can reach without a "
        "`session_api_key`.",
    )
    permitted_cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins (`https://example.org`) whose pages may use the server, in addition to its "
        "own, as a list or comma-separated.",
    )
    allow_set_conversation_id: bool = Field(
        default=False, description="Let clients choose the id of a conversation that they create."
    )
    require_settings: bool = Field(
        default=False,
        description="Refuse to create conversations for users who have not stored settings yet.",
    )

    max_concurrent_conversations: Count = Field(
        default=3,
        ge=1,
        description="Maximum number of agent loops that run at the same time for one user.",
    )
    conversation_max_age_seconds: Annotated[int, Field(ge=1), _at_most(LONGEST_SECONDS)] | None = (
        Field(
            default=None,
            description="Age in seconds beyond which conversations are omitted from lists; unset lists all.",
        )
    )
    close_delay_seconds: Seconds = Field(
        default=3600,
        ge=0,
        description="Seconds after which an idle agent loop without connected clients is closed; 0 never "
        "closes it.",
    )
    max_iterations: Count = Field(
        default=500,
        ge=1,
        description="Steps an agent may take before it has to ask whether to continue.",
    )
    max_budget_per_task: Annotated[FiniteFloat, Field(gt=0), _at_most(LARGEST)] | None = Field(
        default=None,
        description="US dollars an agent may spend before it has to ask whether to continue; unset sets "
        "no limit.",
    )
    confirmation_mode: bool = Field(
        default=False,
        description="Ask the user for confirmation before the agent acts on its workspace.",
    )
    default_agent: str = Field(
        default="scripted", min_length=1, description="Name of the agent of new conversations."
    )
    turn_seconds: Seconds = Field(
        default=1800,
        gt=0,
        description="Seconds a turn of an agent may take, not counting those in which an action is "
        "carried out or a person is waited for.",
    )
    quiet_seconds: Seconds = Field(
        default=120,
        gt=0,
        description="Seconds an agent may neither write nor act nor report anything during a turn, "
        "counted in the same way.",
    )
    turn_tries: Count = Field(
        default=2,
        ge=1,
        description="Number of times that a turn is begun if a crash or the end of the server cuts it "
        "short and the class of the agent sets `resumes`.",
    )
    approval_patience: Seconds = Field(
        default=60,
        gt=0,
        description="Seconds after which a turn that waits for nothing but a user's confirmations is "
        "ended; they can be given at any time after that.",
    )
    approval_seconds: Annotated[FiniteFloat, Field(gt=0), _at_most(LONGEST_SECONDS)] | None = Field(
        default=None,
        description="Seconds after which a confirmation that was not given expires: it stays open, and "
        "has to be asked again before it can be given or refused; unset sets no limit.",
    )
    agent_threads: Count = Field(
        default=32,
        ge=1,
        description="Maximum number of threads in which blocking agents work at the same time.",
    )
    action_timeout_seconds: Seconds = Field(
        default=120,
        gt=0,
        description="Seconds the runtime may take to perform an action or to answer a request for a file.",
    )
    runtime_start_seconds: Seconds = Field(
        default=60,
        gt=0,
        description="Seconds that building the runtime may take, and that connecting to it may take.",
    )
    agent_close_seconds: Seconds = Field(
        default=2,
        gt=0,
        description="Seconds that closing an agent and its runtime may take, at most a quarter of "
        "`shutdown_seconds`; after that they are abandoned.",
    )
    workspace_max_bytes: Count = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Maximum size in bytes of a workspace that is kept while its agent loop is closed: "
        "names, and contents that differ. One that exceeds it is not kept, and its user is told.",
    )
    workspace_max_files: Count = Field(
        default=10_000,
        ge=0,
        description="Maximum number of files and empty folders of a workspace that is kept while its "
        "agent loop is closed; 0 keeps none.",
    )

    not_ready_seconds: Seconds = Field(
        default=10,
        ge=0,
        description="Seconds without an answer of PostgreSQL after which `/ready` answers 503, while the"
        " PostgreSQL of another server answers.",
    )
    append_deadline_seconds: Seconds = Field(
        default=10,
        gt=0,
        description="Seconds a durable write may take before its outcome counts as unknown.",
    )
    delta_interval_seconds: Seconds = Field(
        default=0.05,
        ge=0.02,
        le=1,
        description="Seconds between two pieces of text that an agent is writing in a conversation;"
        " while the event loop is late, up to 0.5.",
    )
    partial_checkpoint_seconds: Seconds = Field(
        default=1,
        ge=0,
        le=60,
        description="Seconds between two checkpoints of the texts that agents are writing: after a crash,"
        " what was shown up to the last one is in the log. 0 makes none.",
    )
    shutdown_seconds: Seconds = Field(
        default=8,
        gt=0,
        description="Seconds an orderly shutdown may take; one second later the process exits regardless.",
    )
    handshake_seconds: Seconds = Field(
        default=10,
        gt=0,
        description="Seconds a client may take to send the head of a request or to join a conversation, "
        "the server to admit it, and each part of a body to arrive.",
    )
    delivery: Literal["direct", "engine"] = Field(
        default="direct",
        description="Implementation that serves websockets: `direct` bypasses the queue of Engine.IO, "
        "`engine` uses it.",
    )
    stall_abort_seconds: Seconds = Field(
        default=10,
        gt=0,
        description="Seconds a client may read nothing while data waits for it; after that its connection"
        " is closed.",
    )
    page_size: int = Field(default=100, ge=1, le=10_000, description="Events in a cached page.")
    page_cache_bytes: Count = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Maximum size of all cached pages together, in bytes.",
    )
    max_message_bytes: Count = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        description="Maximum size of a message from a client, in bytes.",
    )
    max_recording_bytes: Count = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Maximum size of a recording (`replay_json`) that a conversation may start with, in "
        "bytes.",
    )
    max_waiting_appends: Count = Field(
        default=10_000,
        ge=1,
        description="Maximum number of appends of one conversation that may wait for the store.",
    )
    max_waiting_bytes: Count = Field(
        default=32 * 1024 * 1024,
        ge=64 * 1024,
        description="Maximum size of the events of one conversation that may wait for the store, in "
        "bytes.",
    )
    max_waiting_bytes_in_all: Count = Field(
        default=128 * 1024 * 1024,
        ge=16 * 1024 * 1024,
        description="Maximum size of the events of all conversations that may wait for the store, in "
        "bytes, not counting the first 64 KiB of each conversation.",
    )
    subscription_queue: Count = Field(
        default=1024,
        ge=1,
        description="Events a subscriber may lag behind before it reads them from the log instead.",
    )

    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="Minimum severity of logged messages."
    )
    log_format: Literal["json", "console"] = Field(
        default="json",
        description="Format of the log: one JSON object per line, or text for people.",
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
        if self.storage_kind == "postgres" and self.database_url and self.secret_key:
            return PostgresStorage(
                url=self.database_url,
                direct_url=self.database_direct_url,
                secret_key=self.secret_key,
                schema_name=self.database_schema,
                connections=self.database_connections,
                pooler=self.database_pooler,
                shared=self.nodes == "many",
                deadline_seconds=self.append_deadline_seconds,
            )
        if self.storage_kind == "cloud" and self.cloud_url and self.secret_key:
            return CloudStorage(
                url=self.cloud_url,
                options=self.cloud_options,
                secret_key=self.secret_key,
                lease_seconds=self.cloud_lease_seconds,
            )
        return SqliteStorage(data_dir=self.data_dir, secret_key=self.secret_key)

    @property
    def index_dir(self) -> Path | None:
        """The directory of the index of full-text search; None without one."""
        if not self.full_text_search:
            return None
        return self.search_dir or (self.data_dir if self.storage_kind == "sqlite" else None)

    @property
    def agent_name(self) -> str:
        """The agent as the settings of users name it."""
        names = {path: name for name, path in AGENTS.items()}
        if self.agent_class in names and "default_agent" not in self.model_fields_set:
            return names[self.agent_class]
        return self.default_agent

    @property
    def has_model_key(self) -> bool:
        """Whether users need no key for the agent: it is not `llm`, or the server has one."""
        return self.llm_api_key is not None or self.agent_class != AGENTS["llm"]

    @property
    def keyless(self) -> bool:
        """Whether the server trusts whoever reaches it."""
        return self.session_api_key is None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def masked(self) -> dict[str, Any]:
        """Return every setting under its public name as JSON values, secrets as asterisks."""
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

    @field_validator("*", mode="before")
    @classmethod
    def _without_null(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not contain a null character")
        return value

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        """Return the address alone: brackets belong to the form in which IPv6 stands before a port."""
        return value[1:-1] if re.fullmatch(r"\[[^\[\]]*:[^\[\]]*\]", value) else value

    @field_validator("cloud_options", mode="before")
    @classmethod
    def _written_out(cls, value: object) -> object:
        return json.dumps(value) if isinstance(value, dict) else value

    @field_validator("permitted_cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("permitted_cors_origins")
    @classmethod
    def _check_origins(cls, value: list[str]) -> list[str]:
        return [checked_origin(origin) for origin in value if origin.strip()]

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = handler(data)
        except ValidationError as error:
            problems = list(_problems(error))
            raise ConfigError(Layer().sentence(problems), problems=problems) from None
        except UnicodeEncodeError:
            # A validator has quoted what cannot be written, such as bytes of the environment.
            problems = [
                (name, "not a text in UTF-8") for name, value in data.items() if not _is_text(value)
            ]
            raise ConfigError(Layer().sentence(problems), problems=problems) from None
        if config.runtime_kind == "local" and config.runtime_class is not None:
            reason = "runtime = local has no effect beside runtime_class: leave one of them out"
            raise ConfigError(f"runtime: {reason}", problems=[("runtime_kind", reason)])
        if config.runtime_kind == "local" and config.mcp_stdio and config.keyless:
            reason = (
                "commands of agents (runtime = local) could have the server run programs as its own user: "
                "set session_api_key, or leave mcp_stdio off"
            )
            raise ConfigError(f"mcp_stdio: {reason}", problems=[("mcp_stdio", reason)])
        limited = config.retention_days is not None or config.retention_days_by_user
        if limited and config.conversation_store_class is not None:
            reason = (
                "conversations of a custom class (conversation_store_class) cannot be listed by their "
                "age: leave retention_days and retention_days_by_user out"
            )
            raise ConfigError(f"retention_days: {reason}", problems=[("retention_days", reason)])
        _check_storage(config)
        if config.keyless and not config.insecure and not config.local:
            reason = (
                f"{config.host} can be reached from other machines: set session_api_key "
                "(SESSION_API_KEY), or insecure (--insecure) to serve everyone without a key"
            )
            raise ConfigError(f"host: {reason}", problems=[("host", reason)])
        return config


def _check_storage(config: ServerConfig) -> None:
    """Refuse a kind of storage without the settings that it needs."""
    kind = config.storage_kind
    problems = [
        (name, f"storage = {kind} needs {needed}")
        for name, needed in NEEDED.get(kind, {}).items()
        if getattr(config, name) is None
    ]
    if not problems:
        problems = [*_cluster_problems(config)]
    if problems:
        raise ConfigError(Layer().sentence(problems), problems=problems)


def _cluster_problems(config: ServerConfig) -> Iterator[tuple[str, str]]:
    """Yield what keeps servers from sharing a database, and what has no effect in a server alone."""
    if config.nodes == "one":
        if config.redis_url is not None:
            yield "redis_url", "has no effect without nodes = many (PARLEY_NODES)"
        return
    if config.storage_kind != "postgres":
        yield "nodes", "many servers can share storage = postgres (PARLEY_STORAGE) only"
    for name in ("conversation_manager_class", "conversation_store_class"):
        if getattr(config, name) is not None:
            yield "nodes", f"many servers cannot use {name}: leave it out"


def _problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        name, *inner = (str(part) for part in detail["loc"])
        unknown = detail["type"] == "extra_forbidden"
        text = "unknown setting" if unknown else detail["msg"].removeprefix("Value error, ")
        yield name, ": ".join([*inner, text])


def _is_text(value: object) -> bool:
    texts = value if isinstance(value, list | tuple) else [value]
    try:
        "".join(one for one in texts if isinstance(one, str)).encode()
    except UnicodeEncodeError:
        return False
    return True
