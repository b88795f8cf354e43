"""The built-in page while its server is killed, comes back, or asks for a key."""

import re
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.blocking_proxy import blocked
from tests.support.browser import OUTAGE, new_context, person
from tests.support.screenshots import picture
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS, until
from tests.support.written_logs import at_rest, said, write_log

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

KEY = "open sesame"
"""A websocket that is never answered is waited for."""


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(tmp_path):
    async with server_process(tmp_path / "data") as running:
        yield running


async def drawn_and_stored(reader, conversation_id):
    """Ids and texts of the messages on the page, and of those in the log."""
    path = f"/api/conversations/{conversation_id}/events"
    stored: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=reader.url, timeout=WAIT_SECONDS) as client:
        more = True
        while more:
            start_id = stored[-1]["id"] + 1 if stored else 0
            query = {"start_id": start_id, "limit": 100}
            answer = (await client.get(path, params=query)).json()
            stored += answer["events"]
            more = answer["has_more"]
    drawn = [(one.event_id, one.text) for one in await reader.entries() if one.kind == "message"]
    messages = [event for event in stored if event.get("action") == "message"]
    return drawn, [(event["id"], event["args"]["content"]) for event in messages]


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "stopped"])
async def test_the_page_goes_on_by_itself_when_its_server_comes_back(
    context, mortal, crash, record_property
):
    reader = await person(context, mortal.url)
    conversation_id = await reader.begin()
    await reader.say("/slow 300 20")
    await expect(reader.messages_of("agent").nth(10)).to_be_visible()

    await (mortal.kill() if crash else mortal.stop())
    await expect(reader.part("connection-state")).to_have_text("Reconnecting")
    await reader.say("written while nobody listened")
    await expect(reader.part("pending-message")).to_contain_text("Waiting for the connection")
    await mortal.start()

    await expect(reader.messages_of("agent").last).to_contain_text("nobody listened")
    await reader.sees_state("Ready")
    await expect(reader.part("pending-message")).to_have_count(0)
    await expect(reader.part("error-banner")).to_have_count(0)
    drawn, stored = await drawn_and_stored(reader, conversation_id)
    assert drawn == stored
    assert len([text for _, text in stored if text == "written while nobody listened"]) == 1
    assert not await reader.found_fault(excused=OUTAGE)
    record_property("figures", f"{len(stored)} messages over one restart, each drawn once")


async def test_a_message_waiting_for_the_server_survives_a_reload(context, mortal):
    reader = await person(context, mortal.url)
    conversation_id = await reader.begin()
    await context.set_offline(True)
    await mortal.kill()
    await expect(reader.part("connection-state")).to_have_text("Reconnecting")

    await reader.say("still there")
    await expect(reader.part("pending-message")).to_be_visible()
    await mortal.start()
    await context.set_offline(False)
    await reader.page.reload()

    await expect(reader.messages_of("agent").last).to_contain_text("You said: still there")
    drawn, stored = await drawn_and_stored(reader, conversation_id)
    assert drawn == stored
    assert [text for _, text in stored] == ["still there", "You said: still there"]
    assert not await reader.found_fault(excused=f"{OUTAGE}|ERR_INTERNET_DISCONNECTED")


async def test_confirmation_mode_asks_before_a_command_runs(context, tmp_path):
    asking = {"PARLEY_CONFIRMATION_MODE": "true"}
    async with server_process(tmp_path / "data", environment=asking) as server:
        reader = await person(context, server.url)
        await reader.begin()

        await reader.say("/run echo yes\n/run echo no\nlast word")
        await reader.sees_state("Needs your answer")
        card = reader.part("command").filter(has=reader.part("question"))
        await expect(card).to_contain_text("echo yes")
        await reader.part("approve").click()

        await expect(reader.part("command-output")).to_have_text("yes")
        await expect(card).to_contain_text("echo no")
        await reader.page.reload()
        await reader.sees_state("Needs your answer")
        await expect(card).to_contain_text("echo no")
        await expect(reader.part("decision")).to_have_text(re.compile("^Approved at "))
        await reader.part("reject").click()

        await expect(reader.part("question")).to_have_count(0)
        await expect(reader.part("command").last).to_contain_text("rejected")
        await expect(reader.part("command-output")).to_have_count(2)
        assert not await reader.found_fault()


