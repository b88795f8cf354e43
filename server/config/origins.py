"""Host names and origins in their normal form for comparison."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
WEB_SCHEMES: Mapping[str, str] = {"ws": "http", "wss": "https"}
"""The scheme of a page's origin, by the scheme of its socket's URL."""
LAST_PORT = 65535

_AUTHORITY = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>\d{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII | re.IGNORECASE)
_OTHER_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+")


class Authority(NamedTuple):
    """A host and its port; the name is in lower case, IPv6 in its shortest form, no brackets."""

    name: str
    port: int | None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def authority_of(text: str) -> Authority | None:
    """Return the host and port that a Host header names; None where it names none."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    port = None if found["port"] is None else int(found["port"])
    if port is not None and port > LAST_PORT:
        return None
    if found["v6"] is None:
        return Authority(found["name"].lower().removesuffix("."), port)
    try:
        return Authority(str(IPv6Address(found["v6"])), port)
    except ValueError:
        return None


def normal_origin(text: str) -> str | None:
    """Return an origin as browsers send it; None if it is invalid.

    Names are in lower case and ASCII, and the scheme's own port is left out. Of schemes other than
    http and https the rest stays as it is.
    """
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        lower = text.lower()
        return lower if _OTHER_ORIGIN.fullmatch(lower) else None
    authority = authority_of(rest) if separator else None
    if authority is None:
        return None
    port = None if authority.port == DEFAULT_PORTS[scheme] else authority.port
    return f"{scheme}://{authority._replace(port=port)}"


def checked_origin(text: str) -> str:
    """Return an origin from a setting in its normal form. Raises ValueError if it is invalid."""
    scheme, separator, rest = text.strip().removesuffix("/").partition("://")
    name, colon, port = rest.rpartition(":")
    if not (colon and port.isdigit()):
        name, colon, port = rest, "", ""
    scheme = WEB_SCHEMES.get(scheme.lower(), scheme)
    found = normal_origin(f"{scheme}{separator}{_in_ascii(name)}{colon}{port}")
    if found is None:
        raise ValueError("not an origin of the form scheme://host or scheme://host:port")
    return found


def normal_host(text: str) -> str:
    """Return a host name from a setting in its normal form, without a port.

    Raises ValueError if it is invalid, such as a URL or a pattern.
    """
    host = text.strip()
    bare = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    name, colon, port = bare.rpartition(":")
    if not (colon and port.isdigit()):
        name, colon, port = bare, "", ""
    authority = authority_of(f"{_in_ascii(name)}{colon}{port}")
    if authority is None or not authority.name:
        raise ValueError(
            "not a host name such as chat.example.org, without scheme, path or pattern"
        )
    return authority.name


def _in_ascii(name: str) -> str:
    """Return a host name as browsers request it, with letters outside ASCII encoded.

    Raises ValueError for names that browsers would rewrite, such as 127.1.
    """
    bare = name.removesuffix(".")
    if _NUMBER.fullmatch(bare.rpartition(".")[2]):
        IPv4Address(bare)
    if name.isascii():
        return name
    import idna  # noqa: PLC0415 - its tables are large, and such names are rare

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{name} is not a host name") from error
