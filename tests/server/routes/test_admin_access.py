"""Access to administration: every listener, header, host and key, each cell."""

import asyncio
import hashlib
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from httpx import ASGITransport, AsyncClient
from starlette.routing import Route

from tests.support.faulty_audit import SlowAudit
from tests.support.live import live_server
from tests.support.local_worlds import passable_folder
from tests.support.proxy import forwarding
from tests.support.rest import assert_refused, client_at, rest_server
from tests.support.waiting import WAIT_SECONDS

KEY = "a long admin key"
OVERVIEW = "/api/admin/overview"
AUDIT = "/api/admin/audit"

LISTENERS: dict[str, dict[str, Any]] = {
    "127.0.0.1": {"host": "127.0.0.1"},
    "::1": {"host": "::1"},
    "localhost": {"host": "localhost"},
    "everywhere": {"host": "0.0.0.0", "insecure": True},  # noqa: S104 - what is tested
    "a network": {"host": "192.0.2.1", "insecure": True},
    "session key": {"host": "127.0.0.1", "session_api_key": "sesame"},
}
LOOPBACK = {"127.0.0.1", "::1", "localhost", "session key"}
HEADERS = {
    "none": {},
    "forwarded": {"Forwarded": "for=192.0.2.9"},
    "x-forwarded-for": {"X-Forwarded-For": "192.0.2.9"},
    "x-forwarded-host": {"X-Forwarded-Host": "example.org"},
    "x-forwarded-proto": {"X-Forwarded-Proto": "https"},
    "x-forwarded-prefix": {"X-Forwarded-Prefix": ""},
    "x-real-ip": {"X-Real-IP": "127.0.0.1"},
    "via": {"Via": "1.1 proxy"},
    "empty forwarded": {"Forwarded": ""},
    "key as session key": {"X-Session-API-Key": KEY},
    "other": {"X-Other": "forwarded"},
}
HARMLESS = {"none", "other", "key as session key"}
HOSTS = {
    "localhost": True,
    "localhost:3000": True,
    "LOCALHOST": True,
    "127.0.0.1": True,
    "127.0.0.1:8443": True,
    "[::1]": True,
    "[::1]:3000": True,
    "example.org": False,
    "localhost.example.org": False,
    "127.0.0.1.example.org": False,
    "192.0.2.1": False,
    "127.0.0.2": False,
    "localhost:": False,
    "": False,
}
KEYS = {
    "no key": {},
    "key": {"X-Admin-API-Key": KEY},
    "bearer": {"Authorization": f"Bearer {KEY}"},
    "lower bearer": {"Authorization": f"bearer {KEY}"},
    "wrong": {"X-Admin-API-Key": KEY + "x"},
    "part": {"X-Admin-API-Key": KEY[:-1]},
    "empty": {"X-Admin-API-Key": "", "Authorization": "Bearer "},
    "basic": {"Authorization": f"Basic {KEY}"},
    "not ascii": {"X-Admin-API-Key": "ÿ" * 16},
}
RIGHT = {"key", "bearer", "lower bearer"}


@pytest.mark.parametrize("listener", LISTENERS)
async def test_without_a_key_only_whoever_sits_at_the_machine_is_let_in(listener):
    cells = 0
    async with rest_server(**LISTENERS[listener]) as rest:
        for (header, given), (host, is_here), (shown, key) in product(
            HEADERS.items(), HOSTS.items(), KEYS.items()
        ):
            status = await status_of(rest, {**given, **key, "Host": host})
            allowed = listener in LOOPBACK and header in HARMLESS and is_here
            assert status == (200 if allowed else 403), (header, host, shown)
            cells += 1
    assert cells == len(HEADERS) * len(HOSTS) * len(KEYS)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_with_a_key_only_that_key_lets_in_wherever_from(listener):
    async with rest_server(**LISTENERS[listener], admin_key=KEY) as rest:
        for (header, given), host, (shown, key) in product(HEADERS.items(), HOSTS, KEYS.items()):
            expected = 200 if shown in RIGHT else 401
            status = await status_of(rest, {**given, **key, "Host": host})
            assert status == expected, (header, host, shown)


