"""The tools that a server lists, as many as can be used, each looked at before a model is told of it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from mcp.types import Tool as ListedTool

from runtime_stub.tools import JsonSchema

MOST_TOOLS = 120
"""Tools in all: providers of models take 128, some of which are the runtime's."""
LONGEST_DESCRIPTION = 1024
MOST_SCHEMA_BYTES = 32 * 1024
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


class Listed(NamedTuple):
    """A tool that models can be told of; `size` is that of its schema in bytes."""

    name: str
    description: str
    schema: JsonSchema
    size: int


class Listing(NamedTuple):
    """The usable tools of a server, how many are not usable, and how many were not looked at."""

    tools: Sequence[Listed] = ()
    unusable: int = 0
    left_out: int = 0


async def listing_of(found: Sequence[ListedTool]) -> Listing:
    """Look at what a server lists, tool for tool: the event loop does other things in between."""
    tools: list[Listed] = []
    unusable = 0
    for number, listed in enumerate(found):
        if len(tools) == MOST_TOOLS:
            return Listing(tools, unusable, len(found) - number)
        await asyncio.sleep(0)
        usable = _usable(listed)
        if usable is None:
            unusable += 1
        else:
            tools.append(usable)
    return Listing(tools, unusable)


def _usable(listed: ListedTool) -> Listed | None:
    """Return a tool with the schema of its arguments; None for one that models do not take."""
    schema = {"type": "object", "properties": {}, **listed.input_schema}
    try:
        size = len(orjson.dumps(schema))
    except TypeError:  # an integer beyond 64 bits, or nested without end
        return None
    if size > MOST_SCHEMA_BYTES or schema["type"] != "object":
        return None
    if not _is_schema(schema, DEEPEST_SCHEMA):
        return None
    return Listed(listed.name, _description(listed), schema, size)


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
