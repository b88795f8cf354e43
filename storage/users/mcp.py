"""Tool servers of a user's settings; keys and environment values in them are secrets."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from storage.conversations.metadata import WHOLE, Text
from storage.errors import BadValue

HIDDEN = "**********"
"""Shown in place of a secret; when sent back, it means the stored one."""

MAX_SERVERS = 50
MAX_ITEMS = 100
MAX_CHARACTERS = 4096
MIN_MASKED_CHARACTERS = 8
"""Minimum length of masked environment values, which are often plain words; shorter ones are sealed
but never masked."""

Line = Annotated[Text, Field(max_length=MAX_CHARACTERS)]
Key = Annotated[SecretStr, Field(max_length=MAX_CHARACTERS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class EventServer(_Part):
    """A server reached by server-sent events."""

    url: Annotated[Line, Field(min_length=1)]
    api_key: Key | None = None


class HttpServer(EventServer):
    """A server reached by streamed HTTP; `timeout` in seconds."""

    timeout: Annotated[int, Field(ge=1, le=3600), WHOLE] | None = None


class CommandServer(_Part):
    """A server that is a program."""

    name: Annotated[Line, Field(min_length=1)]
    command: Annotated[Line, Field(min_length=1)]
    args: Annotated[list[Line], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    env: Annotated[dict[Line, Key], Field(max_length=MAX_ITEMS)] = Field(default_factory=dict)


class McpConfig(_Part):
    """All tool servers of a user."""

    sse_servers: Annotated[list[EventServer], Field(max_length=MAX_SERVERS)] = Field(
        default_factory=list
    )
    stdio_servers: Annotated[list[CommandServer], Field(max_length=MAX_SERVERS)] = Field(
        default_factory=list
    )
    shttp_servers: Annotated[list[HttpServer], Field(max_length=MAX_SERVERS)] = Field(
        default_factory=list
    )

    def shown(self) -> dict[str, Any]:
        """JSON values, every secret hidden."""
        return _fields(self, lambda _: HIDDEN)

    def revealed(self) -> dict[str, Any]:
        """JSON values, secrets in clear: only to be sealed, or handed to the servers."""
        return _fields(self, SecretStr.get_secret_value)

    def masks(self) -> dict[str, str]:
        """Secret values that must not be seen, under names of their own."""
        keys = [one.api_key for one in (*self.sse_servers, *self.shttp_servers) if one.api_key]
        values = [value for one in self.stdio_servers for value in one.env.values()]
        secrets = keys + [value for value in values if len(value) >= MIN_MASKED_CHARACTERS]
        return {
            f"mcp_config/{place}": secret.get_secret_value() for place, secret in enumerate(secrets)
        }

    def completed(self, stored: "McpConfig | None") -> "McpConfig":
        """Return this configuration with each hidden secret taken from `stored`.

        A server is identified by its address, a program by its name and command, so that a key is
        never sent to a place other than that it was given for. Raises BadValue when there is none,
        and for an address that is not one of HTTP.
        """
        before = stored or McpConfig()
        for server in (*self.sse_servers, *self.shttp_servers):
            if not _is_address(server.url):
                raise BadValue(
                    f"mcp_config: {server.url} is not an address that begins with https:// or http://"
                )
        return McpConfig(
            sse_servers=list(_with_keys(self.sse_servers, before.sse_servers)),
            stdio_servers=list(_with_environments(self.stdio_servers, before.stdio_servers)),
            shttp_servers=list(_with_keys(self.shttp_servers, before.shttp_servers)),
        )


Server = TypeVar("Server", bound=EventServer)


def _with_keys(servers: list[Server], stored: list[Server]) -> Iterator[Server]:
    known = {one.url: one.api_key for one in stored}
    for server in servers:
        if _is_hidden(server.api_key):
            found = known.get(server.url)
            if found is None:
                raise BadValue(f"mcp_config: the api_key for {server.url} must be given again")
            yield server.model_copy(update={"api_key": found})
        else:
            yield server


def _with_environments(
    servers: list[CommandServer], stored: list[CommandServer]
) -> Iterator[CommandServer]:
    known: dict[tuple[str, str], Mapping[str, SecretStr]] = {
        (one.name, one.command): one.env for one in stored
    }
    for server in servers:
        found = known.get((server.name, server.command), {})
        lost = [
            name for name, value in server.env.items() if _is_hidden(value) and name not in found
        ]
        if lost:
            raise BadValue(f"mcp_config: {lost[0]} of {server.name} must be given again")
        env = {
            name: found[name] if _is_hidden(value) else value for name, value in server.env.items()
        }
        yield server.model_copy(update={"env": env})


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_hidden(secret: SecretStr | None) -> bool:
    return secret is not None and secret.get_secret_value() == HIDDEN


def _fields(part: BaseModel, show: Callable[[SecretStr], str]) -> dict[str, Any]:
    return {name: _dumped(getattr(part, name), show) for name in type(part).model_fields}


def _dumped(value: Any, show: Callable[[SecretStr], str]) -> Any:
    if isinstance(value, SecretStr):
        return show(value)
    if isinstance(value, BaseModel):
        return _fields(value, show)
    if isinstance(value, dict):
        return {name: _dumped(one, show) for name, one in value.items()}
    return [_dumped(one, show) for one in value] if isinstance(value, list) else value