async def test_a_server_with_a_key_is_asked_for_it_once(browser, tmp_path):
    keyed = {"SESSION_API_KEY": KEY}
    async with server_process(tmp_path / "data", environment=keyed) as server:
        context = await new_context(browser)
        reader = await person(context, server.url)
        await reader.visit()
        for wrong in ("open barley", "beyond what a header holds: \N{SNOWMAN}"):
            await reader.part("key-input").fill(wrong)
            await reader.part("key-submit").click()
            await expect(reader.page.locator("#key-again")).to_be_visible()
            await expect(reader.part("key-form")).to_be_visible()

        await reader.part("key-input").fill(KEY)
        await reader.part("key-submit").click()

        await expect(reader.part("key-form")).to_be_hidden()
        await reader.begin()
        await reader.ask("inside", "You said: inside")
        await reader.page.reload()
        await reader.sees_state("Ready")
        await expect(reader.part("key-form")).to_be_hidden()
        assert not await reader.found_fault(excused="401")
        await context.close()


async def test_a_key_is_remembered_in_the_browser_where_the_person_wants_that(browser, tmp_path):
    keyed = {"SESSION_API_KEY": KEY}
    async with server_process(tmp_path / "data", environment=keyed) as server:
        context = await new_context(browser)
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("key-input").fill(KEY)
        await reader.part("key-submit").click()
        await expect(reader.part("key-form")).to_be_hidden()
        other = await person(context, server.url)
        await other.visit()
        await expect(other.part("key-form")).to_be_visible()

        await picture(other, "key-1280-light")
        await other.part("key-remember").check()
        await other.part("key-input").fill(KEY)
        await other.part("key-submit").click()
        await other.begin()
        third = await person(context, server.url)
        await third.begin()
        await expect(third.part("key-form")).to_be_hidden()

        await third.part("open-settings").click()
        await third.part("forget-key").click()
        await expect(third.part("key-form")).to_be_visible()
        fourth = await person(context, server.url)
        await fourth.visit()
        await expect(fourth.part("key-form")).to_be_visible()
        assert not await third.found_fault(excused="401")
        await context.close()


async def test_a_person_whom_the_server_does_not_know_is_told_so_and_not_asked_for_a_key(
    browser, tmp_path
):
    known = {"PARLEY_USER_AUTH_CLASS": "tests.support.extensions:HeaderAuth"}
    async with server_process(tmp_path / "data", environment=known) as server:
        context = await new_context(browser)
        reader = await person(context, server.url)
        await reader.visit()

        await expect(reader.part("refusal")).to_contain_text("Nobody known asks")
        await picture(reader, "refusal-1280-light")
        await expect(reader.part("key-form")).to_be_hidden()
        assert not await reader.found_fault(excused="401")
        await context.set_extra_http_headers({"x-forwarded-user": "ann"})
        await reader.part("refusal-retry").click()
        await expect(reader.part("list-empty")).to_be_visible()
        await expect(reader.part("refusal")).to_be_hidden()
        await context.close()


ASK = """
async () => {
  const { Http } = await import("/assets/http.js");
  try {
    return { answer: await new Http().call("GET", "/api/settings") };
  } catch (error) {
    return { error: error.message };
  }
}
"""


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"cut', {"error": "The server's answer cannot be read."}),
        ("", {"answer": None}),
        ("[1]", {"answer": [1]}),
    ],
)
async def test_an_answer_that_is_cut_short_is_a_failure_and_not_an_empty_one(
    browser, mortal, body, told
):
    context = await new_context(browser)
    reader = await person(context, mortal.url)
    await reader.visit()
    await reader.page.route("**/api/settings", lambda route: route.fulfill(status=200, body=body))
    assert await reader.page.evaluate(ASK) == told
    await context.close()


@pytest.mark.parametrize("blocks", ["refused", "swallowed"])
async def test_where_no_websocket_comes_through_the_page_polls_and_says_so(browser, mortal, blocks):
    async with blocked(mortal.port, blocks) as proxy:
        context = await new_context(browser)
        reader = await person(context, proxy.url)
        await reader.visit()
        await reader.part("new-conversation").click()
        await reader.part("new-start").click()
        connection = reader.part("connection-state")
        await expect(connection).to_have_text("Connected by polling")
        await expect(connection).to_have_attribute("title", re.compile("WebSockets are blocked"))
        await expect(reader.part("agent-state")).to_have_text("Ready")
        await reader.say("by polling")
        await expect(reader.messages_of("agent").last).to_contain_text("You said: by polling")
        await picture(reader, f"polling-{blocks}-1280-light")
        await reader.page.set_viewport_size({"width": 390, "height": 800})
        assert await connection.evaluate("(one) => one.scrollWidth <= one.clientWidth")
        assert await reader.fits()
        await picture(reader, f"polling-{blocks}-390-light")
        assert proxy.met

        await mortal.kill()
        await expect(connection).to_have_text("Reconnecting")
        await reader.say("written while nobody listened")
        await mortal.start()
        await expect(reader.messages_of("agent").last).to_contain_text("nobody listened")
        await expect(connection).to_have_text("Connected by polling")
        drawn, stored = await drawn_and_stored(reader, reader.page.url.rsplit("/", 1)[1])
        assert drawn == stored

        proxy.blocks = "nothing"
        await mortal.kill()
        await mortal.start()
        await expect(connection).to_have_text("Connected")
        await reader.ask("by websocket", "You said: by websocket")
        assert not await reader.found_fault(excused=rf"{OUTAGE}|40[03]|ERR_INCOMPLETE")
        await context.close()


