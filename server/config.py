"""Settings: the only reader of the environment and of parley.toml."""

import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
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

from server.administrable import Administrable
from server.bounds import Bounds
from server.extensions import Extensions
from server.observability import Observability
from server.origins import given_origin
from server.sources import (
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
from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig

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
        """What storage.opening needs to open the store."""
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
