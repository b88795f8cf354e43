"""The layers that every request passes, around routes made for the purpose."""

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from events.errors import BadEvent, StoreUnavailable
from server.access.auth import Authenticator
from server.access.client_address import Addresses
from server.access.rate_limits import RateLimits
from server.config.settings import ServerConfig
from server.http.body_limits import ENVELOPE_BYTES, UPLOAD_BYTES
from server.http.middleware import (
    exception_handlers,
    middleware,
)
from server.http.security_headers import PROTECTION
from server.observability.counters import ServerCounters
from storage.errors import ConversationNotFound
from tests.support.rest import assert_refused

KEY = "open sesame"
UI = "http://localhost:5173"
JSON = {"content-type": "application/json"}
UPLOAD = "/api/conversations/c/upload-files"


async def echo(request):
    return JSONResponse({"bytes": len(await request.body())})


async def fail(request):
    raise {
        "unforeseen": ZeroDivisionError("secret detail"),
        "unknown": ConversationNotFound("c"),
        "refused": BadEvent("The `x` is wrong.", code="bad_value"),
        "unavailable": StoreUnavailable("gone"),
        "http": HTTPException(422, "title: too long"),
    }[request.path_params["kind"]]


async def break_off(request):
    async def half():
        yield b"half"
        raise ZeroDivisionError

    return StreamingResponse(half())


async def socket(scope, receive, send):
    await send({"type": "websocket.accept"})


def app_of(**settings):
    routes = [
        Route("/api/echo", echo, methods=["GET", "POST", "DELETE"]),
        Route(UPLOAD, echo, methods=["POST"]),
        Route("/api/fail/{kind}", fail),
        Route("/api/break-off", break_off),
        Route("/open", echo),
        Mount("/socket.io", socket),
    ]
    config = ServerConfig(**settings)
    return Starlette(
        routes=routes,
        middleware=middleware(
            config, Authenticator(config), RateLimits(config, Addresses(config)), ServerCounters()
        ),
        exception_handlers=exception_handlers(),
    )


def client_of(app):
    return AsyncClient(transport=ASGITransport(app), base_url="http://localhost:3000")


@pytest.fixture
async def client():
    async with client_of(app_of()) as opened:
        yield opened


@pytest.fixture
async def keyed():
    async with client_of(app_of(session_api_key=KEY, permitted_cors_origins=[UI])) as opened:
        yield opened


async def test_a_foreign_host_is_refused_on_every_route(client):
    for path in ("/open", "/api/echo", "/socket.io/", "/nowhere"):
        assert_refused(await client.get(path, headers={"host": "evil.example"}), 403, "forbidden")


async def test_a_foreign_origin_is_refused_on_every_route_and_not_told_how_to_share(client):
    for path in ("/open", "/api/echo", "/socket.io/"):
        answer = await client.get(path, headers={"origin": "https://evil.example"})

        assert_refused(answer, 403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "pair", [(b"host", b"evil.example"), (b"origin", b"https://evil.example"), (b"origin", b"null")]
)
async def test_a_socket_from_elsewhere_is_closed_before_it_is_accepted(pair):
    headers = {b"host": b"localhost:3000"} | dict([pair])
    sent = await connect_socket(app_of(), headers)

    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_socket_of_the_server_s_own_page_gets_through():
    headers = {b"host": b"localhost:3000", b"origin": b"http://localhost:3000"}
    sent = await connect_socket(app_of(), headers)

    assert [message["type"] for message in sent] == ["websocket.accept"]


async def connect_socket(app, headers):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/socket.io/",
        "headers": list(headers.items()),
        "query_string": b"",
    }
    await app(scope, receive, send)
    return sent


async def test_under_api_the_key_is_asked_for_and_nowhere_else(keyed):
    for key in (None, "", "null", "undefined", "wrong"):
        headers = {} if key is None else {"X-Session-API-Key": key}
        assert_refused(await keyed.get("/api/echo", headers=headers), 401, "unauthorized")
    answer = await keyed.get("/api/nowhere")
    assert_refused(answer, 401, "unauthorized")
    assert answer.json()["msg_id"] == "invalid_session_api_key"

    right = await keyed.get("/api/echo", headers={"X-Session-API-Key": KEY})

    assert right.status_code == 200
    assert (await keyed.get("/open")).status_code == 200


async def test_a_permitted_origin_may_read_answers_and_refusals(keyed):
    for path in ("/api/echo", "/open", "/nowhere"):
        answer = await keyed.get(path, headers={"origin": UI})

        assert answer.headers["access-control-allow-origin"] == UI
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]


async def test_a_preflight_is_answered_without_a_key(keyed):
    asked = {
        "origin": UI,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "x-session-api-key,content-type",
    }

    answer = await keyed.options("/api/echo", headers=asked)

    assert answer.status_code == 204
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "x-session-api-key,content-type"
    assert answer.headers["access-control-allow-origin"] == UI


