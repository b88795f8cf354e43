"""JSON schemas of Python types, and examples made of them, for both API documents."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

from events.schemas import REFERENCE, Schema, UntitledSchemas

Mode = Literal["validation", "serialization"]

MAX_DEPTH = 12
"""Schemas that nest deeper, or in themselves, end in an empty example."""

_EXAMPLES: Mapping[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": False,
    "null": None,
}
_BY_NAME: Mapping[str, str] = {
    "conversation_id": "8f6a0c1d2b3e4f5a9c7d6e5f4a3b2c1d",
    "session_id": "8f6a0c1d2b3e4f5a9c7d6e5f4a3b2c1d",
    "title": "Tidy the tests",
    "message": "Tidy the tests, please.",
    "content": "Tidy the tests, please.",
    "initial_user_msg": "Tidy the tests, please.",
    "thought": "The slow ones first.",
    "command": "ls tests",
    "code": "print(1 + 1)",
    "path": "tests/test_one.py",
    "file_path": "tests/test_one.py",
    "name": "DEPLOY_TOKEN",
    "url": "https://example.org/tools",
    "repo": "example/project",
    "repository": "example/project",
    "selected_repository": "example/project",
    "selected_branch": "main",
    "language": "en",
    "agent": "scripted",
    "description": "For the deployment",
}
"""Example words that replace a meaningless text."""
_FORMATS: Mapping[str, str] = {"date-time": "2026-03-02T09:15:07.120334Z", "binary": "(bytes)"}


class TypeSchemas:
    """The schemas of some types; schemas they refer to are in `components`."""

    def __init__(self, types: Iterable[tuple[Any, Mode]]) -> None:
        wanted = list(types)
        found, whole = TypeAdapter.json_schemas(
            [(place, mode, TypeAdapter(one)) for place, (one, mode) in enumerate(wanted)],
            ref_template=REFERENCE,
            schema_generator=UntitledSchemas,
        )
        self.components: dict[str, Schema] = whole.get("$defs", {})
        self._found = {
            (id(one), mode): found[place, mode] for place, (one, mode) in enumerate(wanted)
        }
        # Ids of types name them only as long as the types are there.
        self._kept = wanted

    def of(self, one: Any, mode: Mode) -> Schema:
        """Return the schema of one of the types."""
        return self._found[id(one), mode]


def example_of(schema: Schema, components: Mapping[str, Schema], depth: int = 0) -> Any:
    """Return a valid value: the schema's examples first, then known words, defaults, types."""
    if depth > MAX_DEPTH:
        return None
    chosen = [*schema.get("examples", ()), *schema.get("enum", ())]
    chosen += [schema[name] for name in ("const", "default") if schema.get(name) is not None]
    if chosen:
        return chosen[0]
    if "allOf" in schema:
        parts = (example_of(part, components, depth + 1) for part in schema["allOf"])
        return {name: value for part in parts for name, value in part.items()}
    inner = _inner(schema, components)
    if inner is not None:
        return example_of(inner, components, depth + 1)
    return _example_by_type(schema, components, depth)


def _example_of_field(
    name: str, schema: Schema, components: Mapping[str, Schema], depth: int
) -> Any:
    made = example_of(schema, components, depth)
    return _BY_NAME.get(name, made) if made == _EXAMPLES["string"] else made


def _inner(schema: Schema, components: Mapping[str, Schema]) -> Schema | None:
    if "$ref" in schema:
        return components[schema["$ref"].rpartition("/")[2]]
    choices: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    return choices[0] if choices else None


def _example_by_type(schema: Schema, components: Mapping[str, Schema], depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        properties: Mapping[str, Schema] = schema.get("properties", {})
        return {
            name: _example_of_field(name, one, components, depth + 1)
            for name, one in properties.items()
        }
    if kind == "array":
        empty = "items" not in schema or schema.get("maxItems") == 0
        return [] if empty else [example_of(schema["items"], components, depth + 1)]
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _FORMATS.get(schema.get("format", ""), _EXAMPLES.get(str(kind)))
