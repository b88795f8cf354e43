"""Tells a listener of the embedder's own what happens to conversations in this process."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import orjson

from events.event import Event, StoredEvent
from events.serialization import decode
from events.stream import EventStream
from server.user_code import UserCode

logger = logging.getLogger(__name__)


class MonitoringListener:
    """Override what is of interest; made once, without arguments.

    Methods are called on the event loop and must return at once. What one raises is logged and
    changes nothing.
    """

    def on_session_start(self, conversation_id: str, user_id: str | None) -> None:
        """Handle a conversation opened in this process; it may have no agent loop yet."""

    def on_session_event(self, conversation_id: str, event: Event) -> None:
        """Handle an appended event: called once for each, in order, after it is durable."""

    def on_loop_start(self, conversation_id: str, *, succeeded: bool, seconds: float) -> None:
        """Handle the start of an agent loop, or its failure, after `seconds`."""

    def on_loop_stop(self, conversation_id: str) -> None:
        """Handle the stop of a started agent loop."""


class Monitor:
    """Calls the listener, if there is one; never raises and never waits."""

    def __init__(self, listener: MonitoringListener | None = None) -> None:
        self._listener = listener

    def session_started(self, stream: EventStream, user_id: str | None) -> None:
        """Tell of the session, and of its events until the stream is closed."""
        listener = self._listener
        if listener is None:
            return
        conversation_id = stream.conversation_id
        _tell(partial(listener.on_session_start, conversation_id, user_id))

        async def hear(events: Sequence[StoredEvent]) -> None:
            for stored in events:
                event = decode(orjson.loads(stored.body))
                _tell(partial(listener.on_session_event, conversation_id, event))

        stream.subscribe("monitoring", hear)

    def loop_started(self, conversation_id: str, *, succeeded: bool, seconds: float) -> None:
        """Tell of a loop that came up or did not."""
        if self._listener is not None:
            told = self._listener.on_loop_start
            _tell(partial(told, conversation_id, succeeded=succeeded, seconds=seconds))

    def loop_stopped(self, conversation_id: str) -> None:
        """Tell of a loop's end."""
        if self._listener is not None:
            _tell(partial(self._listener.on_loop_stop, conversation_id))


def _tell(call: Callable[[], None]) -> None:
    try:
        _code.call(call)
    except Exception:
        logger.exception("the monitoring listener failed")


_code = UserCode("monitoring_listener_class")

SILENT = Monitor()
