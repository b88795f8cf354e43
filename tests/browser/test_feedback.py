"""Feedback: each act of a person has an answer in sight, the focus has a place, and old news go."""

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import OUTAGE, new_context, person
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

FOCUSED = "() => document.activeElement.id"
LONG_TITLE = "Why does the nightly build of the payments service fail"
FITS = "(element) => element.scrollWidth <= element.clientWidth"


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_deletion_can_be_undone_whatever_the_title_and_the_focus_goes_to_the_row(
    browser, server, width
):
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
        created = await client.post("/api/conversations", json={})
        one = created.json()["conversation_id"]
        await client.patch(f"/api/conversations/{one}", json={"title": LONG_TITLE})
    context = await new_context(browser, viewport={"width": width, "height": 800})
    reader = await person(context, server.url)
    await reader.visit()
    if width < 760:
        await reader.part("drawer-open").click()
    await reader.item(one).hover()
    await reader.item(one).get_by_test_id("delete").click()

    assert await reader.part("undo-toast").evaluate(FITS)
    assert await reader.page.locator("#toasts").evaluate(FITS)
    await reader.part("undo").focus()
    await reader.part("undo").press("Enter")

    await expect(reader.item(one).get_by_test_id("conversation-link")).to_be_focused()
    await context.close()


async def test_the_drawer_takes_the_focus_and_gives_it_back(browser, server):
    context = await new_context(
        browser, viewport={"width": 390, "height": 800}, reduced_motion="no-preference"
    )
    reader = await person(context, server.url)
    await reader.visit()

    await reader.part("drawer-open").press("Enter")
    await expect(reader.page.locator("#drawer-close")).to_be_focused()
    await reader.page.keyboard.press("Escape")
    await expect(reader.part("drawer-open")).to_be_focused()
    await context.close()


async def test_buttons_that_go_leave_the_focus_to_the_composer(reader):
    await reader.begin()
    await reader.say("/slow 2 600000")
    await expect(reader.part("stop")).to_be_visible()
    await reader.part("stop").press("Enter")
    await expect(reader.part("resume")).to_be_visible()
    await expect(reader.part("composer")).to_be_focused()

    await reader.part("resume").press("Enter")
    await expect(reader.part("resume")).to_be_hidden()
    await expect(reader.part("composer")).to_be_focused()


async def test_a_conversation_that_cannot_begin_says_so_where_it_was_asked_for(context, tmp_path):
    async with (
        server_process(tmp_path / "data") as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client,
    ):
        reader = await person(context, server.url)
        await reader.visit()
        await client.post("/api/admin/drain", json={})
        await reader.part("new-conversation").click()
        await reader.part("new-message").fill("what I wanted to say")
        await reader.part("new-start").click()

        await expect(reader.part("new-trouble")).to_contain_text("draining")
        await expect(reader.part("new-message")).to_have_value("what I wanted to say")
        await expect(reader.part("error-banner")).to_have_count(0)

        await client.delete("/api/admin/drain")
        await reader.part("new-start").click()
        await expect(reader.messages_of("agent").last).to_contain_text("what I wanted to say")
        await expect(reader.part("new-trouble")).to_be_hidden()


async def test_an_outage_is_told_once_and_is_no_news_when_it_is_over(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.begin()
        await server.kill()
        await expect(reader.part("connection-state")).to_have_text("Reconnecting")
        await reader.look_again()
        await expect(reader.part("offline-banner")).to_be_visible()
        await expect(reader.part("error-banner")).to_have_count(0)
        await expect(reader.part("agent-state")).to_be_hidden()
        await reader.part("new-conversation").click()
        await reader.part("new-start").click()
        await expect(reader.part("new-trouble")).to_contain_text("cannot be reached")
        await reader.page.keyboard.press("Escape")

        await server.start()
        await expect(reader.part("offline-banner")).to_be_hidden()
        await reader.sees_state("Ready")
        await expect(reader.part("error-banner")).to_have_count(0)
        assert not await reader.found_fault(excused=OUTAGE)


async def test_on_glass_enter_breaks_the_line_and_the_hint_does_not_speak_of_shift(browser, server):
    context = await new_context(
        browser, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    reader = await person(context, server.url)
    await reader.visit()
    await reader.part("composer").fill("one")
    await reader.part("composer").press("Enter")
    await reader.part("composer").press_sequentially("two")

    await expect(reader.part("composer")).to_have_value("one\ntwo")
    hint = reader.page.get_by_text("Shift Enter")
    await expect(hint.first).to_be_hidden()
    await reader.part("send").tap()
    await expect(reader.messages_of("user").last).to_contain_text("two")
    await context.close()
