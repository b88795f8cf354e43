"""Traces: what a collector gets of requests, socket events and agent steps, and what it never gets."""

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server.cli import main
from tests.support.clients import joined
from tests.support.servers import REPOSITORY, as_in_a_plain_install, server_process
from tests.support.waiting import WAIT_SECONDS

CONTENT = "a sentence that is nobody's business"


class Collector:
    """Takes what is sent by OTLP over HTTP; a small server of its own."""

    def __init__(self):
        self.requests = []
        self.bodies = []
        self.url = ""
        self._came = asyncio.Condition()

    async def serve(self, reader, writer):
        """Serve one connection."""
        try:
            while line := await reader.readline():
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                body = await reader.readexactly(length)
                async with self._came:
                    self.requests.append(line.decode())
                    self.bodies.append(body)
                    self._came.notify_all()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        finally:
            writer.close()

    @property
    def spans(self):
        """Every span, with its resource's attributes."""
        found = []
        for body in self.bodies:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {one.key: one.value.string_value for one in group.resource.attributes}
                assert names["service.name"] == "parley"
                found += [span for scope in group.scope_spans for span in scope.spans]
        return found

    async def until(self, *names):
        """Wait until there are spans of these names; the first of each."""
        async with asyncio.timeout(WAIT_SECONDS), self._came:
            await self._came.wait_for(lambda: set(names) <= {one.name for one in self.spans})
        return [next(one for one in self.spans if one.name == name) for name in names]


@asynccontextmanager
async def collecting():
    collector = Collector()
    server = await asyncio.start_server(collector.serve, "127.0.0.1", 0)
    collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
    try:
        yield collector
    finally:
        server.close()


def told(span):
    """The attributes of a span."""
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.mark.parametrize("delivery", ["direct", "engine"])
async def test_spans_tell_what_led_to_what_and_hold_no_content(tmp_path, delivery):
    async with collecting() as collector:
        environment = {"PARLEY_OTEL_ENDPOINT": collector.url, "PARLEY_DELIVERY": delivery}
        async with server_process(tmp_path, environment=environment) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
                created = await http.post("/api/conversations", json={})
                one = created.json()["conversation_id"]
                await http.post(f"/api/conversations/{one}/message", json={"message": CONTENT})
            async with joined(server.url, one) as client:
                await client.say(CONTENT)
                await client.send({"action": CONTENT, "args": {}})
            posted, event, append, commit, step = await collector.until(
                "POST /api/conversations/{conversation_id}/message",
                "socket event",
                "append",
                "commit",
                "agent step",
            )
            await server.stop()
        spans = collector.spans

    assert collector.requests[0].startswith("POST /v1/traces ")
    assert told(posted)["http.response.status_code"] == 200
    by_id = {span.span_id: span for span in spans}
    parents = {
        (span.name, by_id[span.parent_span_id].name) for span in spans if span.parent_span_id
    }
    assert ("append", posted.name) in parents
    assert ("append", "socket event") in parents
    assert ("commit", "append") in parents
    assert told(append) == {"parley.conversation_id": one}
    assert commit.start_time_unix_nano >= append.start_time_unix_nano
    assert append.end_time_unix_nano >= commit.end_time_unix_nano
    assert told(step)["parley.conversation_id"] == one
    assert event.end_time_unix_nano > event.start_time_unix_nano
    refused = [span for span in spans if span.name == "socket event" and span.status.code]
    assert [told(span)["error.type"] for span in refused] == ["refused"]
    assert CONTENT.encode() not in b"".join(collector.bodies)


@pytest.mark.parametrize("there", [False, True], ids=["not there", "silent"])
async def test_a_collector_that_does_not_answer_holds_nothing_up(tmp_path, there):
    silent = socket.create_server(("127.0.0.1", 0))  # the kernel takes connections for it
    port = silent.getsockname()[1]
    if not there:
        silent.close()
    environment = {"PARLEY_OTEL_ENDPOINT": f"http://127.0.0.1:{port}/v1/traces"}
    async with server_process(tmp_path, environment=environment) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            created = await http.post("/api/conversations", json={"initial_user_msg": "hello"})
        began = time.monotonic()

        code = await server.stop()

    seconds = time.monotonic() - began
    silent.close()
    assert created.status_code == 200
    assert code == 0
    assert seconds < 8


async def test_without_the_extra_the_setting_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PARLEY_OTEL_ENDPOINT": "http://127.0.0.1:4318/v1/traces",
    }
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--storage", "memory"]

    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=environment, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()

    assert process.returncode == 2
    assert output == b""
    assert errors.decode().count("\n") == 1
    assert "otel_endpoint: tracing needs the extra `otel`" in errors.decode()


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:4318", "ftp://x/y", "http://user:key@x/v1/traces", "http://x/ y", "http://"],
)
def test_an_endpoint_that_is_none_is_refused(endpoint, monkeypatch, capsys):
    monkeypatch.setenv("PARLEY_OTEL_ENDPOINT", endpoint)

    assert main(["config"]) == 2
    assert "OTEL_ENDPOINT: not an endpoint of the form" in capsys.readouterr().err


async def test_where_no_traces_are_wanted_their_package_is_not_loaded(tmp_path):
    script = "import sys, server.app; print([name for name in sys.modules if 'opentel' in name])"

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        cwd=REPOSITORY,
        env={**os.environ, **as_in_a_plain_install(tmp_path)},
        stdout=PIPE,
    )
    output, _ = await process.communicate()

    assert output.decode() == "[]\n"
