"""The metrics for Prometheus, read from counters when it scrapes and never pushed per event."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from events.version import server_version
from server.observability.counters import ServerCounters
from server.observability.event_loop_watch import LoopWatch
from storage.counters import Counters, Histogram

CONTENT_TYPE: str = CONTENT_TYPE_PLAIN_0_0_4


class Cache(Protocol):
    """A cache of pages."""

    size_bytes: int
    hits: int
    misses: int


class Client(Protocol):
    """A client connected to a conversation."""

    @property
    def delivered(self) -> int:
        """Events of the log it has passed."""

    @property
    def live(self) -> bool:
        """Whether it has caught up with the log."""

    @property
    def waiting(self) -> int:
        """Its events that are not acknowledged yet."""


class StallCounts(Protocol):
    """Counters of clients that do not read."""

    paused: int
    aborted: int


class LimitedConnections(Protocol):
    """The number of admitted clients, of pending handshakes and of evictions."""

    evicted: int

    def __len__(self) -> int:
        """Network connections, and sessions that poll."""

    @property
    def handshakes(self) -> int:
        """Connections whose handshake is not complete."""


class Refusals(Protocol):
    """Counters of refused requests."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Requests refused, by class."""


@dataclass(frozen=True, slots=True)
class MetricSources:
    """The objects the metrics are read from."""

    storage: Counters
    server_counters: ServerCounters
    connections: Iterable[Client]
    pages: Mapping[str, Cache]
    """The caches of pages by name."""
    slow_clients: StallCounts
    watch: LoopWatch
    connection_limits: LimitedConnections
    rates: Refusals


class Metrics:
    """The exposition of one server's metrics in Prometheus' text format."""

    def __init__(self, sources: MetricSources) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ServerCollector(sources))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all families in Prometheus' text format."""
        return generate_latest(self._registry)


