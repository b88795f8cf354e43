"""The messages of the AsyncAPI document that a payload fits."""

from functools import cache
from typing import Any

import jsonschema_rs

from server.sockets.asyncapi import asyncapi_document


@cache
def _document() -> dict[str, Any]:
    return asyncapi_document()


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    document = _document()
    schema = document["components"]["messages"][name]["payload"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def described_as(prefix: str, payload: object) -> list[str]:
    """Return the messages whose names begin so that a payload fits."""
    names = [name for name in _document()["components"]["messages"] if name.startswith(prefix)]
    return [name for name in names if _validator(name).is_valid(payload)]