async def test_every_answer_protects_itself_and_is_not_kept(client):
    for path in ("/open", "/api/echo", "/api/fail/unforeseen", "/nowhere"):
        answer = await client.get(path)

        assert {name: answer.headers[name] for name in PROTECTION} == dict(PROTECTION)


async def test_a_request_id_is_given_or_kept_when_it_is_harmless(client):
    given = await client.get("/open")
    kept = await client.get("/open", headers={"x-request-id": "trace-1.2_3"})
    replaced = await client.get("/open", headers={"x-request-id": "a b"})

    assert len(given.headers["x-request-id"]) == 16
    assert kept.headers["x-request-id"] == "trace-1.2_3"
    assert replaced.headers["x-request-id"] not in ("a b", given.headers["x-request-id"])


async def test_what_nobody_foresaw_is_answered_without_details_and_logged(client, caplog):
    answer = await client.get("/api/fail/unforeseen")

    assert_refused(answer, 500, "internal_error")
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("unknown", 404, "conversation_not_found"),
        ("refused", 400, "bad_value"),
        ("unavailable", 503, "storage_unavailable"),
        ("http", 422, "invalid_body"),
    ],
)
async def test_errors_of_routes_have_the_one_body(client, kind, status, code):
    assert_refused(await client.get(f"/api/fail/{kind}"), status, code)


async def test_an_unknown_route_and_a_wrong_method_have_the_one_body(client):
    assert_refused(await client.get("/nowhere"), 404, "not_found")
    wrong = await client.put("/api/echo", json={})

    assert_refused(wrong, 405, "method_not_allowed")
    assert "POST" in wrong.headers["allow"]


async def test_an_answer_that_fails_on_the_way_breaks_the_connection(client):
    with pytest.raises(ZeroDivisionError):
        await client.get("/api/break-off")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_may_change_state_must_be_json(client, media_type):
    answer = await client.post("/api/echo", content=b"{}", headers={"content-type": media_type})

    assert_refused(answer, 415, "unsupported_media_type")


async def test_json_may_name_its_charset_and_a_request_may_have_no_body(client):
    with_charset = {"content-type": "Application/JSON; charset=utf-8"}

    assert (await client.post("/api/echo", content=b"{}", headers=with_charset)).status_code == 200
    assert (await client.delete("/api/echo")).status_code == 200


async def test_an_upload_must_be_a_form_with_files(client):
    as_json = await client.post(UPLOAD, json={})
    as_form = await client.post(UPLOAD, files=[("files", ("a", b"1"))])

    assert_refused(as_json, 415, "unsupported_media_type")
    assert as_form.status_code == 200


async def test_an_announced_oversize_body_is_refused_unread(client):
    limit = ServerConfig().max_message_bytes + ENVELOPE_BYTES
    asked = {"content-type": "application/json", "content-length": str(limit + 1)}

    assert_refused(await client.post("/api/echo", content=b"{}", headers=asked), 413, "too_large")


async def test_a_streamed_body_is_refused_when_it_exceeds_the_limit():
    async with client_of(app_of(max_message_bytes=1024)) as client:
        just_fits = b"x" * (1024 + ENVELOPE_BYTES)

        fitting = await client.post("/api/echo", content=parts_of(just_fits), headers=JSON)
        beyond = await client.post("/api/echo", content=parts_of(just_fits + b"x"), headers=JSON)

    assert fitting.json() == {"bytes": len(just_fits)}
    assert_refused(beyond, 413, "too_large")


async def test_an_upload_may_be_larger_but_not_without_end(client):
    asked = {"content-type": "multipart/form-data; boundary=x"}
    large = b"x" * (ServerConfig().max_message_bytes + ENVELOPE_BYTES + 1)

    taken = await client.post(UPLOAD, content=large, headers=asked)
    announced = asked | {"content-length": str(UPLOAD_BYTES + 1)}
    refused = await client.post(UPLOAD, content=b"", headers=announced)

    assert taken.json() == {"bytes": len(large)}
    assert_refused(refused, 413, "too_large")


async def parts_of(content):
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


async def test_the_lifespan_of_an_application_is_none_of_the_gate_s_business():
    app = app_of()
    incoming = iter(["lifespan.startup", "lifespan.shutdown"])
    sent = []

    async def receive():
        return {"type": next(incoming)}

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/api/conversations", "application/json"),
        ("/api/conversations/c1/upload-files", "multipart/form-data; boundary=x"),
    ],
)
async def test_a_client_that_leaves_amidst_its_body_is_no_fault_of_the_server(
    rest, caplog, path, content_type
):
    await rest.keep("c1", None)
    parts = iter(({"type": "http.request", "body": b"--x\r\n", "more_body": True},))
    sent = []

    async def receive():
        return next(parts, {"type": "http.disconnect"})

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"localhost:3000"),
            (b"content-type", content_type.encode()),
            (b"content-length", b"1000"),
        ],
    }
    with caplog.at_level("DEBUG"):
        await rest.application.asgi(scope, receive, send)

    assert sent == []
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    figures = (await rest.ask("GET", "/metrics")).text
    assert 'status="499"' in figures
    assert 'status="500"' not in figures
