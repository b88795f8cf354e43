"""Errors as HTTP answers."""

from collections.abc import Mapping
from math import ceil

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import Answer, RateLimited, answer_for

CLOSE = {"connection": "close"}
"""Told where a body is left unread: what still comes of it is not waited for."""


def error_response(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """The one error body."""
    return Response(
        orjson.dumps(answer.body()), answer.status, headers, media_type="application/json"
    )


def response_of(error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error by the table; it says when to come back where that is known."""
    told = dict(headers or {})
    if isinstance(error, RateLimited):
        told["retry-after"] = str(ceil(error.seconds))
    return error_response(answer_for(error), told)


async def refuse_socket(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a websocket's request by an error; as ASGI, before it is accepted."""
    await receive()
    response = response_of(error)
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": response.body})
