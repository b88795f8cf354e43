"""The options that commands share: the settings that have one, and the way in which they are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from server.config.settings import ServerConfig

OPTIONS = {"agent_class": "agent"}
"""Options whose name is not that of their setting, by the setting."""


StorageKind: TypeAlias = Literal["sqlite", "local", "postgres", "cloud", "memory"]


def _described(field: str) -> Parameter:
    return Parameter(help=ServerConfig.model_fields[field].description, negative=())


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings that have an option; None leaves a setting to the other sources."""

    host: Annotated[str | None, _described("host")] = None
    port: Annotated[int | None, _described("port")] = None
    data_dir: Annotated[Path | None, _described("data_dir")] = None
    storage: Annotated[StorageKind | None, _described("storage_kind")] = None
    agent: Annotated[str | None, _described("agent_class")] = None
    runtime: Annotated[Literal["memory", "local"] | None, _described("runtime_kind")] = None
    ui_dir: Annotated[Path | None, _described("ui_dir")] = None
    insecure: Annotated[bool | None, _described("insecure")] = None
    config: Annotated[
        Path | None, Parameter(help="Settings file to read instead of ./parley.toml.")
    ] = None

    def load(self) -> ServerConfig:
        """Read all sources, these options first. Raises ConfigError."""
        overrides = {
            "host": self.host,
            "port": self.port,
            "data_dir": self.data_dir,
            "storage_kind": self.storage,
            "agent_class": self.agent,
            "runtime_kind": self.runtime,
            "ui_dir": self.ui_dir,
            "insecure": self.insecure,
        }
        return ServerConfig.load(overrides, toml_path=self.config)


NO_OPTIONS = Options()
