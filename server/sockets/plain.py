"""uvicorn's HTTP protocol, with bounds it does not have.

A request's head must come in time and be short; a body that nobody wants is not read for ever; a
reader that stands still is cut.
"""

from asyncio import AbstractEventLoop
from functools import partial
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from server.sockets.crowd import Place
from server.sockets.guard import StallWatch, Traffic, abort
from server.sockets.transport import GuardedProtocol

LONGEST_HEAD_BYTES = 64 * 1024
UNWANTED_BYTES = 256 * 1024
"""What is read of a body after the answer, so that its sender finds the answer."""
UNWANTED_SECONDS = 2.0


def _with_place(
    protocol: "type[GuardedProtocol]", place: Place, **arguments: Any
) -> GuardedProtocol:
    upgraded = protocol(**arguments)
    upgraded.place = place
    return upgraded


class PlainHttp(HttpToolsProtocol):
    """One connection, which has a place among all."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: AbstractEventLoop,
        place: Place,
        traffic: Traffic,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._place = place
        self._traffic = traffic
        self._head_bytes = 0
        self._unwanted_bytes = 0
        self._watch: StallWatch | None = None
        guarded = cast("type[GuardedProtocol]", self.ws_protocol_class)
        self.ws_protocol_class = cast("Any", partial(_with_place, guarded, place))

    def data_received(self, data: bytes) -> None:
        """Parse it; an endless head ends the connection."""
        super().data_received(data)
        if self._place.waiting:
            self._head_bytes += len(data)
            if self._head_bytes > LONGEST_HEAD_BYTES:
                self._breach()

    def on_message_begin(self) -> None:
        """Wait for a head."""
        super().on_message_begin()
        self._head_bytes = self._unwanted_bytes = 0
        self._place.wait()

    def on_headers_complete(self) -> None:
        """It is there."""
        self._place.settle()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Give it to the application, if that still wants it."""
        if self.cycle.response_complete:
            self._unwanted_bytes += len(body)
            if self._unwanted_bytes > UNWANTED_BYTES:
                self._breach()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of a request is there, also of one that was answered before."""
        if getattr(self.cycle, "response_complete", False):
            self.cycle.more_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body, not for long, before the next request."""
        cycle = self.cycle  # of the newest request, which may wait behind the one that was answered
        unread = not self.transport.is_closing() and cycle.response_complete and cycle.more_body
        super().on_response_complete()
        if unread:
            self.loop.call_later(UNWANTED_SECONDS, self._give_up, cycle)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and remember who said it."""
        self._place.violated()
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        super().pause_writing()
        self._watch = StallWatch(self.transport, self.loop, self._traffic)

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the place."""
        self._unwatch()
        self._place.leave()
        super().connection_lost(exc)
        self.cycle = None  # type: ignore[assignment]  # it leads back here, and would hold us

    def _breach(self) -> None:
        self._place.violated()
        abort(self.transport)

    def _give_up(self, cycle: object) -> None:
        if self.cycle is cycle and self.cycle.more_body and not self.transport.is_closing():
            abort(self.transport)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
