"""Authentication: keys, hosts, origins, the principal behind a request, and the owner it acts for."""

import hmac
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any, NewType, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from server.access.client_address import Addresses, peer_of
from server.config.origins import (
    DEFAULT_PORTS,
    Authority,
    authority_of,
    is_loopback,
    normal_origin,
)
from server.config.settings import ServerConfig
from server.errors import Forbidden, NotAvailable, SessionKeyRequired, Unauthorized
from server.user_code import UserCode

logger = logging.getLogger(__name__)

KEY_HEADER = "x-session-api-key"
LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
NO_KEY = frozenset(("", "null", "undefined"))
"""Values a page sends for its key when it has none."""

_OWNER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")

OwnerId = NewType("OwnerId", str)
"""The opaque name of an owner: 1 to 255 characters, neither controls nor surrogates.

Only `owner_id` makes one. All else compares owner ids for equality and never takes them apart;
contracts that custom classes implement call the parameter `user_id`.
"""

Owner: TypeAlias = OwnerId | None
"""None owns the records without an owner, never all records."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The user behind a request. A `user_id` of None is the anonymous user."""

    user_id: str | None = None

    def owner(self) -> str | None:
        """Return the text that names this principal's records; None means those without an owner.

        Principals that return equal texts share all their records, others share none.
        """
        return self.user_id


def owner_id(principal: Principal) -> Owner:
    """Return the owner id of a principal. Raise Unauthorized when its text cannot be one."""
    text: object = principal.owner()
    if text is None:
        return None
    if not isinstance(text, str) or not _OWNER_ID.fullmatch(text):
        raise Unauthorized("The user's id is not acceptable")
    return OwnerId(str.__str__(text))  # no subclass with an equality of its own


class UserAuth(ABC):
    """Identifies the user of every request and connection; created once, without arguments.

    The session key, if there is one, is checked before.
    """

    @abstractmethod
    async def user_id(self, headers: Mapping[str, str]) -> str | Principal | None:
        """Return the id of the user who sent a request with these headers (names in lower case).

        None is the anonymous user. A class with more information about users returns a subclass of
        Principal. Raises Unauthorized to refuse; its text is shown.
        """


class AnyUser(UserAuth):
    """The default: every request is anonymous."""

    async def user_id(self, headers: Mapping[str, str]) -> str | None:  # noqa: ARG002 - the contract's
        """None."""
        return None


