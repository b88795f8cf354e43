"""Parses and validates requests, and writes JSON responses."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from events.client_events import CLIENT_ID
from events.schemas import REFERENCE
from server.access.auth import Owner
from server.errors import BadRequest, UnsupportedMedia
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import UtcDatetime
from storage.errors import ConversationNotFound
from storage.keys import check_conversation_id

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _written_out(text: object) -> object:
    # A bare number would else be taken for seconds since 1970.
    if isinstance(text, str) and not _DATE.match(text):
        raise ValueError("not a time such as 2026-03-02T09:15:07Z or a date such as 2026-03-02")
    return text


Moment = Annotated[UtcDatetime, BeforeValidator(_written_out)]
"""A time with its UTC offset."""
Day = Annotated[date, BeforeValidator(_written_out)]

CONVERSATION_ID: Mapping[str, Any] = {
    "pattern": r"^(?!task-)(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$",
    "examples": ["8f6a0c1d2b3e4f5a9c7d6e5f4a3b2c1d"],
}
"""The description of what `check_conversation_id` accepts."""
ConversationId = Annotated[str, Field(json_schema_extra={**CONVERSATION_ID})]
"""The id of a conversation, to be checked with `check_conversation_id`."""

EventJson = Annotated[dict[str, Any], WithJsonSchema({"$ref": REFERENCE.format(model="Event")})]
ClientEventJson = Annotated[
    dict[str, Any], WithJsonSchema({"$ref": REFERENCE.format(model="ClientEvent")})
]


SHOWN_CHARACTERS = 100

Model = TypeVar("Model", bound=BaseModel)


class RequestBody(BaseModel):
    """A body whose fields are all declared and exactly typed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """Query parameters; unknown ones are ignored and blank ones count as absent."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ResponseBody(BaseModel):
    """An answer whose fields are all declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonResponse(Response):
    """A JSON answer of plain values and models; moments are written in UTC with `Z`."""

    media_type: str | None = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the answer."""
        return orjson.dumps(content, default=_fields_of, option=orjson.OPT_UTC_Z)


async def read_json(request: Request) -> bytes:
    """Return the body of a request that must be JSON. Raises UnsupportedMedia, TooLarge."""
    if "content-type" not in request.headers:
        # Any other type was refused before the route was reached.
        raise UnsupportedMedia("The body must be application/json")
    return await request.body()


async def read_body(request: Request, model: type[Model]) -> Model:
    """Return the body as a model; an empty one is `{}`.

    Raises BadRequest when it is not JSON, and answers 422 with one line that names the field when
    it does not fit the model.
    """
    body = await read_json(request)
    try:
        # Strictly: what a description calls a number must not be taken as a text.
        return model.model_validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        text, is_json = _problem_of(error)
        if not is_json:
            raise BadRequest(f"The body is not JSON: {text}") from error
        raise HTTPException(422, text) from error


def read_query(request: Request, model: type[Model]) -> Model:
    """Return the query parameters as a model; repeated ones are joined by commas.

    Raises BadRequest naming the parameter.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if value:
            given[name] = f"{given[name]},{value}" if name in given else value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise BadRequest(_problem_of(error)[0]) from error


def idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key header. Raises BadRequest when it is not a valid key."""
    key = request.headers.get("idempotency-key")
    if key is not None and not CLIENT_ID.fullmatch(key):
        raise BadRequest(
            "The Idempotency-Key must be 1 to 128 characters, none of them a control character"
        )
    return key


def owner_of(request: Request) -> Owner:
    """Return the owner that a request acts for."""
    owner: Owner = request.state.owner
    return owner


def conversation_id_of(request: Request) -> str:
    """Return the id in the path. Raises BadKey."""
    return check_conversation_id(request.path_params["conversation_id"])


def store_of(request: Request, stores: ConversationStores) -> ConversationStore:
    """Return the records of the requesting user."""
    return stores.for_user(owner_of(request))


async def visible_id(request: Request, stores: ConversationStores) -> str:
    """Return the id in the path, of a conversation that is visible to the requesting user.

    Raises BadKey, and ConversationNotFound for unknown, deleted and foreign ones alike.
    """
    conversation_id = conversation_id_of(request)
    if not await store_of(request, stores).exists(conversation_id):
        raise ConversationNotFound(conversation_id)
    return conversation_id


def _fields_of(value: object) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError


def _problem_of(error: ValidationError) -> tuple[str, bool]:
    """Return the problem in one line, and whether the input is valid JSON."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_input=False)[0]
    kind, message = first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return first["ctx"]["error"], False
    if kind == "extra_forbidden":
        message = "unknown field"
    place = ".".join(str(part) for part in first["loc"])[:SHOWN_CHARACTERS]
    return (f"{place}: {message}" if place else message), True
