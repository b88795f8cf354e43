"""The page behind the proxies of the operating guide, over TLS, with the settings it shows."""

import asyncio
import re
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from playwright.async_api import expect

from events.event import EventSource
from tests.browser.test_streaming import writing
from tests.support.browser import OUTAGE, new_context, person
from tests.support.guide import shown
from tests.support.intruder import ELSEWHERE
from tests.support.live import live_server
from tests.support.official import official_client
from tests.support.polling import polling_through
from tests.support.screenshots import picture
from tests.support.servers import server_process
from tests.support.streams import message
from tests.support.tls_proxies import KINDS, PUBLIC_NAME, TlsProxy, tls_proxy
from tests.support.waiting import WAIT_SECONDS, until

KEY = "0123456789-a-session-key"
ADMIN_KEY = "0123456789-an-admin-key"

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def opened(name, folder, below=""):
    """A server with the guide's settings, and a proxy in front of it."""
    settings = shown("toml", "parley.toml").replace("/var/lib/parley", str(folder / "data"))
    (folder / "parley.toml").write_text(settings, encoding="utf-8")
    keys = {"SESSION_API_KEY": KEY, "PARLEY_ADMIN_KEY": ADMIN_KEY, "PARLEY_RATE_FAILURES": "2/hour"}
    async with (
        server_process(
            folder / "data", "--config", str(folder / "parley.toml"), environment=keys
        ) as server,
        tls_proxy(name, server.port, folder, below) as running,
    ):
        yield running


