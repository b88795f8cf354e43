"""Tools of tool servers under the names by which a model calls them: valid, short, and each its own."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
from mcp.types import Tool as ListedTool

from runtime_stub.mcp.connection import Connection, Server
from runtime_stub.tools import JsonSchema, Tool
from storage.users.mcp import CommandServer

MOST_TOOLS = 120
"""Tools in all: providers of models take 128, some of which are the runtime's."""
LONGEST_NAME = 64
"""Characters of a tool's name, which are letters, digits, `_` and `-`: what every provider takes."""
LONGEST_SERVER = 24
LONGEST_DESCRIPTION = 1024
MOST_SCHEMA_BYTES = 32 * 1024
BETWEEN = "__"
DEEPEST_SCHEMA = 30
OF_ONE = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
"""Keywords whose value is a schema."""
OF_NAMED = frozenset(
    ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
)
OF_SOME = OF_NAMED | {"allOf", "anyOf", "oneOf", "prefixItems"}
"""Keywords whose value is an object or a list of schemas."""
PLAIN: Mapping[str, tuple[type, ...]] = {
    "$ref": (str,),
    "enum": (list,),
    "required": (list,),
    "type": (str, list),
    "description": (str,),
    "title": (str,),
}
"""Keywords whose value is plain, with its types."""

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
    for connection in connections:
        unusable = left_out = 0
        for listed in connection.tools:
            schema = schema_of(listed)
            if schema is None:
                unusable += 1
            elif len(entries) >= MOST_TOOLS:
                left_out += 1
            else:
                name = _free(_named(connection.name, listed.name), LONGEST_NAME, entries)
                tool = Tool(name, _description(listed), schema, "mcp")
                entries[name] = Entry(tool, connection, listed.name)
        if left_out:
            told.append(
                f"Of the tool server {connection.name}, {left_out} or more of the tools are left out:"
                f" {MOST_TOOLS} are used in all."
            )
        if unusable:
            told.append(
                f"Of the tool server {connection.name}, {unusable} of the tools are left out: what they"
                " take is described at such length, or in such a way, that no model is told of it."
            )
    return Catalogue(entries, told)


def schema_of(listed: ListedTool) -> JsonSchema | None:
    """Return the schema of a tool's arguments; None for one that models do not take."""
    schema = {"type": "object", "properties": {}, **listed.input_schema}
    try:
        length = len(orjson.dumps(schema))
    except TypeError:  # an integer beyond 64 bits, or nested without end
        return None
    if length > MOST_SCHEMA_BYTES or schema["type"] != "object":
        return None
    return schema if _is_schema(schema, DEEPEST_SCHEMA) else None


def _is_schema(value: object, depth: int) -> bool:
    """Return whether a value has the form of a schema: one that has not breaks a model's client."""
    if isinstance(value, bool):
        return True
    if not isinstance(value, dict) or depth == 0:
        return False
    inner: list[object] = [value[name] for name in OF_ONE if name in value]
    for name in OF_SOME & value.keys():
        kind = dict if name in OF_NAMED else list
        found = value[name]
        if not isinstance(found, kind):
            return False
        inner += found.values() if isinstance(found, dict) else found
    right = all(isinstance(value[name], kinds) for name, kinds in PLAIN.items() if name in value)
    return right and all(_is_schema(one, depth - 1) for one in inner)


def _description(listed: ListedTool) -> str:
    text = listed.description or listed.title or listed.name
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[: LONGEST_DESCRIPTION - 1]}…"


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
