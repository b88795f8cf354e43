"""Every class of answer carries every protective header, one test for each pair."""

import pytest

from server.http.security_headers import PROTECTION, TRANSPORT_SECURITY
from tests.support.intruder import intruder
from tests.support.live import live_server
from tests.support.rest import rest_server

CLASSES = {
    "page": ("GET", "/", {}, 200),
    "script": ("GET", "/assets/app.js", {}, 200),
    "json": ("GET", "/api/options/config", {}, 200),
    "health": ("GET", "/alive", {}, 200),
    "unknown address": ("GET", "/nowhere.txt", {}, 404),
    "wrong method": ("PUT", "/api/settings", {"content-type": "application/json"}, 405),
    "wrong type": ("POST", "/api/settings", {"content-type": "text/plain"}, 415),
    "too large": ("POST", "/api/settings", {"content-length": "99999999"}, 413),
    "foreign origin": ("GET", "/", {"origin": "https://evil.test"}, 403),
    "foreign host": ("GET", "/", {"host": "evil.test"}, 403),
    "preflight": ("OPTIONS", "/api/settings", {"access-control-request-method": "POST"}, 204),
    "polling": ("GET", "/socket.io/?EIO=4&transport=polling", {}, 200),
    "polling refused": ("GET", "/socket.io/?EIO=9&transport=polling", {}, 400),
}
OF_THE_PAGE = ("page", "script")


@pytest.fixture
async def client():
    async with rest_server(https=True) as rest:
        yield rest.client


@pytest.mark.parametrize("name", [*PROTECTION, *TRANSPORT_SECURITY])
@pytest.mark.parametrize("kind", CLASSES)
async def test_an_answer_carries_the_header(client, kind, name):
    method, path, headers, status = CLASSES[kind]

    answer = await client.request(method, path, headers=headers)

    assert answer.status_code == status
    if name == "content-security-policy" and kind in OF_THE_PAGE:
        policy = answer.headers[name]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        for part in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
            assert part in policy
    elif name == "cache-control" and kind in OF_THE_PAGE:
        assert "no-cache" in answer.headers[name]
    else:
        assert answer.headers[name] == {**PROTECTION, **TRANSPORT_SECURITY}[name]


@pytest.mark.parametrize("name", PROTECTION)
async def test_a_websocket_that_is_refused_at_its_first_bytes_carries_the_header(name):
    async with live_server() as live, intruder(live.url) as one:
        answer = await one.upgrade("", {"Origin": "https://evil.test"})

        assert answer.status == 403
        assert answer.headers[name] == PROTECTION[name]


async def test_without_https_nothing_is_said_of_transport_security():
    async with rest_server() as rest:
        assert "strict-transport-security" not in (await rest.client.get("/")).headers
