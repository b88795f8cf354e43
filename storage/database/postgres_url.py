"""The hosts that the address of a PostgreSQL database names; needs no driver."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_PORT = 5432
TARGETS = frozenset(("any", "primary", "read-write"))
"""Values of `target_session_attrs` that leave a host that takes writes."""


class Host(NamedTuple):
    """A host of an address: a name, an IP address or a socket's folder, and its port."""

    name: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in an address."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def check_hosts(url: str) -> None:
    """Raise ValueError, in words, for hosts that do not fit together or of which none takes writes."""
    hosts_of(url)
    target = dict(parse_qsl(urlsplit(url).query)).get("target_session_attrs", "any")
    if target not in TARGETS:
        raise ValueError(
            "target_session_attrs asks for a host that takes no writes: use read-write, primary or any"
        )


def hosts_of(url: str) -> list[Host]:
    """Return the hosts that an address names, in its order; nothing where it names none.

    Both ways of libpq are read: `//h1:p1,h2:p2/` and `host=h1,h2&port=p1,p2`, of which one port may
    serve all. Raises ValueError.
    """
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    listed = _listed(parts, asked)
    if not listed:
        return []
    names = listed.split(",")
    ports = asked.get("port", str(DEFAULT_PORT)).split(",")
    if len(ports) not in {1, len(names)}:
        raise ValueError(f"{len(names)} hosts have {len(ports)} ports: give one, or one each")
    ports = ports * len(names) if len(ports) == 1 else ports
    return [_host_of(name, port) for name, port in zip(names, ports, strict=True)]


def place_of(url: str) -> str:
    """Return the hosts and the name of a database, without who asks and the password."""
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    hosts = _listed(parts, asked) or "localhost"
    return f"{hosts}/{parts.path.removeprefix('/') or asked.get('dbname', '')}".removesuffix("/")


def _listed(parts: SplitResult, asked: Mapping[str, str]) -> str:
    """Return the hosts as they stand in an address, in either form."""
    return parts.netloc.rpartition("@")[2] or asked.get("host", "")


def _host_of(text: str, port: str) -> Host:
    if text.startswith("/"):
        return Host(text, _number_of(port))
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return Host(name, _number_of(rest.removeprefix(":") or port))
    name, _, own = text.partition(":")
    return Host(unquote(name), _number_of(own or port))


def _number_of(port: str) -> int:
    if not (port.isascii() and port.isdigit()):
        raise ValueError("a port is no number")
    return int(port)
