"""The OpenAPI document, generated from the route table and the endpoints' descriptions."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from openapi_pydantic import OpenAPI
from starlette.routing import BaseRoute

from events.client_events import CLIENT_ID
from events.errors import EventsError
from events.schemas import REFERENCE, Schema, event_schemas
from events.version import server_version
from server.access.auth import KEY_HEADER
from server.errors import (
    BadRequest,
    ErrorBody,
    Forbidden,
    NotAvailable,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
    answer_of_kind,
)
from server.routes.admin.access import KEY_HEADER as ADMIN_KEY_HEADER
from server.routes.endpoint import JSON, Description, Resource, Tag, description_of
from server.routes.request import CONVERSATION_ID
from server.schemas import Mode, TypeSchemas, example_of
from storage.errors import BadKey, ConversationNotFound, StorageError, StorageFull

KEY_NAME = "sessionKey"
ADMIN_KEY_NAME = "adminKey"
ADMIN_BEARER_NAME = "adminBearer"
ADMIN_PATH, API_PATH = "/api/admin/", "/api/"

SECURITY_SCHEMES: Mapping[str, Mapping[str, str]] = {
    KEY_NAME: {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "The value of the setting `session_api_key`; not required if the setting is unset.",
    },
    ADMIN_KEY_NAME: {
        "type": "apiKey",
        "in": "header",
        "name": ADMIN_KEY_HEADER,
        "description": "The value of the setting `admin_key`. If the setting is unset, only direct"
        " requests from the server's own machine are accepted.",
    },
    ADMIN_BEARER_NAME: {
        "type": "http",
        "scheme": "bearer",
        "description": "The admin key as a Bearer token.",
    },
}


class RequiredKeys:
    """The keys that a server requires: only those that are set."""

    def __init__(self, *, keyless: bool, admin_keyless: bool) -> None:
        self._names: Mapping[str, Sequence[str]] = {
            ADMIN_PATH: () if admin_keyless else (ADMIN_KEY_NAME, ADMIN_BEARER_NAME),
            API_PATH: () if keyless else (KEY_NAME,),
        }

    def at(self, path: str) -> list[dict[str, list[Any]]]:
        """Return the `security` of a path's operations: any one of these keys is sufficient."""
        asked = (names for start, names in self._names.items() if path.startswith(start))
        return [{name: []} for name in next(asked, ())]


EVERYWHERE = (Forbidden, RateLimited, EventsError)
"""Errors every endpoint may answer with."""
UNDER_API = (Unauthorized, NotAvailable, TooLarge, StorageError)
WITH_QUERY = (BadRequest,)
WITH_BODY = (BadRequest,)
WRITING = (UnsupportedMedia, StorageFull)
"""Errors of methods with a body, whose type is checked even if the endpoint reads none."""
UNFIT_BODY = "The body does not match its schema; the text names the field (`invalid_body`)"
TOO_MANY = answer_of_kind(RateLimited).status
RETRY_AFTER = {
    "description": "Seconds until the next request is accepted.",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
}

NARROWING = frozenset(("format", "pattern", "minLength"))
"""Keywords that may keep a text from being blank."""

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_INTRODUCTION = (
    "Conversations between people and agents as durable logs of events. Clients receive the events"
    " of a conversation live over a socket: see the AsyncAPI document at `/asyncapi.json`."
)


Schemas = Mapping[str, Schema]


class Endpoint(NamedTuple):
    """One described endpoint of the route table."""

    method: str
    path: str
    description: Description


def endpoints_of(table: Iterable[BaseRoute]) -> Iterator[Endpoint]:
    """Yield every endpoint of the table that has a description, in the table's order."""
    for route in table:
        if not isinstance(route, Resource):
            continue
        for method, endpoint in route.endpoints.items():
            description = description_of(endpoint)
            if description is not None:
                yield Endpoint(method, route.path, description)


def openapi_document(
    table: Iterable[BaseRoute], *, keyless: bool, admin_keyless: bool = True
) -> dict[str, Any]:
    """Return the document as JSON values. Raises pydantic.ValidationError if it is not valid."""
    endpoints = list(endpoints_of(table))
    schemas = TypeSchemas(_types_in(endpoints))
    components = {**event_schemas(), **schemas.components}
    asked = RequiredKeys(keyless=keyless, admin_keyless=admin_keyless)
    writer = _Writer(schemas, components, asked)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in endpoints:
        path = _PARAMETER.sub(r"{\1}", endpoint.path)
        paths[path][endpoint.method.lower()] = writer.operation(endpoint)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": server_version() or "unknown",
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # Read from where the document is: a proxy may have put a path before it.
        "servers": [{"url": "./"}],
        "tags": [{"name": tag.value} for tag in Tag],
        "paths": dict(paths),
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {name: dict(one) for name, one in SECURITY_SCHEMES.items()},
        },
    }
    OpenAPI.model_validate(document)
    return document