async def status_of(rest, headers):
    """Return the overview's answer, without a client library, whose part would be the longest."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": OVERVIEW,
        "raw_path": OVERVIEW.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3000),
    }
    sent: list[Any] = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(part):
        sent.append(part)

    await rest.application.asgi(scope, receive, send)
    return sent[0]["status"]


def port_of(live):
    return urlsplit(live.url).port


@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.1", None])
async def test_without_a_key_another_address_is_not_let_in_over_any_listener(peer):
    async with rest_server() as rest:
        transport = ASGITransport(rest.application.asgi, client=peer and (peer, 1))
        async with AsyncClient(transport=transport, base_url="http://localhost:3000") as client:
            assert_refused(await client.get(OVERVIEW), 403, "forbidden", "admin_key")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:3001"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "http://localhost:3000.example.org"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
@pytest.mark.parametrize("key", [None, KEY])
async def test_requests_of_other_sites_are_refused_with_and_without_a_key(headers, status, key):
    settings = {"permitted_cors_origins": "https://example.org", "admin_key": key}
    shown = {} if key is None else {"X-Admin-API-Key": key}
    async with rest_server(**settings) as rest:
        for method, path in (("GET", OVERVIEW), ("DELETE", "/api/admin/drain")):
            answer = await rest.ask(method, path, headers={**headers, **shown})
            assert answer.status_code == status
            assert "access-control-allow-origin" not in answer.headers


async def test_a_preflight_of_another_site_is_told_nothing():
    async with rest_server(permitted_cors_origins="https://example.org") as rest:
        headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        answer = await rest.ask("OPTIONS", "/api/admin/drain", headers=headers)

        assert answer.status_code == 405
        assert "access-control-allow-origin" not in answer.headers


async def test_a_form_of_another_site_acts_on_nothing():
    async with rest_server() as rest:
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            headers = {"Content-Type": content_type}
            answer = await rest.ask("POST", "/api/admin/drain", content="{}", headers=headers)
            assert_refused(answer, 415, "unsupported_media_type")
        assert_refused(await rest.ask("POST", "/api/admin/drain"), 415, "unsupported_media_type")
        assert (await rest.ask("GET", "/ready")).status_code == 200


async def test_every_address_of_the_administration_refuses_who_may_not_and_records_it():
    async with rest_server() as rest:
        table = rest.application.asgi.routes
        addresses = [
            (method, one.path.replace("{conversation_id}", "c1").replace("{connection_id}", "x"))
            for one in table
            if isinstance(one, Route) and one.path.startswith("/api/admin")
            for method in (one.methods or set()) - {"HEAD"}
        ]
        for method, path in addresses:
            answer = await rest.ask(method, path, headers={"Via": "1.1 proxy"})
            assert_refused(answer, 403, "forbidden")

        audit = (await rest.ask("GET", f"{AUDIT}?limit=200")).json()["results"]
    assert len(addresses) == 17
    refused = [one for one in audit if one["outcome"] == "forbidden"]
    assert sum(one["count"] for one in refused) == len(addresses)
    assert {(one["who"], one["target"], one["acting"]) for one in refused} == {
        ("unknown", None, False)
    }


async def test_behind_a_proxy_on_this_machine_only_the_key_lets_in():
    async with (
        live_server() as live,
        forwarding(port_of(live)) as url,
        AsyncClient(timeout=WAIT_SECONDS) as client,
    ):
        assert (await client.get(f"{live.url}{OVERVIEW}")).status_code == 200
        assert_refused(await client.get(f"{url}{OVERVIEW}"), 403, "forbidden")
    async with (
        live_server(admin_key=KEY) as live,
        forwarding(port_of(live)) as url,
        AsyncClient(timeout=WAIT_SECONDS) as client,
    ):
        assert_refused(await client.get(f"{url}{OVERVIEW}"), 401, "unauthorized")
        shown = {"X-Admin-API-Key": KEY}
        assert (await client.get(f"{url}{OVERVIEW}", headers=shown)).status_code == 200
        # A proxy that adds nothing and turns the Host into its upstream's is not let in either.
        assert_refused(await client.get(f"{live.url}{OVERVIEW}"), 401, "unauthorized")


async def test_who_tries_keys_is_not_asked_for_another_and_stands_in_the_audit():
    right = {"X-Admin-API-Key": KEY}
    async with (
        rest_server(admin_key=KEY, rate_failures="4/hour") as rest,
        client_at(rest, "10.0.0.1") as guesser,
        client_at(rest, "10.0.0.2") as other,
    ):
        for _ in range(10):
            assert_refused(await guesser.get(OVERVIEW), 401, "unauthorized")
        for number in range(2):
            for name, start in (("X-Admin-API-Key", ""), ("Authorization", "Bearer ")):
                tried = {name: f"{start}a guess, the {number}."}
                assert_refused(await guesser.get(OVERVIEW, headers=tried), 401, "unauthorized")

        refused = await guesser.get(OVERVIEW, headers=right)
        assert_refused(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert (await other.get(OVERVIEW, headers=right)).status_code == 200
        audit = (await other.get(AUDIT, headers=right)).json()["results"]
    counted = {(one["client"], one["outcome"]): one["count"] for one in audit}
    assert counted[("10.0.0.1", "unauthorized")] == 14
    assert counted[("10.0.0.1", "rate_limited")] == 1


async def test_the_key_is_nowhere_to_be_read():
    async with rest_server(admin_key=KEY) as rest:
        headers = {"X-Admin-API-Key": KEY}
        texts = [
            (await rest.ask("GET", f"/api/admin/{one}", headers=headers)).text
            for one in ("settings", "overview", "audit", "storage")
        ]
        texts.append((await rest.ask("GET", "/admin")).text)

    assert not any(KEY in text or KEY[:6] in text for text in texts)
    assert hashlib.sha256(KEY.encode()).hexdigest()[:8] not in texts[2]
    assert "key:" in texts[2]


async def test_the_admin_key_opens_nothing_else_and_the_session_key_not_the_administration():
    async with rest_server(admin_key=KEY, session_api_key="sesame") as rest:
        admin, session = {"X-Admin-API-Key": KEY}, {"X-Session-API-Key": "sesame"}
        conversations = "/api/conversations"
        assert (await rest.ask("GET", OVERVIEW, headers=admin)).status_code == 200
        assert (await rest.ask("GET", OVERVIEW, headers=session)).status_code == 401
        assert (await rest.ask("GET", conversations, headers=session)).status_code == 200
        assert (await rest.ask("GET", conversations, headers=admin)).status_code == 401


async def test_many_at_once_are_counted_in_one_record():
    async with rest_server() as rest:
        answers = await asyncio.gather(*(rest.ask("GET", OVERVIEW) for _ in range(40)))
        audit = (await rest.ask("GET", AUDIT)).json()["results"]

    assert {one.status_code for one in answers} == {httpx.codes.OK}
    assert [(one["action"], one["count"]) for one in audit] == [("overview", 40)]


async def test_a_look_at_the_audit_loses_no_count_of_a_record_that_is_being_added():
    audit = SlowAudit("overview")
    async with rest_server(None, audit) as rest:
        looks = [asyncio.create_task(rest.ask("GET", OVERVIEW)) for _ in range(3)]
        await audit.asked.wait()
        await rest.ask("GET", AUDIT)
        looks.append(asyncio.create_task(rest.ask("GET", OVERVIEW)))
        audit.go.set()
        await asyncio.gather(*looks)
        found = (await rest.ask("GET", AUDIT)).json()["results"]

    assert [one["count"] for one in found if one["action"] == "overview"] == [4]


async def test_where_agents_run_commands_on_this_machine_a_key_is_needed_from_it_as_well():
    here = {"Host": "localhost:3000"}
    with passable_folder() as folder:
        local: dict[str, Any] = {"runtime_kind": "local", "local_dir": folder / "workspaces"}
        async with rest_server(**local) as rest:
            without = await status_of(rest, here)
        async with rest_server(admin_key=KEY, **local) as rest:
            with_key = await status_of(rest, {**here, "x-admin-api-key": KEY})

    assert (without, with_key) == (403, 200)
