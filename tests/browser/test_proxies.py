"""The page behind the proxies of the operating guide, over TLS, with the settings it shows."""

import asyncio
from functools import partial

import httpx
import orjson
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.browser import OUTAGE, new_context, person
from tests.support.guide import shown
from tests.support.intruder import ELSEWHERE
from tests.support.official import official_client
from tests.support.polling import polling_through
from tests.support.servers import server_process
from tests.support.tls_proxies import KINDS, PUBLIC_NAME, TlsProxy, tls_proxy

KEY = "0123456789-a-session-key"
ADMIN_KEY = "0123456789-an-admin-key"

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(loop_scope="session", params=sorted(KINDS))
async def proxy(request, tmp_path):
    settings = shown("toml", "parley.toml").replace("/var/lib/parley", str(tmp_path / "data"))
    (tmp_path / "parley.toml").write_text(settings, encoding="utf-8")
    keys = {"SESSION_API_KEY": KEY, "PARLEY_ADMIN_KEY": ADMIN_KEY, "PARLEY_RATE_FAILURES": "2/hour"}
    async with (
        server_process(
            tmp_path / "data", "--config", str(tmp_path / "parley.toml"), environment=keys
        ) as server,
        tls_proxy(request.param, server.port, tmp_path) as running,
    ):
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def outsider(proxy):
    """A client from another address, as other machines are."""
    async with client_through(proxy, ELSEWHERE) as http:
        yield http


def client_through(proxy: TlsProxy, source: str | None = None) -> httpx.AsyncClient:
    """A client of the server behind the proxy, from an address of this machine."""
    # The certificate is the proxy's own.
    transport = httpx.AsyncHTTPTransport(local_address=source, verify=False)
    return httpx.AsyncClient(
        transport=_Named(transport), base_url=f"https://127.0.0.1:{proxy.port}"
    )


class _Named(httpx.AsyncBaseTransport):
    """Asks this machine by the server's public name, as if that could be looked up."""

    def __init__(self, inner):
        self._inner = inner

    async def handle_async_request(self, request):
        request.headers["host"] = f"{PUBLIC_NAME}:{request.url.port}"
        request.extensions["sni_hostname"] = PUBLIC_NAME
        return await self._inner.handle_async_request(request)

    async def aclose(self):
        await self._inner.aclose()


async def test_the_page_works_behind_it_and_comes_back_when_it_was_away(browser, proxy):
    context = await new_context(browser, ignore_https_errors=True)
    reader = await person(context, proxy.url)
    await reader.visit()
    await reader.part("key-input").fill(KEY)
    await reader.part("key-submit").click()
    await expect(reader.part("key-form")).to_be_hidden()
    await reader.begin()
    await reader.ask("through the proxy", "You said: through the proxy")

    await proxy.stop()
    await expect(reader.part("connection-state")).to_have_text("Reconnecting")
    await proxy.start()

    await reader.ask("and again", "You said: and again")
    entries = await reader.entries()
    ids = [one.event_id for one in entries]
    assert ids == sorted(set(ids))
    assert [one.text for one in entries if one.source == "user"] == [
        "through the proxy",
        "and again",
    ]
    assert not await reader.found_fault(excused=rf"401|{OUTAGE}")
    await context.close()


async def test_the_official_client_talks_through_it(proxy, outsider):
    one = await begun(outsider)
    options = {
        "query": {"conversation_id": one, "latest_event_id": -1, "session_api_key": KEY},
        "rejectUnauthorized": False,
        "servername": PUBLIC_NAME,
        "extraHeaders": {"Host": f"{PUBLIC_NAME}:{proxy.port}"},
    }
    async with official_client() as client:
        await client.join(f"https://127.0.0.1:{proxy.port}", one, **options)
        answer = await client.send({"action": "message", "args": {"content": "hello"}})
        await client.until(partial(client.has, answer["id"]))


async def test_polls_through_it_are_answered_when_there_is_something(outsider):
    one = await begun(outsider)
    query = {"conversation_id": one, "latest_event_id": "-1", "session_api_key": KEY}
    client = await polling_through(outsider, **query)
    assert (await client.connect()).startswith("40{")

    waiting = asyncio.create_task(until_said(client, "hello"))
    message = {"action": "message", "args": {"content": "hello"}}
    await client.send(f"42{orjson.dumps(['oh_user_action', message]).decode()}")

    async with asyncio.timeout(5):
        await waiting


async def begun(http):
    """A new conversation."""
    created = await http.post("/api/conversations", json={}, headers={"x-session-api-key": KEY})
    return created.json()["conversation_id"]


async def until_said(client, text):
    """Take in packets until one is the event of that message."""
    while True:
        packet = await client.packet()
        if packet == "2":
            await client.send("3")
        elif packet.startswith("42"):
            event = orjson.loads(packet[2:])[1]
            if event.get("action") == "message" and event["message"] == text:
                return


async def test_what_is_not_for_everybody_is_closed_behind_it(outsider):
    session = {"x-session-api-key": KEY}
    assert (await outsider.get("/metrics")).status_code == 404
    assert (await outsider.get("/api/admin/overview")).status_code == 401
    assert (await outsider.get("/api/options/config")).status_code == 401
    assert (await outsider.get("/api/options/config", headers=session)).status_code == 200
    administers = {"x-admin-api-key": ADMIN_KEY}
    assert (await outsider.get("/api/admin/overview", headers=administers)).status_code == 200


async def test_its_clients_are_told_apart_by_their_own_addresses(outsider, proxy):
    for number in range(2):
        wrong = {"x-session-api-key": f"guess {number}", "x-forwarded-for": f"192.0.2.{number}"}
        assert (await outsider.get("/api/options/config", headers=wrong)).status_code == 401
    right = {"x-session-api-key": KEY}

    refused = await outsider.get("/api/options/config", headers=right)
    assert refused.status_code == 429
    async with client_through(proxy) as other:
        assert (await other.get("/api/options/config", headers=right)).status_code == 200