class Authenticator:
    """Checks keys, hosts and origins.

    Without a key the server trusts every client that reaches it, but must not trust pages of other
    sites: the Host must then be a name of this server (DNS could point any other name at it), which
    is localhost, 127.0.0.1, [::1], the `host` setting, one of `permitted_hosts` or the host of a
    permitted origin; where the server listens to other machines, it may also be any IP address.
    With a key every Host will do, unless `permitted_hosts` names some.

    An Origin must be the server's own - scheme, host and port - or one of
    `permitted_cors_origins`. The own scheme is http, unless `https` is set or a trusted proxy says
    otherwise.
    """

    def __init__(self, config: ServerConfig, users: UserAuth | None = None) -> None:
        self._users = users or AnyUser()
        self._code = UserCode("user_auth_class")
        self._seconds = config.handshake_seconds
        key = config.session_api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._origins = frozenset(config.permitted_cors_origins)
        self._addresses = Addresses(config)
        self._https = config.https
        permitted = (urlsplit(origin).hostname for origin in self._origins)
        own = _own_name(config.host)
        named = set(config.permitted_hosts)
        self._names = LOCAL_NAMES | {own} | named | {name for name in permitted if name}
        self._any_host = self._key is not None and not named
        self._open = not is_loopback(own)

    def key_matches(self, text: str | None) -> bool:
        """Return whether this is the session key; True if none is set."""
        if self._key is None:
            return True
        given = (text or "").encode(errors="surrogatepass")  # no text is an error, whatever it is
        return hmac.compare_digest(given, self._key) and text not in NO_KEY

    def connection_key_matches(self, given: Iterable[str | None], scope: Mapping[str, Any]) -> bool:
        """Return whether one of these keys, or one in the handshake's headers, is the session key.

        A header with another purpose, such as a token that identifies users, does not count as a
        wrong key.
        """
        headers = Headers(raw=scope.get("headers", []))
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else None
        return any(map(self.key_matches, (*given, headers.get(KEY_HEADER), bearer)))

    async def owner(self, scope: Mapping[str, Any]) -> Owner:
        """Return the owner an ASGI scope acts for. Raise Unauthorized, NotAvailable."""
        if type(self._users) is AnyUser:
            return None
        headers = Headers(raw=scope.get("headers", []))
        ask = partial(_ask, self._users, headers)
        try:
            return await self._code.wait(ask, self._seconds, "telling users apart")
        except Unauthorized:
            raise
        except Exception as error:
            logger.exception("user_auth_class failed to identify a user")
            raise NotAvailable("The user cannot be identified now; try again") from error

    def check_key(self, headers: Headers) -> None:
        """Raise SessionKeyRequired unless the header holds the key, or none is set."""
        if not self.key_matches(headers.get(KEY_HEADER)):
            raise SessionKeyRequired("The session API key is missing or wrong")

    def check_source(self, scope: Mapping[str, Any]) -> None:
        """Raise Forbidden when Host or Origin of an ASGI scope is not acceptable."""
        headers = Headers(raw=list(scope.get("headers", [])))
        if not self.host_allowed(headers):
            raise Forbidden(
                "The Host header names no permitted host; use localhost, or add the host to permitted_hosts"
            )
        if not self.origin_allowed(headers, peer_of(scope)):
            own = f"{self._own_scheme(headers, peer_of(scope))}://{_authority_of(headers) or '-'}"
            raise Forbidden(
                f"This origin is not permitted; the server's own is {own}: "
                "see permitted_cors_origins, and https or trusted_proxies behind a proxy"
            )
        if "origin" not in headers and _crosses_sites(scope, headers):
            raise Forbidden("Requests from pages of other sites are not permitted")

    def host_allowed(self, headers: Headers) -> bool:
        """Return whether the Host is a name of this server."""
        if self._any_host:
            return True
        authority = _authority_of(headers)
        if authority is None:
            return False
        return authority.name in self._names or (self._open and _is_address(authority.name))

    def origin_allowed(self, headers: Headers, peer: str | None = None) -> bool:
        """Return whether there is no Origin, or a permitted one.

        `peer` is the address of the peer. Raises Forbidden for an invalid scheme from a trusted
        proxy.
        """
        origins = headers.getlist("origin")
        if not origins:
            return True
        if len(origins) > 1:
            return False
        if normal_origin(origins[0]) in self._origins:
            return True
        scheme = self._own_scheme(headers, peer)
        return _is_own(origins[0], _authority_of(headers), scheme)

    def _own_scheme(self, headers: Headers, peer: str | None) -> str:
        return "https" if self._https or self._addresses.is_https(peer, headers) else "http"


def is_same_origin(headers: Headers) -> bool:
    """Return whether there is no Origin, or one with the host of the Host, by either scheme."""
    origins = headers.getlist("origin")
    own = _authority_of(headers)
    return not origins or (
        len(origins) == 1 and any(_is_own(origins[0], own, scheme) for scheme in DEFAULT_PORTS)
    )


def names_this_machine(headers: Headers) -> bool:
    """Return whether the Host is localhost, 127.0.0.1 or [::1], with any port."""
    authority = _authority_of(headers)
    return authority is not None and authority.name in LOCAL_NAMES


async def _ask(users: UserAuth, headers: Headers) -> Owner:
    found = await users.user_id(headers)
    return owner_id(found if isinstance(found, Principal) else Principal(found))


def _own_name(host: str) -> str:
    authority = authority_of(f"[{host}]" if ":" in host and "[" not in host else host)
    return host.lower() if authority is None else authority.name


def _authority_of(headers: Headers) -> Authority | None:
    hosts = headers.getlist("host")
    return authority_of(hosts[0]) if len(hosts) == 1 else None


def _is_own(origin: str, own: Authority | None, own_scheme: str) -> bool:
    if own is None:
        return False
    return normal_origin(origin) == normal_origin(f"{own_scheme}://{own}")


def _crosses_sites(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Return whether a browser reports that a page of another site sends a changing request."""
    changes = scope.get("method", "GET") not in ("GET", "HEAD", "OPTIONS")
    return changes and headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
