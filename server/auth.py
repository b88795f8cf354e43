"""Who asks, and whether the request came from where requests may come from."""

import asyncio
import hmac
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from server.config import ServerConfig
from server.errors import Forbidden, NotAvailable, Unauthorized

logger = logging.getLogger(__name__)

KEY_HEADER = "x-session-api-key"
LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
NO_KEY = frozenset(("", "null", "undefined"))
"""What a browser's query says when its page has no key."""
DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}

_USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")
_AUTHORITY = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. None: nobody in particular, to whom the records without an owner belong."""

    user_id: str | None = None


class UserAuth(ABC):
    """Tells users apart; made once, without arguments, and asked for every request and connection.

    The session key, where there is one, is checked besides, and first.
    """

    @abstractmethod
    async def user_id(self, headers: Mapping[str, str]) -> str | None:
        """Who sent a request with these headers, whose names are in lower case.

        None owns what has no owner. Raises Unauthorized to refuse; its text is shown.
        """


class Everybody(UserAuth):
    """Nobody in particular asks, whoever it is."""

    async def user_id(self, headers: Mapping[str, str]) -> str | None:  # noqa: ARG002 - the contract's
        """None."""
        return None


class Authority(NamedTuple):
    """The host and port of a Host header; the name is in lower case, IPv6 without brackets."""

    name: str
    port: int | None


class Authenticator:
    """Checks keys, hosts and origins.

    Without a key the server trusts whoever reaches it, so that a page from elsewhere must not: the
    Host must then be a name of this machine (else a name that was pointed at it would do), which
    is localhost, 127.0.0.1, [::1], the `host` setting or the host of a permitted origin; where the
    server listens to other machines, it may also be any IP address.

    An Origin must be the server's own or a permitted one. Permitted are
    `permitted_cors_origins`; when that is empty, origins on localhost.
    """

    def __init__(self, config: ServerConfig, users: UserAuth | None = None) -> None:
        self._users = users or Everybody()
        self._seconds = config.handshake_seconds
        key = config.session_api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._origins = frozenset(config.permitted_cors_origins)
        permitted = (urlsplit(origin).hostname for origin in self._origins)
        own = config.host.lower()
        self._names = LOCAL_NAMES | {own} | {name for name in permitted if name}
        self._open = not _is_local(own)

    def key_matches(self, text: str | None) -> bool:
        """Whether this is the key; always where none is set."""
        if self._key is None:
            return True
        given = (text or "").encode(errors="surrogateescape")
        return hmac.compare_digest(given, self._key) and text not in NO_KEY

    async def principal(self, scope: Mapping[str, Any]) -> Principal:
        """Who asks, by the headers of the ASGI scope. Raises Unauthorized, NotAvailable."""
        headers = Headers(raw=scope.get("headers", []))
        try:
            async with asyncio.timeout(self._seconds):
                user_id = await self._users.user_id(headers)
        except Unauthorized:
            raise
        except Exception as error:
            logger.exception("users cannot be told apart")
            raise NotAvailable("Who asks cannot be told now; try again") from error
        if user_id is not None and not _USER_ID.fullmatch(user_id):
            raise Unauthorized("The user's id is not acceptable")
        return Principal(user_id)

    def check_key(self, headers: Headers) -> None:
        """Raise Unauthorized unless the header holds the key, or none is set."""
        if not self.key_matches(headers.get(KEY_HEADER)):
            raise Unauthorized("The session API key is missing or wrong")

    def check_source(self, headers: Headers) -> None:
        """Raise Forbidden when Host or Origin is not acceptable."""
        if not self.host_allowed(headers):
            raise Forbidden("This host name is not one of the server's; use localhost")
        if not self.origin_allowed(headers):
            raise Forbidden("This origin is not permitted; see permitted_cors_origins")

    def host_allowed(self, headers: Headers) -> bool:
        """Whether the Host is a name of this server. With a key every Host is."""
        if self._key is not None:
            return True
        authority = _authority_of(headers)
        if authority is None:
            return False
        return authority.name in self._names or (self._open and _is_address(authority.name))

    def origin_allowed(self, headers: Headers) -> bool:
        """Whether there is no Origin, or one that may use the server."""
        origins = headers.getlist("origin")
        if not origins:
            return True
        return len(origins) == 1 and (
            _is_own(origins[0], _authority_of(headers)) or self._is_permitted(origins[0])
        )

    def _is_permitted(self, origin: str) -> bool:
        if self._origins:
            return origin.lower() in self._origins
        parts = _web_origin(origin)
        return parts is not None and parts.name in LOCAL_NAMES


def is_same_origin(headers: Headers) -> bool:
    """Whether there is no Origin, or the one of the Host that was asked."""
    origins = headers.getlist("origin")
    return not origins or (len(origins) == 1 and _is_own(origins[0], _authority_of(headers)))


def names_this_machine(headers: Headers) -> bool:
    """Whether the Host is localhost, 127.0.0.1 or [::1], with any port."""
    authority = _authority_of(headers)
    return authority is not None and authority.name in LOCAL_NAMES


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    return _is_local(host.lower())


def _authority_of(headers: Headers) -> Authority | None:
    hosts = headers.getlist("host")
    found = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None:
        return None
    port = found["port"]
    return Authority((found["v6"] or found["name"]).lower(), None if port is None else int(port))


def _web_origin(origin: str) -> Authority | None:
    scheme, separator, rest = origin.partition("://")
    found = _AUTHORITY.fullmatch(rest)
    default_port = DEFAULT_PORTS.get(scheme.lower())
    if not separator or found is None or default_port is None:
        return None
    name = (found["v6"] or found["name"]).lower()
    return Authority(name, int(found["port"] or default_port))


def _is_own(origin: str, own: Authority | None) -> bool:
    parts = _web_origin(origin)
    if parts is None or own is None or parts.name != own.name:
        return False
    # A proxy that ends TLS leaves no trace of the scheme, so a Host without a port fits both.
    return parts.port == own.port or (own.port is None and parts.port in DEFAULT_PORTS.values())


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    return host in LOCAL_NAMES or (_is_address(host) and ip_address(host).is_loopback)