@pytest_asyncio.fixture(loop_scope="session", params=sorted(KINDS))
async def proxy(request, tmp_path):
    async with opened(request.param, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", params=sorted(KINDS))
async def below(request, tmp_path):
    """A proxy that has the server below a path."""
    async with opened(request.param, tmp_path, "/parley") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def outsider(proxy):
    """A client from another address, as other machines are."""
    async with client_through(proxy, ELSEWHERE) as http:
        yield http


def client_through(proxy: TlsProxy, source: str | None = None) -> httpx.AsyncClient:
    """A client of the server behind the proxy, from an address of this machine."""
    # The certificate is the proxy's own. A connection to the proxy is kept for as long as that keeps it.
    limits = httpx.Limits(keepalive_expiry=None)
    transport = httpx.AsyncHTTPTransport(local_address=source, verify=False, limits=limits)
    return httpx.AsyncClient(
        transport=_Named(transport),
        base_url=f"https://127.0.0.1:{proxy.port}",
        timeout=WAIT_SECONDS,
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

    await proxy_restarts(reader, proxy)
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


async def test_below_a_path_everything_the_page_does_stays_below_it(browser, below):
    context = await new_context(browser, ignore_https_errors=True)
    reader = await person(context, below.url)
    reached = urls_reached(reader)
    # Without its slash the path leads to the page, too.
    await reader.visit("")
    await expect(reader.page).to_have_url(f"{below.url}/")
    await reader.part("key-input").fill(KEY)
    await reader.part("key-submit").click()
    await expect(reader.part("key-form")).to_be_hidden()
    # Other servers may be below the same origin, and are not sent this one's key.
    kept = await reader.page.evaluate("Object.keys(sessionStorage)")
    assert kept == ["parley.session-key@/parley/"]
    conversation_id = await reader.begin()
    await expect(reader.page).to_have_url(f"{below.url}/conversations/{conversation_id}")
    await reader.ask("below a path", "You said: below a path")
    await picture(reader, "sub-path-1280-light")

    await proxy_restarts(reader, below)
    await reader.ask("and again", "You said: and again")
    await reader.page.reload()
    await expect(reader.messages_of("agent").last).to_contain_text("You said: and again")
    await reader.sees_state("Ready")
    await reader.part("export").click()
    async with reader.page.expect_download() as download:
        await reader.part("export-trajectory").click()
    assert (await (await download.value).path()).stat().st_size > 0
    brand = reader.page.locator(".brand")
    assert await brand.evaluate("(one) => one.href") == f"{below.url}/"
    await brand.click()
    await expect(reader.page).to_have_url(f"{below.url}/")
    await reader.item(conversation_id).get_by_test_id("conversation-link").click()
    await expect(reader.messages_of("agent").last).to_contain_text("You said: and again")
    await reader.page.go_back()
    await expect(reader.page).to_have_url(f"{below.url}/")

    # A download is handed over by an address of the tab's own.
    assert strays(reached, below) == [below.url]
    assert not await context.cookies()
    assert not await reader.found_fault(excused=rf"401|{OUTAGE}")
    await context.close()


async def test_below_a_path_the_other_pages_are_whole(browser, below):
    context = await new_context(browser, ignore_https_errors=True)
    reader = await person(context, below.url)
    reached = urls_reached(reader)
    await reader.visit("/admin")
    await reader.part("key-input").fill(ADMIN_KEY)
    await reader.part("key-submit").click()
    await expect(reader.part("ready")).to_have_attribute("data-state", "good")
    await expect(reader.part("stage")).to_contain_text("No agent loop")
    await picture(reader, "sub-path-admin-1280-light")
    await reader.visit("/docs")
    await expect(reader.part("content")).to_have_attribute("aria-busy", "false")
    found = reader.part("entry").filter(has_text="/api/options/models").first
    await found.click()
    await expect(found).to_contain_text(f'curl -sS "{below.url}/api/options/models"')
    await expect(reader.page.locator(".about").first).to_contain_text('path: "/parley/socket.io"')

    assert not strays(reached, below)
    assert not [one for one in reader.complaints if "401" not in one]
    assert not await reader.page.evaluate("window.violations")
    await context.close()


async def test_below_a_path_clients_talk_and_metrics_stay_closed(below):
    async with client_through(below, ELSEWHERE) as http:
        assert (await http.get("/parley/metrics")).status_code == 404
        assert (await http.get("/parley/alive")).status_code == 200
        one = await begun(http, "/parley")
        options = {
            "path": "/parley/socket.io",
            "query": {"conversation_id": one, "latest_event_id": -1, "session_api_key": KEY},
            "rejectUnauthorized": False,
            "servername": PUBLIC_NAME,
            "extraHeaders": {"Host": f"{PUBLIC_NAME}:{below.port}"},
        }
        async with official_client() as client:
            await client.join(f"https://127.0.0.1:{below.port}", one, **options)
            answer = await client.send({"action": "message", "args": {"content": "hello"}})
            await client.until(partial(client.has, answer["id"]))


def urls_reached(reader):
    """The addresses the tab asks for from now on, sockets too."""
    reached: list[str] = []
    reader.page.on("request", lambda request: reached.append(request.url))
    reader.page.on("websocket", lambda socket: reached.append(re.sub("^wss", "https", socket.url)))
    return reached


def strays(reached, proxy):
    """Those that are not below the proxy's path."""
    return [url for url in reached if not url.startswith((f"{proxy.url}/", "blob:"))]


async def proxy_restarts(reader, proxy):
    """End the proxy and start it anew, and see that the page noticed."""
    await proxy.stop()
    await expect(reader.part("connection-state")).to_have_text("Reconnecting")
    await proxy.start()


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

    async with asyncio.timeout(WAIT_SECONDS):
        await waiting


MANY = 20


async def test_what_is_posted_into_a_pause_of_it_meets_no_connection_the_server_has_ended(
    outsider, proxy
):
    path = f"/api/conversations/{await begun(outsider)}/message"
    written = 0

    async def trace(name, _):
        nonlocal written
        written += name == "http11.send_request_body.complete"

    async def post():
        options = {"json": {"message": "/quiet"}, "extensions": {"trace": trace}}
        return await outsider.post(path, headers={"x-session-api-key": KEY}, **options)

    async def has_ended_the_idle_ones():
        told = (await direct.get("/metrics", headers={"x-session-api-key": KEY})).text
        return "\nparley_clients 1.0\n" in told

    # The server ends a connection on which nothing is asked for some seconds.
    await asyncio.gather(*(post() for _ in range(MANY)))
    async with httpx.AsyncClient(base_url=proxy.upstream, timeout=WAIT_SECONDS) as direct:
        with proxy.paused():
            await until(has_ended_the_idle_ones)
            posting = [asyncio.create_task(post()) for _ in range(MANY)]
            await until(lambda: written > MANY)
    answers = await asyncio.gather(*posting)
    assert [answer.text for answer in answers if answer.status_code != 200] == []


async def begun(http, below=""):
    """A new conversation."""
    created = await http.post(
        f"{below}/api/conversations", json={}, headers={"x-session-api-key": KEY}
    )
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


NO_WEBSOCKETS = """
window.WebSocket = class {
  constructor() {
    throw new DOMException("No websockets here", "SecurityError");
  }
};
"""


async def test_below_a_path_the_page_talks_by_polling_alone(browser, below):
    context = await new_context(browser, ignore_https_errors=True)
    await context.add_init_script(NO_WEBSOCKETS)
    reader = await person(context, below.url)
    reached = urls_reached(reader)
    await reader.visit()
    await reader.part("key-input").fill(KEY)
    await reader.part("key-submit").click()
    await reader.part("new-conversation").click()
    await reader.part("new-start").click()
    connection = reader.part("connection-state")
    await expect(connection).to_have_text("Connected by polling")

    long = "word \N{SNOWMAN} " * 30_000
    await reader.say(long)
    await expect(reader.messages_of("agent").last).to_contain_text("You said 209999 characters")
    await reader.say("/big 900000")
    await expect(reader.part("agent-state")).to_have_text("Ready")
    await reader.say("/error out of ideas")
    await expect(reader.part("agent-state")).to_have_text("Error")
    await expect(reader.part("transcript")).to_contain_text("out of ideas")

    await context.set_offline(True)
    await expect(connection).to_have_text("Reconnecting")
    await reader.say("written while nobody listened")
    await context.set_offline(False)
    await expect(reader.messages_of("agent").last).to_contain_text("nobody listened")
    await expect(connection).to_have_text("Connected by polling")
    ids = [one.event_id for one in await reader.entries()]
    assert ids == sorted(set(ids))
    assert strays(reached, below) == []
    assert not await reader.found_fault(excused=rf"400|401|ERR_INTERNET_DISCONNECTED|{OUTAGE}")
    await context.close()


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize("carried", ["Connected", "Connected by polling"])
async def test_below_a_path_a_text_is_seen_while_it_is_written(browser, tmp_path, name, carried):
    hosts = {"trusted_proxies": ["127.0.0.1"], "permitted_hosts": [PUBLIC_NAME]}
    settings: dict[str, Any] = {"delta_interval_seconds": 0.02, **hosts}
    context = await new_context(browser, ignore_https_errors=True)
    if carried != "Connected":
        await context.add_init_script(NO_WEBSOCKETS)
    async with (
        live_server(**settings) as live,
        tls_proxy(name, live.server.port, tmp_path, "/parley") as below,
        writing(live) as author,
    ):
        reader = await person(context, below.url)
        await author.stream.append(message("Ready to write."), EventSource.AGENT)
        await reader.visit(author.path)
        connection = reader.part("connection-state")
        await expect(connection).to_have_text(carried)
        await author.write("Good ", "mor")
        await expect(reader.part("written")).to_contain_text("Good mor")
        await reader.page.reload()
        await expect(reader.part("written")).to_contain_text("Good mor")
        await author.write("ning")
        await author.finish()
        await expect(reader.messages_of("agent").last).to_contain_text("Good morning")
        assert not await reader.found_fault(excused=OUTAGE)
        # A poll that is under way would hold the proxy up.
        await context.close()
