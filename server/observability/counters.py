"""Counters of one server's loops, connections and requests, exposed by `/metrics`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.counters import Histogram

REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds, in seconds, of the request histogram."""


class RequestLabels(NamedTuple):
    """Labels of a request; each has few values."""

    method: str
    route: str
    """The template of the address, never the address."""
    status: int


NOT_ACCEPTED = "not_accepted"
"""The reason by which a websocket counts as refused that did not get as far as its handshake."""


@dataclass(slots=True)
class ServerCounters:
    """Counters since the start, or current numbers; only the event loop's thread changes them."""

    conversations: int = 0
    """Conversations that are open now."""
    loops: int = 0
    """Agent loops that are there now."""
    loops_started: int = 0
    loop_failures: int = 0
    """Failures of agents, of runtimes, and of loop starts."""
    agent_steps: int = 0
    agent_threads_left: int = 0
    """Threads of blocking agents that are at work now although their turn is over."""
    connections: int = 0
    """Connections that joined a conversation."""
    refused: Counter[str] = field(default_factory=Counter)
    """Connections that did not, by reason."""
    delivered: int = 0
    """Events delivered to connections that have left."""
    retention_sweeps: int = 0
    """Sweeps that came to their end."""
    retention_deleted: int = 0
    """Conversations deleted because of their age."""
    retention_failed: int = 0
    """Deletions because of age that failed."""
    retention_waiting: int = 0
    """Conversations that were due at the newest sweep, and in use."""
    retention_held: int = 0
    """1 while deletions are held back because of the clock."""
    requests: dict[RequestLabels, Histogram] = field(default_factory=dict)
    """Their seconds."""

    def answered(self, request: RequestLabels, seconds: float) -> None:
        """Count a request."""
        times = self.requests.get(request)
        if times is None:
            times = self.requests[request] = Histogram(REQUEST_BOUNDS)
        times.observe(seconds)
