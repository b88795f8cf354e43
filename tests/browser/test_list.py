"""The list of conversations: endless paging, search, filters, live marks, hostile titles."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from storage.config import SqliteStorage
from storage.conversations.metadata import ConversationMetadata
from storage.opening import open_storage
from tests.support.browser import person
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS, until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

MANY = 205
MARKUP = '<img src=x onerror="window.broken=1"><script>window.broken=1</script><b>bold</b>'
RIGHT_TO_LEFT = "\u202egnp.exe \u0627\u0644\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd"
EMOJI = "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\u200d\u2620\ufe0f e\u0301"
HOSTILE = {
    "markup": MARKUP,
    "bidi": RIGHT_TO_LEFT,  # shown without the override
    "emoji": EMOJI,
    "long": "w" * 10_000,
    "zalgo": "e" + "\u0301" * 300,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def library(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("library") / "data"
    async with open_storage(SqliteStorage(data_dir=data_dir)) as storage:
        store = storage.conversations.for_user(None)
        for number in range(MANY):
            await store.save_metadata(
                ConversationMetadata(
                    conversation_id=f"many-{number:03}",
                    title=f"Letter number {number:03}",
                    selected_repository="octo/lighthouse" if number % 50 == 0 else None,
                )
            )
        for name, title in HOSTILE.items():
            await store.save_metadata(
                ConversationMetadata(conversation_id=f"odd-{name}", title=title)
            )
    async with server_process(data_dir) as running:
        yield running


async def test_more_than_two_hundred_conversations_are_listed_by_scrolling(context, library):
    reader = await person(context, library.url)
    await reader.visit()
    rows = reader.part("conversation-item")
    await expect(rows.nth(19)).to_be_attached()
    assert await rows.count() < MANY

    while (before := await rows.count()) and await reader.part("list-more").is_visible():
        await rows.last.scroll_into_view_if_needed()
        await expect(rows.nth(before)).to_be_attached()

    await expect(rows).to_have_count(MANY + len(HOSTILE))
    ids = await rows.evaluate_all("(all) => all.map((one) => one.dataset.conversationId)")
    assert len(set(ids)) == MANY + len(HOSTILE)
    assert ids[-1] == "many-000"
    assert not await reader.found_fault()


async def test_the_search_box_finds_by_a_part_of_the_title(context, library):
    reader = await person(context, library.url)
    await reader.visit()
    rows = reader.part("conversation-item")

    await reader.part("search").fill("LETTER NUMBER 07")
    await expect(rows).to_have_count(10)
    await expect(reader.part("list-status")).to_have_text("10 conversations found")
    await reader.part("search").fill("nowhere to be found")
    await expect(reader.part("list-none")).to_be_visible()
    await reader.part("list-none").get_by_role("button").click()

    await expect(rows.nth(19)).to_be_attached()
    await expect(reader.part("search")).to_have_value("")
    await expect(reader.part("search")).to_be_focused()
    assert not await reader.found_fault()


async def test_filters_narrow_the_list_and_are_cleared_at_once(context, library):
    reader = await person(context, library.url)
    await reader.visit()
    rows = reader.part("conversation-item")
    await reader.part("filter-toggle").click()

    await reader.part("filter-repository").fill("octo/lighthouse")
    await expect(rows).to_have_count(5)
    await expect(rows.first).to_contain_text("octo/lighthouse")
    await reader.part("search").fill("number 15")
    await expect(rows).to_have_count(1)
    await reader.part("filter-trigger").select_option("slack")
    await expect(reader.part("list-none")).to_be_visible()
    await reader.part("filters-clear").click()

    await expect(rows.nth(19)).to_be_attached()
    await reader.part("filter-since").select_option("1")
    await expect(rows.nth(19)).to_be_attached()
    assert not await reader.found_fault()


@pytest.mark.parametrize("width", [1280, 390])
async def test_hostile_titles_are_text_and_widen_nothing(context, library, width):
    reader = await person(context, library.url)
    await reader.page.set_viewport_size({"width": width, "height": 800})
    await reader.visit()
    if width == 390:
        await reader.part("drawer-open").click()

    for name, title in HOSTILE.items():
        shown = title.replace("\u202e", "")
        await expect(reader.item(f"odd-{name}").locator(".item__title")).to_have_text(shown)
        box = await reader.item(f"odd-{name}").bounding_box()
        assert box is not None
        assert box["height"] < 70
    listed = reader.part("conversation-list")

    assert await listed.locator("img, script, b").count() == 0
    assert await reader.page.evaluate("window.broken") is None
    assert await reader.fits()
    assert not await reader.found_fault()


async def test_states_change_in_the_list_without_a_reload(context, server):
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
        created = await client.post("/api/conversations", json={})
        conversation_id = created.json()["conversation_id"]
        reader = await person(context, server.url)
        await reader.visit()
        row = reader.item(conversation_id)
        await expect(row).to_have_attribute("data-status", "RUNNING")

        await client.post(f"/api/conversations/{conversation_id}/stop")
        await reader.look_again()
        await expect(row).to_have_attribute("data-status", "STOPPED")
    await row.hover()
    await row.get_by_test_id("start-conversation").click()
    await expect(row).to_have_attribute("data-status", "RUNNING")
    await row.hover()
    await row.get_by_test_id("stop-conversation").click()

    await expect(row).to_have_attribute("data-status", "STOPPED")
    assert not await reader.found_fault()


async def test_a_row_is_shown_as_starting_no_longer_than_it_starts(context, server):
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
        created = await client.post("/api/conversations", json={})
        conversation_id = created.json()["conversation_id"]
        await client.post(f"/api/conversations/{conversation_id}/stop")
        reader = await person(context, server.url)
        now = datetime.now(UTC)
        await reader.page.clock.install(time=now)
        await reader.visit()
        row = reader.item(conversation_id)
        await row.hover()
        await reader.page.clock.pause_at(now + timedelta(minutes=1))
        async with reader.page.expect_response("**/start"):
            await row.get_by_test_id("start-conversation").click()

        async def started():
            shown = await client.get(f"/api/conversations/{conversation_id}")
            return shown.json()["status"] == "RUNNING"

        await until(started)
        async with reader.page.expect_response("**/api/conversations?*"):
            await reader.page.clock.run_for(1_000)
        await expect(row).to_have_attribute("data-status", "RUNNING")
    assert not await reader.found_fault()


async def test_a_conversation_the_agent_went_on_with_is_marked_until_it_is_opened(context, server):
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
        created = await client.post("/api/conversations", json={"initial_user_msg": "first"})
        conversation_id = created.json()["conversation_id"]
        reader = await person(context, server.url)
        await reader.visit(f"/conversations/{conversation_id}")
        await expect(reader.messages_of("agent").last).to_contain_text("first")
        await reader.page.locator(".brand").click()
        row = reader.item(conversation_id)
        await expect(row.get_by_test_id("unread-mark")).to_be_hidden()

        path = f"/api/conversations/{conversation_id}/message"
        await client.post(path, json={"message": "second"})
        await reader.look_again()

        await expect(row.get_by_test_id("unread-mark")).to_be_visible()
    await row.get_by_test_id("conversation-link").click()
    await expect(reader.messages_of("agent").last).to_contain_text("second")
    await expect(row.get_by_test_id("unread-mark")).to_be_hidden()
    assert not await reader.found_fault()


async def test_a_conversation_begins_with_its_first_message_and_repository(reader):
    await reader.visit()
    await reader.part("new-conversation").click()
    await expect(reader.part("new-message")).to_be_focused()
    await reader.part("new-repository").fill("octo/lighthouse")
    await reader.part("new-message").fill("Where is the light?")
    await reader.part("new-message").press("Enter")

    await reader.page.wait_for_url(re.compile("/conversations/"))
    await expect(reader.messages_of("agent").last).to_contain_text("Where is the light?")
    conversation_id = reader.page.url.rsplit("/", 1)[1]
    await expect(reader.item(conversation_id)).to_contain_text("octo/lighthouse")
    assert not await reader.found_fault()


async def test_writing_on_the_front_page_begins_a_conversation(reader):
    await reader.visit()

    await reader.say("From the front")

    await reader.page.wait_for_url(re.compile("/conversations/"))
    await expect(reader.messages_of("agent").last).to_contain_text("You said: From the front")
    assert not await reader.found_fault()


async def test_a_title_given_while_the_page_was_joining_reaches_its_head(context, server):
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
        created = await client.post("/api/conversations", json={})
        path = f"/api/conversations/{created.json()['conversation_id']}"
        reader = await person(context, server.url)

        async def retitle(route):
            answer = await route.fetch()
            await client.patch(path, json={"title": "Told in between"})
            await route.fulfill(response=answer)

        await context.route(f"**{path}", retitle, times=1)
        await reader.visit(path.removeprefix("/api"))
        await reader.sees_state("Ready")
        await reader.look_again()

        await expect(reader.part("title")).to_have_text("Told in between")
    assert not await reader.found_fault()


@pytest.mark.parametrize(
    ("text", "word", "state"),
    [
        ("/error no more", "Error", "error"),
        ("/slow 2 600000", "Working", "running"),
    ],
)
async def test_the_open_conversations_row_says_its_state_in_the_colour_of_its_head(
    reader, text, word, state
):
    row = reader.item(await reader.begin())
    await reader.say(text)

    await expect(reader.part("agent-state")).to_have_attribute("data-state", state)
    mark = row.get_by_test_id("running-mark")
    await expect(mark).to_have_text(word)
    color = "(element) => getComputedStyle(element).color"
    assert await mark.evaluate(color) == await reader.part("agent-state").evaluate(color)


async def ids_of(reader):
    rows = reader.part("conversation-item")
    return await rows.evaluate_all("(rows) => rows.map((row) => row.dataset.conversationId)")


async def listed_again(reader):
    """Have the list read once more, and wait until it is shown."""
    async with reader.page.expect_response("**/api/conversations?*"):
        await reader.look_again()
    await expect(reader.part("conversation-list")).to_have_attribute("aria-busy", "false")


async def test_the_newest_message_comes_first_and_opening_changes_nothing(context, tmp_path):
    async with (
        server_process(tmp_path / "data") as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client,
    ):
        made = []
        for text in ("one", "two", "three"):
            created = await client.post("/api/conversations", json={"initial_user_msg": text})
            made.append(created.json()["conversation_id"])
            path = f"/api/conversations/{made[-1]}"
            reader = await person(context, server.url)
            await reader.visit(path.removeprefix("/api"))
            await expect(reader.messages_of("agent").last).to_contain_text(f"You said: {text}")
            await reader.page.close()
            await client.post(f"{path}/stop")
        oldest, middle, newest = made
        reader = await person(context, server.url)
        await reader.visit(f"/conversations/{oldest}")
        await reader.sees_state("Ready")
        age = reader.item(oldest).locator("time")
        before = await age.get_attribute("datetime")

        await listed_again(reader)
        assert await ids_of(reader) == [newest, middle, oldest]
        assert await age.get_attribute("datetime") == before

        await reader.ask("once more", "You said: once more")
        await expect(reader.part("conversation-item").first).to_contain_text("one")
        assert await ids_of(reader) == [oldest, newest, middle]
        assert await age.get_attribute("datetime") != before

        await reader.page.route("**/api/conversations?*", lambda route: route.abort())
        await reader.item(newest).get_by_test_id("conversation-link").click()
        await reader.ask("and here", "You said: and here")
        # The list was not asked for again.
        assert await ids_of(reader) == [newest, oldest, middle]
        await reader.page.unroute("**/api/conversations?*")

        await reader.item(middle).hover()
        await reader.item(middle).get_by_test_id("rename").click()
        await reader.part("rename-input").fill("half a ti")
        await client.post(f"/api/conversations/{middle}/message", json={"message": "moves"})
        await reader.look_again()
        await expect(reader.part("conversation-item").first).to_have_attribute(
            "data-conversation-id", middle
        )
        await expect(reader.part("rename-input")).to_be_focused()
        await expect(reader.part("rename-input")).to_have_value("half a ti")
        assert not await reader.found_fault("ERR_FAILED")
