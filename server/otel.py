"""Traces by OpenTelemetry, sent by OTLP over HTTP; the only module that needs the extra `otel`."""

import asyncio
import contextlib
import logging
from threading import Thread
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan, SpanKind, StatusCode, set_span_in_context

from events.version import server_version
from server.tracing import Attributes, Span, Tracing

logger = logging.getLogger(__name__)

SEND_SECONDS = 5
"""Deadline in seconds of one request to the collector, including retries."""
CLOSE_SECONDS = 2.0
QUEUE_SPANS = 4096
"""Spans that may wait to be sent; further ones are dropped."""
SEND_SPANS = 512
PAUSE_MILLISECONDS = 1000
"""Milliseconds between two exports."""


class _Span(Span):
    """One span of OpenTelemetry's."""

    def __init__(self, span: OtelSpan) -> None:
        self.span = span

    def rename(self, name: str, attributes: Attributes) -> None:
        """See Span."""
        self.span.update_name(name)
        self.span.set_attributes(dict(attributes))

    def fail(self, kind: str) -> None:
        """See Span."""
        self.span.set_status(StatusCode.ERROR)
        self.span.set_attribute("error.type", kind)

    def end(self) -> None:
        """See Span."""
        self.span.end()


class OtelTracing(Tracing):
    """Exports spans in batches from its own thread; no global state is set."""

    def __init__(self, endpoint: str) -> None:
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_SECONDS)
        resource = Resource.create(
            {"service.name": "parley", "service.version": server_version() or ""}
        )
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS,
            max_export_batch_size=SEND_SPANS,
            schedule_delay_millis=PAUSE_MILLISECONDS,
        )
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("parley", server_version())

    def begin(
        self,
        name: str,
        attributes: Attributes,
        *,
        parent: Span | None = None,
        kind: Literal["internal", "server"] = "internal",
        started_ns: int | None = None,
    ) -> Span:
        """See Tracing."""
        nothing = Context()
        context = (
            set_span_in_context(parent.span, nothing) if isinstance(parent, _Span) else nothing
        )
        return _Span(
            self._tracer.start_span(
                name,
                context,
                SpanKind.SERVER if kind == "server" else SpanKind.INTERNAL,
                dict(attributes),
                start_time=started_ns,
            )
        )

    async def close(self) -> None:
        """See Tracing."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def end() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # the library's
            with contextlib.suppress(RuntimeError):  # the loop is gone: it took too long
                loop.call_soon_threadsafe(sent.set)

        # A daemon: the end of the process must not wait for a collector that does not answer.
        Thread(target=end, name="last traces", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await sent.wait()
        except TimeoutError:
            logger.warning("discarding traces that could not be sent within %g s", CLOSE_SECONDS)