class ServerCollector(Collector):
    """Creates the metric families from the counters; a scrape takes a millisecond or two."""

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family named in docs/metrics.md."""
        build = GaugeMetricFamily(
            "parley_build", "Always 1; the label holds the version.", labels=["version"]
        )
        build.add_metric([server_version() or "unknown"], 1)
        yield build
        yield from _storage(self._sources.storage)
        yield from _work(self._sources.server_counters)
        yield from _retention(self._sources.server_counters)
        yield from _connections(self._sources)
        yield from _requests(self._sources.server_counters)
        yield from _caches(self._sources.pages)
        watch = self._sources.watch
        yield _histogram(
            "parley_event_loop_lag_seconds",
            "Delay of the event loop's beat in seconds.",
            watch.lags,
        )
        tasks = len(asyncio.all_tasks())
        yield _gauge("parley_event_loop_tasks", "Tasks of the event loop.", tasks)
        yield _counter(
            "parley_slow_callbacks",
            "Times a callback held the event loop up for longer than slow_callback_seconds.",
            watch.slow,
        )


def _storage(counters: Counters) -> Iterator[Metric]:
    yield _counter("parley_events_appended", "Events appended durably.", counters.events)
    yield _counter(
        "parley_appends_failed",
        "Events not stored because the storage failed.",
        counters.appends_failed,
    )
    yield _counter(
        "parley_appends_unknown",
        "Appends whose outcome was unknown and had to be read back.",
        counters.appends_unknown,
    )
    yield _counter(
        "parley_lost_events",
        "Acknowledged events that a failover has lost, in conversations open at the time.",
        counters.events_lost,
    )
    yield _histogram(
        "parley_commit_seconds",
        "Duration of a commit in seconds, including the flush to disk.",
        counters.commit_times,
    )
    yield _counter("parley_commit_writes", "Writes in all commits.", counters.commit_writes)
    yield _gauge(
        "parley_commit_largest", "Writes in the largest commit so far.", counters.largest_commit
    )
    yield _gauge(
        "parley_storage_writes_waiting",
        "Writes accepted by the database whose outcome is not known yet.",
        counters.waiting_writes,
    )
    yield _counter(
        "parley_subscriptions_lagged",
        "Times a subscriber fell behind and switched to reading the log.",
        counters.subscriptions_lagged,
    )
    yield _counter(
        "parley_clients_fallen_behind", "Times a live client fell behind.", counters.clients_behind
    )
    yield _counter(
        "parley_replayed_bytes",
        "Bytes of replayed events sent to clients.",
        counters.replayed_bytes,
    )


def _work(server_counters: ServerCounters) -> Iterator[Metric]:
    yield _gauge("parley_conversations_open", "Open conversations.", server_counters.conversations)
    yield _gauge("parley_agent_loops", "Agent loops.", server_counters.loops)
    yield _counter(
        "parley_agent_loops_started", "Agent loops started.", server_counters.loops_started
    )
    yield _counter(
        "parley_agent_loop_failures", "Failures of agent loops.", server_counters.loop_failures
    )
    yield _counter("parley_agent_steps", "Agent steps requested.", server_counters.agent_steps)
    yield _gauge(
        "parley_agent_threads_left",
        "Threads of blocking agents still running after their turn ended.",
        server_counters.agent_threads_left,
    )


def _retention(server_counters: ServerCounters) -> Iterator[Metric]:
    yield _counter(
        "parley_retention_sweeps",
        "Searches for conversations past their age limit that came to their end.",
        server_counters.retention_sweeps,
    )
    yield _counter(
        "parley_retention_deleted",
        "Conversations deleted because they were past their age limit.",
        server_counters.retention_deleted,
    )
    yield _counter(
        "parley_retention_failed",
        "Failed deletions of conversations past their age limit; they are tried again.",
        server_counters.retention_failed,
    )
    yield _gauge(
        "parley_retention_waiting",
        "Conversations past their age limit that the newest search left because they were in use.",
        server_counters.retention_waiting,
    )
    yield _gauge(
        "parley_retention_held",
        "1 while nothing is deleted by age because the system's clock went ahead, otherwise 0.",
        server_counters.retention_held,
    )


def _connections(sources: MetricSources) -> Iterator[Metric]:
    server_counters, slow = sources.server_counters, sources.slow_clients
    now = list(sources.connections)
    delivered = server_counters.delivered + sum(one.delivered for one in now)
    behind = sum(not one.live for one in now)
    waiting = sum(one.waiting for one in now)
    yield _gauge("parley_connections", "Connections joined to a conversation.", len(now))
    yield _gauge(
        "parley_connections_behind", "Connections that have not caught up with the log.", behind
    )
    yield _gauge("parley_client_events_waiting", "Client events not acknowledged yet.", waiting)
    yield _counter(
        "parley_connections_accepted",
        "Connections that joined a conversation.",
        server_counters.connections,
    )
    refused = CounterMetricFamily(
        "parley_connections_refused", "Connections refused, by reason.", labels=["reason"]
    )
    for reason, count in sorted(server_counters.refused.items()):
        refused.add_metric([reason], count)
    yield refused
    yield _counter("parley_events_delivered", "Events delivered to clients.", delivered)
    yield _counter(
        "parley_connections_paused",
        "Times writing to a client paused because its buffer was full.",
        slow.paused,
    )
    yield _counter(
        "parley_connections_aborted",
        "Clients disconnected because they read nothing for stall_abort_seconds.",
        slow.aborted,
    )
    yield from _defence(sources)


def _defence(sources: MetricSources) -> Iterator[Metric]:
    connection_limits = sources.connection_limits
    yield _gauge(
        "parley_clients", "Network connections and polling sessions open.", len(connection_limits)
    )
    yield _gauge(
        "parley_handshakes",
        "Connections that have not completed their handshake.",
        connection_limits.handshakes,
    )
    yield _counter(
        "parley_handshakes_cut",
        "Connections closed before they had completed their handshake.",
        connection_limits.evicted,
    )
    limited = CounterMetricFamily(
        "parley_rate_limited",
        "Requests, connections and failures refused by a rate limit, by class.",
        labels=["class"],
    )
    for kind, count in sorted(sources.rates.refused.items()):
        limited.add_metric([kind], count)
    yield limited


def _requests(server_counters: ServerCounters) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "parley_http_request_seconds",
        "Duration of requests in seconds, by method, route and status.",
        labels=["method", "route", "status"],
    )
    for request, times in list(server_counters.requests.items()):
        labels = [request.method, request.route, str(request.status)]
        family.add_metric(labels, _buckets(times), times.total)
    yield family


def _caches(caches: Mapping[str, Cache]) -> Iterator[Metric]:
    size = GaugeMetricFamily("parley_cache_bytes", "Bytes held by a cache.", labels=["cache"])
    hits = CounterMetricFamily("parley_cache_hits", "Cache hits.", labels=["cache"])
    misses = CounterMetricFamily("parley_cache_misses", "Cache misses.", labels=["cache"])
    for name, cache in caches.items():
        size.add_metric([name], cache.size_bytes)
        hits.add_metric([name], cache.hits)
        misses.add_metric([name], cache.misses)
    yield from (size, hits, misses)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _histogram(name: str, text: str, values: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, _buckets(values), values.total)


def _buckets(values: Histogram) -> list[tuple[str, float]]:
    """Return each bound with the number of values up to it."""
    found: list[tuple[str, float]] = []
    count = 0
    for bound, here in zip([*map(str, values.bounds), "+Inf"], values.counts, strict=True):
        count += here
        found.append((bound, count))
    return found
