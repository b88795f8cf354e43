"""Tools of tool servers under the names by which a model calls them: valid, short, and each its own."""

import re
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from runtime_stub.mcp.connection import Connection, Server
from runtime_stub.mcp.listing import MOST_TOOLS
from runtime_stub.tools import Tool
from storage.users.mcp import CommandServer

LONGEST_NAME = 64
"""Characters of a tool's name, which are letters, digits, `_` and `-`: what every provider takes."""
LONGEST_SERVER = 24
MOST_SCHEMAS_BYTES = 1024 * 1024
"""Bytes of the schemas of all tools: far more than any model reads with a request."""
BETWEEN = "__"

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class Entry(NamedTuple):
    """A tool, the connection to its server, and its name there."""

    tool: Tool
    connection: Connection
    listed: str


class Catalogue(NamedTuple):
    """The tools of all servers by their names, and what there is to say of others."""

    entries: dict[str, Entry]
    told: Sequence[str]


def names_of(servers: Iterable[Server]) -> list[str]:
    """Return a name for each server: of a program its own, else the host's."""
    names: list[str] = []
    for server in servers:
        wanted = server.name if isinstance(server, CommandServer) else _host_of(server.url)
        names.append(_free(_valid(wanted, LONGEST_SERVER, "server"), LONGEST_SERVER, names))
    return names


def catalogue_of(connections: Sequence[Connection]) -> Catalogue:
    """Return the tools that the servers listed, in their order, as many as models take."""
    entries: dict[str, Entry] = {}
    told: list[str] = []
    room = MOST_SCHEMAS_BYTES
    for connection in connections:
        listing = connection.listing
        left_out, too_long = listing.left_out, 0
        for one in listing.tools:
            if len(entries) >= MOST_TOOLS:
                left_out += 1
            elif one.size > room:
                too_long += 1
            else:
                room -= one.size
                name = _free(_named(connection.name, one.name), LONGEST_NAME, entries)
                tool = Tool(name, one.description, one.schema, "mcp")
                entries[name] = Entry(tool, connection, one.name)
        of = f"Of the tool server {connection.name}, "
        if left_out:
            told.append(
                f"{of}{left_out} or more of the tools are left out: {MOST_TOOLS} are used in all."
            )
        if too_long:
            told.append(
                f"{of}{too_long} of the tools are left out: what all tools take is described at more"
                f" than {MOST_SCHEMAS_BYTES // 2**20} MiB."
            )
        if listing.unusable:
            told.append(
                f"{of}{listing.unusable} of the tools are left out: what they take is described at"
                " such length, or in such a way, that no model is told of it."
            )
    return Catalogue(entries, told)


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _named(server: str, tool: str) -> str:
    room = LONGEST_NAME - len(server) - len(BETWEEN)
    return f"{server}{BETWEEN}{_valid(tool, room, 'tool')}"


def _valid(wanted: str, longest: int, default: str) -> str:
    """Return a name of permitted characters; one that is cut ends in a mark of the whole."""
    name = _NOT_IN_NAMES.sub("_", wanted).strip("_") or default
    if len(name) <= longest:
        return name
    mark = sha256(wanted.encode()).hexdigest()[:6]
    return f"{name[: longest - len(mark) - 1]}_{mark}"


def _free(name: str, longest: int, taken: Collection[str]) -> str:
    """Return the name, or with the first number that nobody else has."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name[: longest - len(str(number)) - 1]}_{number}"
    return found
