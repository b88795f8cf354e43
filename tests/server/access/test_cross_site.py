"""Pages of other sites, and names that were pointed at this machine, get nowhere."""

import httpx
import pytest

from tests.support.intruder import intruder
from tests.support.live import live_server
from tests.support.polling import polling_client
from tests.support.rest import assert_refused
from tests.support.waiting import WAIT_SECONDS

BOTH_WAYS = True
GOOD = "https://good.test"
FOREIGN = [
    "https://evil.test",
    "null",
    "file://",
    "https://good.test.evil",
    "https://good.test.evil:443",
    "https://evilgood.test",
    "https://sub.good.test",
    "https://good.test:444",
    "http://good.test",
    "https://good.test@evil.test",
    "https://good.test#evil.test",
    "https://good.test/",
    "https://good.test https://evil.test",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "https://127.0.0.1:{port}",
    "http://localhost:{port}",
    "http://127.0.0.1:{port}.evil.test",
    "http://127.0.0.1.evil.test:{port}",
    "http://[::ffff:127.0.0.1]:{port}",
    "*",
    "",
]
FOREIGN_HOSTS = [
    "evil.test",
    "evil.test:{port}",
    "localhost.evil.test",
    "127.0.0.1.evil.test:{port}",
    "127.0.0.1@evil.test",
    "192.168.7.7:{port}",
    "",
]
FORMS = ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"]


@pytest.fixture
async def live():
    async with live_server(permitted_cors_origins=[GOOD]) as opened:
        yield opened


def cases(live):
    port = live.server.port
    for origin in FOREIGN:
        yield {"Origin": origin.format(port=port)}
    for host in FOREIGN_HOSTS:
        yield {"Host": host.format(port=port)}


async def test_polling_is_opened_by_own_and_permitted_origins_only(live):
    opening = {"EIO": "4", "transport": "polling"}
    async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client:
        for origin in (live.url, GOOD):
            answer = await client.get("/socket.io/", params=opening, headers={"Origin": origin})
            assert answer.text.startswith("0{"), origin
        for headers in cases(live):
            answer = await client.get("/socket.io/", params=opening, headers=headers)
            assert_refused(answer, 403, "forbidden")
            assert "access-control-allow-origin" not in answer.headers
    assert len(live.application.library.eio.sockets) == 2


async def test_a_session_that_polls_takes_nothing_from_elsewhere(live):
    conversation_id = await live.new()
    async with polling_client(live.url, conversation_id=conversation_id) as client:
        for headers in cases(live):
            for method in ("GET", "POST"):
                answer = await client._http.request(
                    method, "/socket.io/", params=client._asked, headers=headers, content="40"
                )
                assert_refused(answer, 403, "forbidden")

        assert not live.application.connections.count(conversation_id)
        assert (await client.connect()).startswith("40{")


async def test_a_websocket_is_opened_by_own_and_permitted_origins_only(live):
    query = f"conversation_id={await live.new()}"
    for origin in (live.url, GOOD):
        async with intruder(live.url) as one:
            assert (await one.upgrade(query, {"Origin": origin})).status == 101, origin
    for headers in cases(live):
        async with intruder(live.url) as one:
            answer = await one.upgrade(query, headers)
            assert answer.status in (400, 403), headers
            await one.cut()
    assert not live.application.connections


async def test_an_upgrade_from_polling_is_not_for_pages_of_other_sites(live):
    query = f"conversation_id={await live.new()}"
    async with polling_client(live.url, conversation_id=query.partition("=")[2]) as client:
        await client.connect()
        upgrade = f"{query}&sid={client._asked['sid']}"
        for headers in cases(live):
            async with intruder(live.url) as one:
                assert (await one.upgrade(upgrade, headers)).status in (400, 403), headers
        async with intruder(live.url) as one:
            assert (await one.upgrade(upgrade, {"Origin": live.url})).status == 101
            await one.text("2probe")
            assert await one.message() == "3probe"


async def test_rest_is_for_own_and_permitted_origins_only(live):
    conversation_id = await live.new()
    address = f"/api/conversations/{conversation_id}"
    async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client:
        for headers in cases(live):
            for method, path in (
                ("POST", "/api/conversations"),
                ("PATCH", address),
                ("DELETE", address),
                ("GET", address),
                ("OPTIONS", address),
            ):
                asked = headers | {"Access-Control-Request-Method": "DELETE"}
                body = None if method in ("GET", "OPTIONS") else {"title": "taken"}
                answer = await client.request(method, path, headers=asked, json=body)
                assert_refused(answer, 403, "forbidden")
                assert "access-control-allow-origin" not in answer.headers

        kept = await client.get(address, headers={"Origin": GOOD})
    assert kept.json()["title"] == "A title"
    assert kept.headers["access-control-allow-origin"] == GOOD


@pytest.mark.parametrize("media_type", FORMS)
async def test_a_form_of_another_site_changes_nothing_even_where_no_origin_is_told(
    live, media_type
):
    address = f"/api/conversations/{await live.new()}"
    async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client:
        for path in ("/api/conversations", "/api/settings", f"{address}/message"):
            sent = {"Content-Type": media_type}
            answer = await client.post(path, content=b'{"message":"a","x":"="}', headers=sent)
            assert_refused(answer, 415, "unsupported_media_type")
        listed = (await client.get("/api/conversations")).json()["results"]
    assert len(listed) == 1


async def test_a_form_with_files_of_another_site_is_refused_by_its_origin(live):
    address = f"/api/conversations/{await live.new()}/upload-files"
    async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client:
        files = [("files", ("a", b"1"))]
        answer = await client.post(address, files=files, headers={"Origin": "null"})
        assert_refused(answer, 403, "forbidden")
        for site in ("cross-site", "same-site"):
            told = {"Sec-Fetch-Site": site}
            answer = await client.post(address, files=files, headers=told)
            assert_refused(answer, 403, "forbidden")
        own = await client.post(address, files=files, headers={"Sec-Fetch-Site": "same-origin"})
        assert own.status_code == 200
