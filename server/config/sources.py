"""Sources of settings: environment variables, a TOML file and the command line."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    DirectoryPath,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

ENVIRONMENT_PREFIX = "PARLEY_"
CONFIG_VARIABLE = "PARLEY_CONFIG"
PLAIN_VARIABLES = {
    "SESSION_API_KEY": "session_api_key",
    "PERMITTED_CORS_ORIGINS": "permitted_cors_origins",
    "SERVE_FRONTEND": "serve_frontend",
    "ALLOW_SET_CONVERSATION_ID": "allow_set_conversation_id",
}
"""Variables of the ancestor that are read without the prefix; the prefixed one wins."""


def _directory(value: object, handler: ValidatorFunctionWrapHandler) -> Path:
    try:
        path: Path = handler(value)
    except OSError as error:  # a name too long, for instance, which is no value's fault to pydantic
        raise ValueError(f"Path does not point to a directory: {error.strerror}") from None
    return path


ExistingDirectory = Annotated[DirectoryPath, WrapValidator(_directory)]
"""A directory that is there."""

_PUBLIC_NAMES = {"storage_kind": "storage", "runtime_kind": "runtime"}


class ConfigError(Exception):
    """A setting is unknown or has a bad value. The text is one line and names the setting.

    `problems` holds (field, text) pairs; neither they nor the text ever hold a setting's value.
    """

    def __init__(self, message: str, *, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(" ".join(message.split()))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source, and for each a description of where it was found."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def under(self, upper: "Layer") -> "Layer":
        """Both layers as one; `upper` wins, nested groups are joined setting by setting."""
        return Layer(_merged(self.values, upper.values), self.places | upper.places)

    def sentence(self, problems: Sequence[tuple[str, str]]) -> str:
        """Put the problems in one line, each with the place its setting was found."""
        return "; ".join(f"{self.places.get(name, name)}: {text}" for name, text in problems)


def public_name(name: str) -> str:
    """Give the name of a field in parley.toml, on the command line and, upper case, in variables."""
    return _PUBLIC_NAMES.get(name, name)


def variable_names(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return every environment variable of the model and the field path it sets."""
    return {
        ENVIRONMENT_PREFIX + "__".join(public_name(part) for part in path).upper(): path
        for path in _field_paths(model)
    }


def read_environment(model: type[BaseSettings], variables: Mapping[str, str]) -> Layer:
    """Pick the settings among `variables`; empty ones count as not set. Raises ConfigError."""
    known = variable_names(model)
    found: dict[str, str | None] = {}
    places: dict[str, str] = {}

    def take(name: str, path: tuple[str, ...]) -> None:
        if variables.get(name):
            found[(ENVIRONMENT_PREFIX + "__".join(path)).lower()] = variables[name]
            places[path[0]] = name

    for name, plain_field in PLAIN_VARIABLES.items():
        take(name, (plain_field,))
    for name in sorted(variables):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == CONFIG_VARIABLE:
            continue
        if name not in known:
            raise ConfigError(f"unknown setting {name} in the environment")
        take(name, known[name])
    source = EnvSettingsSource(model)
    source.env_vars = found
    try:
        return Layer(source(), places)
    except SettingsError as error:
        raise ConfigError(f"environment: {error}") from None


def read_toml(model: type[BaseModel], path: Path) -> Layer:
    """Read the settings of a toml file. Raises ConfigError, also when there is no such file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # the parser's own is a ValueError, too
        raise ConfigError(f"{path}: {error}") from None
    fields = {public_name(name): name for name in model.model_fields}
    for name in content:
        if name not in fields:
            raise ConfigError(f"unknown setting {name} in {path}")
    return Layer(
        {fields[name]: value for name, value in content.items()},
        {fields[name]: f"{name} in {path}" for name in content},
    )


def read_overrides(overrides: Mapping[str, Any]) -> Layer:
    """Field values given on the command line; None means not given."""
    values = {name: value for name, value in overrides.items() if value is not None}
    places = {name: "--" + public_name(name).replace("_", "-") for name in values}
    return Layer(values, places)


def _field_paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        nested = info.annotation
        yield (name,)
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from ((name, *path) for path in _field_paths(nested))


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for name, value in upper.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(below, value)
        else:
            merged[name] = value
    return merged
