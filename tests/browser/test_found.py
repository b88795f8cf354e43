"""The search box finds what was said, and goes to the place where it was said."""

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import person
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS, until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

PLACE = '"go on from 120"'
"""Said 880 events before the end of one conversation, and 9,880 before that of another."""


async def indexed(library):
    async with httpx.AsyncClient(base_url=library.url) as client:

        async def is_found():
            answer = await client.get("/api/search", params={"q": PLACE})
            return len(answer.json()["results"]) == 2

        await until(is_found, WAIT_SECONDS)


def place_of(visitor, conversation_id):
    route = f"[data-route='{conversation_id}'][data-event='120']"
    return visitor.page.locator(f"[data-testid=found-result]{route}")


async def test_what_was_said_is_found_and_its_place_is_shown(visitor, library):
    await indexed(library)
    await visitor.visit()
    await visitor.part("search").fill(PLACE)

    link = place_of(visitor, "thousand")
    await expect(link).to_contain_text("Please go on from 120.")
    await expect(link.locator("mark").first).to_have_text("go on from 120")
    await expect(visitor.part("found-status")).to_have_text("Said in 2 places")
    await expect(visitor.part("list-none")).to_be_hidden()
    await link.click()

    sought = visitor.page.locator("[data-sought]")
    await expect(sought).to_have_attribute("data-event-id", "120")
    await expect(sought).to_be_in_viewport()
    await expect(sought).to_be_focused()
    assert await visitor.found_fault() == []


async def test_a_place_in_the_open_conversation_is_gone_to(visitor, library):
    await indexed(library)
    await visitor.visit("/conversations/thousand")
    await expect(visitor.page.locator("[data-event-id='990']")).to_be_visible()
    await visitor.part("search").fill(PLACE)
    await place_of(visitor, "thousand").click()

    await expect(visitor.page.locator("[data-sought]")).to_have_attribute("data-event-id", "120")
    await expect(visitor.page.locator("[data-sought]")).to_be_in_viewport()


async def test_the_places_leave_with_the_words(visitor, library):
    await indexed(library)
    await visitor.visit()
    await visitor.part("search").fill(PLACE)
    await expect(visitor.part("found")).to_be_visible()
    await visitor.part("search").fill("")

    await expect(visitor.part("found")).to_be_hidden()
    await expect(visitor.part("found-status")).to_have_text("")


async def test_a_page_over_a_server_without_an_index_searches_titles_only(context, tmp_path):
    async with server_process(tmp_path / "data", environment={"PARLEY_STORAGE": "local"}) as local:
        reader = await person(context, local.url)
        await reader.visit()
        await reader.part("search").fill("anything")

        await expect(reader.part("list-none")).to_be_visible()
        await expect(reader.part("found")).to_be_hidden()
        assert await reader.found_fault(r"/api/search|501") == []