async def test_a_websocket_that_is_refused_once_is_tried_again(browser, mortal):
    """It may be, at the moment at which a server or a proxy comes back."""
    async with (
        blocked(mortal.port, "nothing") as proxy,
        httpx.AsyncClient(base_url=mortal.url, timeout=WAIT_SECONDS) as http,
    ):
        context = await new_context(browser)
        reader = await person(context, proxy.url)
        await reader.begin()
        (line,) = (await http.get("/api/admin/connections")).json()["results"]
        proxy.blocks = "refused once"
        path = f"/api/admin/connections/{line['connection_id']}/disconnect"
        assert (await http.post(path, json={})).is_success
        await until(lambda: proxy.met)

        await reader.ask("by websocket", "You said: by websocket")
        # A poll that was under way when its session ended is answered 400.
        assert not await reader.found_fault(excused=f"{OUTAGE}|status of 400")
        await context.close()


async def test_an_error_state_that_is_told_again_moves_no_cursor(browser, tmp_path):
    failed = {"agent_state": "error", "reason": "out of ideas"}
    state = {"source": "environment", "observation": "agent_state_changed", "content": ""}
    says = [said("user", "hello"), *at_rest(0, 1), state | {"extras": failed}]
    says += [said("agent", f"after the error {number}") for number in range(5)]
    await write_log(tmp_path / "data", "failed", "Failed", says)
    one_loop = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1"}
    async with server_process(tmp_path / "data", environment=one_loop) as server:
        context = await new_context(browser)
        busy = await person(context, server.url)
        await busy.begin()
        reader = await person(context, server.url)
        sent: list[str] = []
        reader.page.on(
            "websocket",
            lambda socket: socket.on("framereceived", lambda frame: sent.append(str(frame))),
        )
        # No loop can be had that would set another state, so that the error comes with each join.
        async with reader.page.expect_event(
            "websocket", lambda socket: "latest_event_id=9" in socket.url
        ):
            await reader.visit("/conversations/failed")
        await expect(reader.part("connection-state")).to_have_text("Connected")
        await expect(reader.messages_of("agent").last).to_contain_text("after the error 4")
        await expect(reader.part("agent-state")).to_have_text("Waiting")
        assert [frame for frame in sent if "out of ideas" in frame]

        async with reader.page.expect_event(
            "websocket", lambda socket: "transport=websocket" in socket.url
        ) as again:
            await server.kill()
            await server.start()

        assert "latest_event_id=9" in (await again.value).url
        await expect(reader.part("connection-state")).to_have_text("Connected")
        assert not await reader.found_fault(excused=OUTAGE)
        await context.close()


async def test_a_page_that_shows_what_its_log_has_lost_reads_it_anew(context, tmp_path):
    kept = [said("user", "hello"), *at_rest(0, 1), said("agent", "kept")]
    await write_log(tmp_path / "data", "short", "Short", [*kept, *[said("agent", "lost")] * 20])
    await write_log(tmp_path / "other", "short", "Short", kept)
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/short")
        await expect(reader.messages_of("agent").last).to_contain_text("lost")
        await reader.sees_state("Ready")
        await server.kill()
        (tmp_path / "data").rename(tmp_path / "away")
        (tmp_path / "other").rename(tmp_path / "data")
        await server.start()

        # The states of the agent that comes up have ids of what was lost.
        await expect(reader.messages_of("agent")).to_have_count(1)
        await reader.sees_state("Ready")
        await reader.say("still there?")
        await expect(reader.messages_of("agent").last).to_contain_text("still there?")
        drawn, stored = await drawn_and_stored(reader, "short")
        assert drawn == stored
        assert not await reader.found_fault(excused=OUTAGE)