class _Writer:
    def __init__(self, schemas: TypeSchemas, components: Schemas, asked: RequiredKeys) -> None:
        self._schemas = schemas
        self._components = components
        self._asked = asked

    def operation(self, endpoint: Endpoint) -> dict[str, Any]:
        said = endpoint.description
        operation: dict[str, Any] = {
            "operationId": _operation_id(endpoint),
            "tags": [said.tag.value],
            "summary": said.summary,
            "parameters": [*_path_parameters(endpoint), *self._query(said), *_key_header(said)],
            "responses": self._responses(endpoint),
            "security": self._asked.at(endpoint.path),
        }
        if said.details:
            operation["description"] = said.details
        body = self._body_schema(said)
        if body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {said.body_type: self._content(body)},
            }
        return operation

    def _body_schema(self, said: Description) -> Schema | None:
        if said.body_schema is not None:
            return dict(said.body_schema)
        return None if said.body is None else self._schemas.of(said.body, "validation")

    def _content(self, schema: Schema) -> dict[str, Any]:
        return {"schema": schema, "example": example_of(schema, self._components)}

    def _query(self, said: Description) -> Iterator[dict[str, Any]]:
        if said.query is None:
            return
        schema = self._schemas.of(said.query, "validation")
        whole = self._components[schema["$ref"].rpartition("/")[2]]
        for name, one in whole["properties"].items():
            required = name in whole.get("required", ())
            taken = _without_null(one)
            yield {
                "name": name,
                "in": "query",
                "required": required,
                "schema": taken if required else _or_blank(taken),
            }

    def _responses(self, endpoint: Endpoint) -> dict[str, Any]:
        said = endpoint.description
        responses: dict[str, Any] = {}
        if said.answer is not NoReturn:
            responses[str(said.status)] = self._success(said)
        causes: dict[int, list[str]] = defaultdict(list)
        examples: dict[int, dict[str, Any]] = defaultdict(dict)
        for kind in _refusals_of(endpoint):
            answer = answer_of_kind(kind)
            cause = _first_line(kind)
            if cause not in causes[answer.status]:
                causes[answer.status].append(cause)
            shown = answer._replace(text=answer.text or cause)
            examples[answer.status].setdefault(answer.code, {"value": shown.body()})
        statuses = dict(said.statuses)
        if said.body is not None:
            statuses[422] = UNFIT_BODY
        for status, cause in statuses.items():
            causes[status].append(cause)
        for status in sorted(causes):
            content = {"schema": {"$ref": REFERENCE.format(model=ErrorBody.__name__)}}
            if status in examples:
                content["examples"] = examples[status]
            responses[str(status)] = {
                "description": "\n".join(f"- {cause}" for cause in causes[status]),
                "content": {JSON: content},
            }
            if status == TOO_MANY:
                responses[str(status)]["headers"] = {"Retry-After": RETRY_AFTER}
        return responses

    def _success(self, said: Description) -> dict[str, Any]:
        if said.answer is None:
            schema: Schema = {"type": "string", "format": "binary"}
            if said.media_type.startswith("text/"):
                schema = {"type": "string"}
            return {"description": said.summary, "content": {said.media_type: {"schema": schema}}}
        content = {said.media_type: self._content(self._schemas.of(said.answer, "serialization"))}
        if said.text_type is not None:
            content[said.text_type] = {"schema": {"type": "string"}}
        return {"description": said.summary, "content": content}


def _types_in(endpoints: Iterable[Endpoint]) -> Iterator[tuple[Any, Mode]]:
    yield ErrorBody, "serialization"
    for _, _, said in endpoints:
        for taken in (said.query, said.body):
            if taken is not None:
                yield taken, "validation"
        if said.answer not in (None, NoReturn):
            yield said.answer, "serialization"


def _refusals_of(endpoint: Endpoint) -> Iterator[type[Exception]]:
    said = endpoint.description
    yield from said.raises
    if "{conversation_id}" in endpoint.path:
        yield BadKey
        yield ConversationNotFound
    if ":path}" in endpoint.path:
        yield NotFound  # a line break in it leads nowhere
    if said.query is not None or said.takes_key:
        yield from WITH_QUERY
    if said.body is not None:
        yield from WITH_BODY
    yield from EVERYWHERE
    if endpoint.path.startswith("/api/"):
        yield from UNDER_API
        yield from WRITING if endpoint.method != "GET" else ()


def _path_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(endpoint.path):
        schema: Schema = {"type": "string", "minLength": 1}
        if name == "conversation_id":
            schema = {"type": "string", **CONVERSATION_ID}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _key_header(said: Description) -> Iterator[dict[str, Any]]:
    if said.takes_key:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Repeating a request with the same key changes nothing.",
            "schema": {"type": "string", "pattern": f"^{CLIENT_ID.pattern}$"},
        }


def _without_null(schema: Schema) -> Schema:
    """Remove null: an absent query parameter is left out."""
    rest: Schema = {name: value for name, value in schema.items() if name != "default"}
    if schema.get("default") is not None:
        rest["default"] = schema["default"]
    choices = [one for one in rest.pop("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **rest}
    return {**rest, "anyOf": choices} if choices else rest


def _or_blank(schema: Schema) -> Schema:
    """Allow a blank value, which counts as absent, so that a form may send all its fields."""
    if schema.get("type") == "string" and not schema.keys() & NARROWING:
        return schema
    default = {"default": schema["default"]} if "default" in schema else {}
    bare = {name: value for name, value in schema.items() if name != "default"}
    return {"anyOf": [bare, {"const": ""}], **default}


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", _PARAMETER.sub(r"by_\1", endpoint.path))
    return "_".join((endpoint.method.lower(), *words))


def _first_line(kind: type[Exception]) -> str:
    return (inspect.getdoc(kind) or kind.__name__).partition("\n")[0].removesuffix(".")
