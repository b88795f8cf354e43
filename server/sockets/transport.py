"""uvicorn's websocket protocol for the plain way, made to notice readers that do not read."""

import logging
from asyncio import BaseTransport
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from server.sockets.guard import WRITE_LIMIT_BYTES, StallWatch, Traffic, abort, end

connection_log = logging.getLogger("uvicorn.websocket")
"""Apart from the server's own, so that connections can be silent and failures are told."""

EXTENSION = "parley.transport"


class GuardedProtocol(WebSocketsSansIOProtocol):
    """Hands itself to the application in the scope, and aborts a connection that stands still."""

    traffic: ClassVar[Traffic]
    _watch: StallWatch | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what the transport may hold; for the kernel see `bound_unsent`."""
        super().connection_made(transport)
        self.logger = self.conn.logger = connection_log
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES, low=0)

    async def run_asgi(self) -> None:
        """Run the application with this protocol in reach."""
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[EXTENSION] = self
        await super().run_asgi()

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        super().pause_writing()
        self._watch = StallWatch(self.transport, self.loop, self.traffic)

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self._unwatch()

    def handle_ping(self) -> None:
        """Answer, unless writing is paused: one who only pings must not fill the buffer."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._unwatch()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close the connection without a farewell."""
        end(self.transport, self.loop, self.traffic)

    def abort(self) -> None:
        """End the connection at once."""
        abort(self.transport)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


def protocol_of(scope: Mapping[str, Any]) -> GuardedProtocol | None:
    """The protocol of a websocket request; None for any other request."""
    protocol = scope.get("extensions", {}).get(EXTENSION)
    return protocol if isinstance(protocol, GuardedProtocol) else None


def guarded(traffic: Traffic) -> type[GuardedProtocol]:
    """The protocol class of one server."""
    return type("GuardedProtocol", (GuardedProtocol,), {"traffic": traffic})
