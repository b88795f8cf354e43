"""Errors as HTTP answers."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import Answer, RateLimited, UpgradeRequired, answer_for
from server.http.security_headers import PROTECTION

CLOSE = {"connection": "close"}
"""Told where a body is left unread: what still comes of it is not waited for."""


def error_response(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response with the error body."""
    return Response(
        orjson.dumps(answer.body()), answer.status, headers, media_type="application/json"
    )


def response_of(error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to an error, with Retry-After where it is known."""
    headers_to_set = dict(headers or {})
    if isinstance(error, RateLimited):
        headers_to_set["retry-after"] = str(ceil(error.seconds))
    if isinstance(error, UpgradeRequired):
        headers_to_set |= {"upgrade": "websocket", "sec-websocket-version": "13"}
    return error_response(answer_for(error), headers_to_set)


def refusal_bytes(error: Exception) -> bytes:
    """Return the complete HTTP response to an error, after which the connection is closed."""
    response = response_of(error, {**PROTECTION, **CLOSE})
    status = HTTPStatus(response.status_code)
    fields = b"".join(b"%b: %b\r\n" % field for field in response.raw_headers)
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    return line + fields + b"\r\n" + bytes(response.body)


async def refuse_socket(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a websocket's request by an error; as ASGI, before it is accepted."""
    await receive()
    await send_refusal(response_of(error), scope, send)


async def send_refusal(response: Response, scope: Scope, send: Send) -> None:
    """Answer a websocket's request that was received and not accepted."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": response.body})
