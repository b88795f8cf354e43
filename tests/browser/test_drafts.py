"""What is written and not sent yet: kept by conversation over a reload, and gone when it is sent."""

import re

import pytest
from playwright.async_api import expect

from tests.support.browser import person
from tests.support.servers import server_process
from tests.support.waiting import until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

KEPT = "() => localStorage.getItem('parley.drafts')"
BOUNDS = """
async () => {
  const { Drafts } = await import("/assets/drafts.js");
  const drafts = new Drafts();
  for (let number = 0; number < 60; number += 1) drafts.set(`many-${number}`, "short");
  drafts.set("long", "l".repeat(150_000));
  drafts.set("longer", "l".repeat(150_000));
  drafts.set("longest", "l".repeat(300_000));
  dispatchEvent(new Event("pagehide"));
  const kept = new Drafts();
  return ["many-0", "many-59", "long", "longer", "longest"].map((id) => kept.of(id).length);
}
"""


async def test_a_draft_outlives_a_reload_and_stays_with_its_conversation(context, server):
    reader = await person(context, server.url)
    one = await reader.begin()
    await reader.part("composer").fill("for the first")
    two = await reader.begin()
    await expect(reader.part("composer")).to_have_value("")
    await reader.part("composer").fill("for the second")
    await reader.page.reload()
    await expect(reader.part("composer")).to_have_value("for the second")
    await reader.visit()
    await expect(reader.part("composer")).to_have_value("")

    other = await person(context, server.url)
    await other.visit(f"/conversations/{one}")
    await expect(other.part("composer")).to_have_value("for the first")
    await other.part("composer").fill("changed elsewhere")
    await other.visit(f"/conversations/{two}")
    await expect(other.part("composer")).to_have_value("for the second")
    await reader.part("composer").fill("for a new one")
    await reader.page.reload()
    await expect(reader.part("composer")).to_have_value("for a new one")
    await reader.visit(f"/conversations/{one}")
    await expect(reader.part("composer")).to_have_value("changed elsewhere")
    assert not await reader.found_fault()


async def test_a_draft_is_gone_when_it_is_sent(reader):
    await reader.visit()
    await reader.part("composer").fill("said at the front")
    await reader.page.reload()
    await expect(reader.part("composer")).to_have_value("said at the front")
    await reader.part("composer").press("Enter")
    await reader.page.wait_for_url(re.compile("/conversations/"))
    await expect(reader.messages_of("agent").last).to_contain_text("said at the front")
    await reader.part("composer").fill("said again")
    await reader.part("composer").press("Enter")
    await reader.page.reload()
    await expect(reader.messages_of("user").last).to_contain_text("said again")
    await expect(reader.part("composer")).to_have_value("")
    assert await reader.page.evaluate(KEPT) == "[]"
    await reader.visit()
    await expect(reader.part("composer")).to_have_value("")


async def test_a_draft_is_gone_with_its_conversation(reader):
    conversation_id = await reader.begin()
    await reader.part("composer").fill("never sent")
    await reader.page.reload()
    await expect(reader.part("composer")).to_have_value("never sent")
    item = reader.item(conversation_id)
    await item.hover()
    await item.get_by_test_id("delete").click()
    await reader.part("undo").click()
    await expect(reader.part("composer")).to_have_value("never sent")
    await item.hover()
    await item.get_by_test_id("delete").click()
    await reader.part("delete-now").click()
    await expect(item).to_have_count(0)

    async def is_gone():
        return await reader.page.evaluate(KEPT) == "[]"

    await until(is_gone)


async def test_drafts_in_the_browser_are_bounded(reader):
    await reader.visit()
    assert await reader.page.evaluate(BOUNDS) == [0, 5, 0, 150_000, 0]


async def test_drafts_stay_in_the_tab_where_the_session_key_does(context, tmp_path):
    keyed = {"SESSION_API_KEY": "open sesame"}
    async with server_process(tmp_path / "data", environment=keyed) as server:
        reader = await person(context, server.url)
        await reader.visit()
        await reader.part("key-input").fill("open sesame")
        await reader.part("key-submit").click()
        await expect(reader.part("key-form")).to_be_hidden()
        await reader.part("composer").fill("for this tab")
        await reader.page.reload()
        await expect(reader.part("composer")).to_have_value("for this tab")
        assert await reader.page.evaluate(KEPT) is None
