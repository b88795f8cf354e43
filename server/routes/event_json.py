"""Events inside of answers and bodies: passed on as they are, described by their own schemas."""

from typing import Annotated, Any

from pydantic import WithJsonSchema

from events.schemas import REFERENCE

EventJson = Annotated[dict[str, Any], WithJsonSchema({"$ref": REFERENCE.format(model="Event")})]
ClientEventJson = Annotated[
    dict[str, Any], WithJsonSchema({"$ref": REFERENCE.format(model="ClientEvent")})
]
