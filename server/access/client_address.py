"""Client addresses: the peer or, behind trusted proxies, the address they forward."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any

from starlette.datastructures import Headers

from server.config.settings import AccessLimits
from server.errors import Forbidden

SITE_BITS = 64
"""Bits of an IPv6 address that identify a network; its owner can change the rest at will."""
MAPPED_BITS = 96
"""Bits of an IPv6 address before the IPv4 address that it maps (`::ffff:10.0.0.1`)."""
LONGEST = 64
"""Maximum characters of an address, including a zone; longer text is not parsed and not cached."""
REMEMBERED = 4096
"""Cached parsed addresses: parsing takes longer than everything else done with an address."""
SECURE: Mapping[str, bool] = {"http": False, "https": True, "ws": False, "wss": True}
"""Schemes as proxies write them, and whether the client's connection is encrypted."""
SHOWN = 20
"""Characters shown of a refused word."""
UNKNOWN = "unknown"
"""The address of a client without one, such as a Unix socket's."""


class Addresses:
    """Identifies clients by their address, IPv6 addresses by their network."""

    def __init__(self, config: AccessLimits) -> None:
        self._proxies = [_network(text) for text in config.trusted_proxies]
        unlimited = [_network(text) for text in config.unlimited_addresses]
        # Asked half a dozen times for every connection.
        self._is_unlimited = lru_cache(REMEMBERED)(partial(_is_within, networks=unlimited))

    def is_proxy(self, peer: str) -> bool:
        """Return whether the forwarding headers of this peer are trusted."""
        return _is_within(peer, self._proxies)

    def is_unlimited(self, address: str) -> bool:
        """Return whether a client or peer is exempt from limits."""
        return len(address) <= LONGEST and self._is_unlimited(address.partition("/")[0])

    def client(self, peer: str | None, headers: Headers) -> str:
        """Return the client's address, by which it is counted.

        Behind a trusted proxy it is the last address of X-Forwarded-For that is not itself a proxy:
        the client may have written the addresses before it.
        """
        address = peer or UNKNOWN
        if self._proxies and self.is_proxy(address):
            forwarded = ",".join(headers.getlist("x-forwarded-for")).split(",")
            for part in reversed(forwarded):
                hop = _forwarded_in(part)
                if hop is None:
                    break
                address = str(hop)
                if not self.is_proxy(address):
                    break
        return site_of(address)

    def is_https(self, peer: str | None, headers: Headers) -> bool:
        """Return whether a trusted proxy reports that the client used https or wss.

        Of a list the first word counts, which is from the proxy nearest to the client. Raises
        Forbidden for a word that is not a web scheme.
        """
        if peer is None or not self.is_proxy(peer):
            return False
        forwarded = ",".join(headers.getlist("x-forwarded-proto")).split(",")
        word = next((word for part in forwarded if (word := part.strip(' \t"').lower())), "http")
        if word not in SECURE:
            raise Forbidden(
                f"X-Forwarded-Proto is {word[:SHOWN]!r}, but must be http, https, ws or wss"
            )
        return SECURE[word]


def peer_of(scope: Mapping[str, Any]) -> str | None:
    """Return the address of the peer in an ASGI scope."""
    client: Sequence[Any] | None = scope.get("client")
    return None if client is None else str(client[0])


@lru_cache(REMEMBERED)
def site_of(address: str) -> str:
    """Return the key under which an address is counted."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> SITE_BITS << SITE_BITS, SITE_BITS)))
    return address if parsed is None else str(parsed)


def _forwarded_in(part: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a part of X-Forwarded-For; some proxies add a port to it."""
    text = part.strip(' \t"')
    if text.startswith("["):
        return _parsed(text[1:].partition("]")[0])
    return _parsed(text.partition(":")[0] if text.count(":") == 1 else text)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    return _read(text) if len(text) <= LONGEST else None


@lru_cache(REMEMBERED)
def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _network(text: str) -> IPv4Network | IPv6Network:
    """Return a network in the form in which addresses are compared with it, IPv4 where it is."""
    network = ip_network(text)
    first = network.network_address
    mapped = first.ipv4_mapped if isinstance(first, IPv6Address) else None
    if mapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))


def _is_within(text: str, networks: Sequence[Any]) -> bool:
    parsed = _parsed(text)
    return parsed is not None and any(parsed in network for network in networks)
