"""The answer of a person to a question with a JSON schema: its value, or what is wrong with it in words."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import Field, TypeAdapter

from events.actions import MessageAction
from runtime_stub.errors import RuntimeFloorError
from runtime_stub.tools import JsonSchema

TYPES: Mapping[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
BOUNDS: Mapping[str, Mapping[str, str]] = {
    "string": {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"},
    "integer": {"minimum": "ge", "maximum": "le"},
    "number": {"minimum": "ge", "maximum": "le"},
    "boolean": {},
}
"""The keywords that bound a value, by its type, and what pydantic calls them."""
NOTES = frozenset(("$schema", "title", "description", "default", "examples"))
"""Keywords that say something and bound nothing."""
WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
}


class BadAnswer(RuntimeFloorError):
    """The answer does not fit its question's schema; the text says what would, for a person."""


def plain_schema(schema: JsonSchema) -> dict[str, Any]:
    """Return a copy of a schema that answers can be held to.

    That is one for a text, a number, yes or no, one of a list (`enum`), or an object of such values.
    Raises ValueError for any other: none of its keywords may go unchecked.
    """
    try:
        copied: dict[str, Any] = orjson.loads(orjson.dumps(dict(schema)))
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ValueError("a schema is an object of JSON") from error
    _check(copied)
    for one in _properties(copied).values():
        if not isinstance(one, dict) or one.get("type") == "object":
            raise ValueError("the properties of an answer are single values")
        _check(one)
    return copied


def answer_value(text: str, schema: JsonSchema) -> Any:
    """Return the value that an answer gives. Raises BadAnswer, and ValueError as `plain_schema`."""
    plain = plain_schema(schema)
    try:
        if plain.get("type") == "object":
            return _object(text, plain)
        return _value(text if plain.get("type") == "string" else text.strip(), plain)
    except ValueError:
        raise BadAnswer(f"That is not {_wanted(plain)}.") from None


def fault_in(answer: MessageAction, schema: JsonSchema | None) -> str | None:
    """Return what is wrong with an answer, in words for who gave it; None if it fits."""
    if schema is not None:
        try:
            answer_value(answer.content, schema)
        except BadAnswer as error:
            return str(error)
    return None


def _check(schema: Mapping[str, Any]) -> None:
    kind = str(schema.get("type"))
    known = set(NOTES)
    if kind == "object":
        known |= {"type", "properties", "required", "additionalProperties"}
    elif "enum" in schema:
        known |= {"type", "enum"}
    elif kind in TYPES:
        known |= {"type", *BOUNDS[kind]}
    else:
        raise ValueError("an answer has the type string, integer, number, boolean or object")
    unknown = schema.keys() - known
    if unknown:
        raise ValueError(f"answers are not checked for {', '.join(sorted(unknown))}")
    if "enum" in schema:
        choices = schema["enum"]
        if not isinstance(choices, list) or not choices:
            raise ValueError("enum lists the answers that fit")
    elif kind in TYPES:
        _adapter(schema)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties", {})
    if not isinstance(found, dict):
        raise ValueError("properties is an object")  # noqa: TRY004 - as any schema that does not fit
    return found


def _adapter(schema: Mapping[str, Any]) -> TypeAdapter[Any]:
    kind = schema["type"]
    bounds = {name: schema[key] for key, name in BOUNDS[kind].items() if key in schema}
    if kind == "number":
        bounds["allow_inf_nan"] = False
    try:
        bounded: Any = Annotated[TYPES[kind], Field(**bounds)]
        return TypeAdapter(bounded)
    except Exception as error:
        # Of a bound that is none: what pydantic raises here is of many kinds.
        raise ValueError("a bound of the schema does not fit its type") from error


def _value(given: object, schema: Mapping[str, Any]) -> Any:
    """Return a value that fits. Raises ValueError."""
    if "enum" not in schema:
        # Of a text people write "80" and "yes"; in an object of JSON these are other types.
        return _adapter(schema).validate_python(given, strict=not isinstance(given, str))
    for choice in schema["enum"]:
        if choice == given and isinstance(choice, bool) == isinstance(given, bool):
            return choice
    said = str(given).strip().casefold()
    for choice in schema["enum"]:
        if _shown(choice).casefold() == said:
            return choice
    raise ValueError("none of the choices")


def _object(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object that fits. Raises ValueError."""
    given = orjson.loads(text)
    if not isinstance(given, dict) or set(schema.get("required", ())) - given.keys():
        raise ValueError("no object, or something is missing")
    properties = _properties(schema)
    if schema.get("additionalProperties") is False and given.keys() - properties.keys():
        raise ValueError("something is too much")
    return given | {
        name: _value(given[name], properties[name]) for name in given if name in properties
    }


def _shown(choice: object) -> str:
    return choice if isinstance(choice, str) else orjson.dumps(choice).decode()


def _wanted(schema: Mapping[str, Any]) -> str:
    """Say in words what fits."""
    if schema.get("type") == "object":
        fields = [f"{name}: {_wanted(one)}" for name, one in _properties(schema).items()]
        return f"an object of JSON with {'; '.join(fields)}" if fields else "an object of JSON"
    if "enum" in schema:
        return f"one of: {', '.join(map(_shown, schema['enum']))}"
    kind = schema["type"]
    names = ("minLength", "maxLength") if kind == "string" else ("minimum", "maximum")
    least, most = (schema.get(name) for name in names)
    if least is not None and most is not None:
        bounds = f" from {least} to {most}"
    elif least is not None or most is not None:
        bounds = f" of at least {least}" if most is None else f" of at most {most}"
    else:
        bounds = ""
    if kind == "string":
        bounds = f"{bounds.replace(' from', ' of')} characters" if bounds else ""
        bounds += f" that matches {schema['pattern']}" if "pattern" in schema else ""
    return WORDS[kind] + bounds
