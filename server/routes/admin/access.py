"""Access to administration: with its key or, where none is set, from this machine."""

import hashlib
import hmac

from starlette.datastructures import Headers
from starlette.requests import Request

from server.access.auth import is_same_origin, names_this_machine
from server.access.client_address import peer_of
from server.access.rate_limits import RateClass, RateLimits
from server.config.origins import is_loopback
from server.config.settings import ServerConfig
from server.errors import Forbidden, Unauthorized

KEY_HEADER = "x-admin-api-key"
KEYLESS = "keyless-loopback"
NOBODY = "unknown"
FROM_A_PROXY = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
)
"""Headers that proxies add, besides all that begin with `x-forwarded`."""
HERE = frozenset(("same-origin", "none"))
LABEL_CHARACTERS = 8


class AdminAccess:
    """Checks access to administration.

    If a key is set, every request must carry it. Without one, a request must arrive at a loopback
    listener from a loopback address, name this machine as its Host, and show no header of a proxy;
    where agents run commands on this machine, which could do that, there is no access without a key.
    Requests from pages of other sites are refused in either case. Wrong keys count as those of the
    other addresses do: an address that has shown too many is not asked for another.
    """

    def __init__(self, config: ServerConfig, rates: RateLimits) -> None:
        self._rates = rates
        self._listens_here = config.local
        self._shared_with_agents = config.runtime_kind == "local"
        key = config.admin_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._label = KEYLESS if self._key is None else f"key:{_label(self._key)}"

    def check(self, request: Request) -> str:
        """Return the caller as the audit names it. Raise Forbidden, Unauthorized, RateLimited."""
        headers = request.headers
        if headers.get("sec-fetch-site", "none") not in HERE or not is_same_origin(headers):
            raise Forbidden("Administration refuses requests from pages of other sites")
        if self._key is not None:
            self._check_key(request, self._key)
        elif self._shared_with_agents:
            raise Forbidden(
                "Administration needs an admin key (admin_key) where agents run commands on this machine"
            )
        elif not self._is_at_this_machine(request):
            raise Forbidden(
                "Administration from other machines or through a proxy needs an admin key (admin_key)"
            )
        return self._label

    def _check_key(self, request: Request, key: bytes) -> None:
        address = self._rates.addresses.client(peer_of(request.scope), request.headers)
        self._rates.check(RateClass.FAILURES, address)
        keys = _keys_of(request.headers)
        if not any(hmac.compare_digest(given, key) for given in keys):
            if any(keys):
                self._rates.note(RateClass.FAILURES, address)
            raise Unauthorized("The admin key is missing or wrong")

    def _is_at_this_machine(self, request: Request) -> bool:
        peer = request.client
        return (
            self._listens_here
            and peer is not None
            and is_loopback(peer.host)
            and names_this_machine(request.headers)
            and not any(_is_from_a_proxy(name) for name in request.headers)
        )


def _keys_of(headers: Headers) -> list[bytes]:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = [headers.get(KEY_HEADER, ""), token.strip() if scheme.lower() == "bearer" else ""]
    return [text.encode(errors="surrogateescape") for text in given]


def _is_from_a_proxy(name: str) -> bool:
    return name in FROM_A_PROXY or name.startswith("x-forwarded")


def _label(key: bytes) -> str:
    """Return a label that distinguishes keys and reveals no part of them."""
    return hmac.new(b"parley admin key", key, hashlib.sha256).hexdigest()[:LABEL_CHARACTERS]
