"""Where the short way begins: a websocket request in the common form is accepted as it is read.

Common is what asks for nothing else: the right versions, no polling before it, no subprotocol, from
where it may come. Everything that is not goes through the application, which also refuses it.
"""

import binascii
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import ClassVar

from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.auth import Authenticator
from server.errors import Forbidden
from server.sockets.handlers import SocketHandlers
from server.sockets.transport import GuardedProtocol
from server.sockets.websocket import WebsocketConnection

PATHS = (b"/socket.io/", b"/socket.io")
KEY_BYTES = 16
RFC_6455_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)

Fields = Sequence[tuple[bytes, bytes]]


class Entrance:
    """Decides who goes the short way, and makes the connection."""

    def __init__(self, handlers: SocketHandlers, authenticator: Authenticator) -> None:
        self._handlers = handlers
        self._authenticator = authenticator

    def admits(self, url: bytes, fields: Fields) -> bool:
        """Whether this is a plain Socket.IO websocket, from where it may come."""
        path, _, query = url.partition(b"?")
        if path not in PATHS or not is_plain(query):
            return False
        try:
            self._authenticator.check_source(Headers(raw=list(fields)))
        except Forbidden:
            return False
        return True

    def connection(
        self, protocol: GuardedProtocol, url: bytes, fields: Fields
    ) -> WebsocketConnection:
        """What speaks with a client that was admitted."""
        scope = {"type": "websocket", "headers": fields}
        principal = self._authenticator.principal(scope)
        query = url.partition(b"?")[2].decode("ascii")
        return WebsocketConnection(protocol, self._handlers, query, principal)


def is_plain(query: bytes) -> bool:
    """Whether a query asks for a new Engine.IO 4 websocket, in the words that clients use."""
    asked = query.split(b"&")
    return (
        query.isascii()
        and b"EIO=4" in asked
        and b"transport=websocket" in asked
        and not any(field.startswith(b"sid=") for field in asked)
    )


def accept_of(fields: Fields) -> bytes | None:
    """The `Sec-WebSocket-Accept` of a request for an upgrade; None unless it is in the common form.

    Names are in lower case. A name that comes twice, a body, a subprotocol are not common.
    """
    found = dict(fields)
    key = found.get(b"sec-websocket-key", b"")
    uncommon = (b"sec-websocket-protocol", b"content-length", b"transfer-encoding")
    if (
        len(found) != len(fields)
        or found.get(b"sec-websocket-version") != b"13"
        or any(name in found for name in uncommon)
    ):
        return None
    try:
        if len(binascii.a2b_base64(key, strict_mode=True)) != KEY_BYTES:
            return None
    except binascii.Error:
        return None
    return b64encode(sha1(key + RFC_6455_ID, usedforsecurity=False).digest())


class UpgradingProtocol(HttpToolsProtocol):
    """HTTP as uvicorn serves it, but for plain websockets, which it accepts by itself."""

    entrance: ClassVar[Entrance]
    guard: ClassVar[type[GuardedProtocol]]

    def handle_websocket_upgrade(self) -> None:
        """Accept in the step that read the request, or leave it to uvicorn."""
        accept = accept_of(self.headers) if self._is_simple() else None
        if accept is None or not self.entrance.admits(self.url, self.headers):
            super().handle_websocket_upgrade()
            return
        self.connections.discard(self)
        protocol = self.guard(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        connection = self.entrance.connection(protocol, self.url, self.headers)
        protocol.take_over(self.transport, connection)
        self.transport.write(ANSWER % accept + connection.greeting())
        task = self.loop.create_task(connection.serve())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        # They hold each other, and would wait for the garbage collector.
        self.parser = None  # type: ignore[assignment]

    def _is_simple(self) -> bool:
        return self.scope["method"] == "GET" and self.scope["http_version"] == "1.1"


def upgrading(entrance: Entrance, guard: type[GuardedProtocol]) -> type[UpgradingProtocol]:
    """The protocol class of an application with an entrance."""
    own = {"entrance": entrance, "guard": guard}
    return type("UpgradingProtocol", (UpgradingProtocol,), own)
