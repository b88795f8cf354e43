"""Reading a transcript: staying where one is, what is new, and logs of 10,000 events."""

from datetime import timedelta

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.browser import OUTAGE, new_context, person
from tests.support.frames import RECORD, drawn, look, scroll
from tests.support.long_log import LONG_LINE, long_log
from tests.support.screenshots import picture
from tests.support.servers import server_process
from tests.support.written_logs import at_rest, said, write_log

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
]

MOST_ENTRIES = 650
MOST_ELEMENTS = 20_000
JANK_MS = 1_000
"""Far above what is seen, since the machine may be busy; to draw everything takes seconds."""
NOTE_MARKS = """
window.marks = [];
document.addEventListener("DOMContentLoaded", () =>
  new MutationObserver(() => window.marks.push(document.getElementById("connection-state").textContent))
    .observe(document.getElementById("connection-state"), { childList: true }));
"""
PLACE = """
() => {
  const box = document.getElementById("transcript").getBoundingClientRect();
  const entry = document.elementFromPoint(box.left + box.width / 2, box.top + 120).closest("article");
  return [entry.dataset.eventId, Math.round(entry.getBoundingClientRect().top)];
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def recorded(browser, library):
    context = await new_context(browser)
    await context.add_init_script(RECORD + NOTE_MARKS)
    reader = await person(context, library.url)
    await reader.visit("/conversations/ten-thousand")
    await drawn(reader.page)
    yield reader
    await context.close()


async def say_by_rest(reader, conversation_id, text):
    body = {"action": "message", "args": {"content": text}}
    async with httpx.AsyncClient(base_url=reader.url) as client:
        answer = await client.post(f"/api/conversations/{conversation_id}/events", json=body)
    assert answer.is_success, answer.text


async def test_ten_thousand_events_are_read_without_jank(recorded, record_property):
    loading = await look(recorded.page)
    await scroll(recorded.page, 0.96, 200)
    reading = await look(recorded.page)
    await scroll(recorded.page, 0, 200)
    flying = await look(recorded.page)

    await expect(recorded.page.locator('[data-event-id="0"]')).to_be_visible()
    record_property("figures", f"loading: {loading}. reading: {reading}. flying: {flying}")
    for seen in (loading, reading, flying):
        assert seen.entries <= MOST_ENTRIES
        assert seen.elements <= MOST_ELEMENTS
    assert reading.longest_frame < JANK_MS
    assert flying.longest_frame < JANK_MS
    assert not await recorded.found_fault()


async def test_while_a_long_log_comes_the_page_says_how_far_behind_it_is(recorded):
    marks = await recorded.page.evaluate("window.marks")

    behind = [int(mark.split()[0].replace(",", "")) for mark in marks if mark.endswith("behind")]
    assert behind
    assert behind == sorted(behind, reverse=True)
    await recorded.sees_state("Ready")


async def test_a_long_line_in_a_long_log_widens_nothing(visitor):
    await visitor.visit("/conversations/thousand")
    await drawn(visitor.page)
    await scroll(visitor.page, 0, 1)
    line = visitor.page.locator('[data-event-id="8"]')
    await expect(line).to_be_visible()

    await line.get_by_role("button", name="Show all 100,000 characters").click()

    assert await line.locator(".prose").inner_text() == LONG_LINE
    assert await visitor.fits()
    assert await line.locator(".prose").evaluate("(box) => box.scrollWidth <= box.clientWidth")


async def test_the_reader_stays_where_he_is_while_the_agent_goes_on(reader):
    conversation_id = await reader.begin()
    await reader.ask("/slow 60 1", "Message 60 of 60")
    await scroll(reader.page, 0.5, 5)
    before = await reader.page.evaluate(PLACE)

    await say_by_rest(reader, conversation_id, "/slow 5 1")

    jump = reader.part("jump-latest")
    await expect(jump).to_have_text("6 new")
    await expect(reader.page).to_have_title(
        "(6) " + await reader.part("title").inner_text() + " · Parley"
    )
    assert await reader.page.evaluate(PLACE) == before
    await jump.click()
    await expect(reader.messages_of("agent").last).to_be_in_viewport()
    await expect(jump).to_be_hidden()
    divider = reader.part("unread-divider")
    await expect(divider).to_have_count(1)
    await picture(reader, "unread-1280-light")
    following = "(mark) => mark.nextElementSibling.querySelector('.entry__body').innerText.trim()"
    assert await divider.evaluate(following) == "/slow 5 1"
    await reader.ask("thanks", "You said: thanks")
    await expect(divider).to_have_count(0)
    assert not await reader.found_fault()


async def test_days_are_named_where_they_begin_and_today_only_after_others(browser, tmp_path):
    says = [said("user" if number % 2 else "agent", f"line {number}") for number in range(40)]
    says += at_rest(39, 40)
    await write_log(tmp_path / "data", "week", "A week", says, apart=timedelta(hours=6))
    async with server_process(tmp_path / "data") as server:
        context = await new_context(browser, locale="en-GB", timezone_id="Asia/Tokyo")
        reader = await person(context, server.url)
        await reader.visit("/conversations/week")
        await drawn(reader.page)
        # 09:15 in Greenwich is 18:15 there, so that the first day has one message.
        named = await reader.part("day").all_inner_texts()
        assert "2 March 2026" in named[0]
        assert "3 March 2026" in named[1]
        assert len(named) == 11
        following = "(mark) => mark.nextElementSibling.querySelector('.entry__body').innerText"
        assert await reader.part("day").nth(1).evaluate(following) == "line 1"

        await reader.ask("and today", "You said: and today")
        await expect(reader.part("day")).to_have_count(12)
        assert await reader.part("day").last.evaluate(following) == "and today"
        await picture(reader, "days-1280-light")
        await reader.begin()
        await reader.ask("hello", "You said: hello")
        await expect(reader.part("day")).to_have_count(0)
        assert not await reader.found_fault()
        await context.close()


async def test_an_outage_moves_nobody_and_what_came_meanwhile_is_marked(context, tmp_path):
    await write_log(tmp_path / "data", "long", "Long", long_log(1_000))
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/long")
        await drawn(reader.page)
        await scroll(reader.page, 0.5, 3)
        await drawn(reader.page)
        before = await reader.page.evaluate(PLACE)

        await server.kill()
        await expect(reader.part("connection-state")).to_have_text("Reconnecting")
        await picture(reader, "reconnecting-1280-light")
        await server.start()
        await expect(reader.part("connection-state")).to_have_text("Connected")
        await say_by_rest(reader, "long", "are you back?")

        await expect(reader.part("jump-latest")).to_have_text("2 new")
        assert await reader.page.evaluate(PLACE) == before
        await reader.part("jump-latest").click()
        await expect(reader.messages_of("agent").last).to_contain_text("You said: are you back?")
        await expect(reader.messages_of("agent").last).to_be_in_viewport()
        assert not await reader.found_fault(excused=OUTAGE)


async def test_two_tabs_show_the_same_commands_diffs_and_cost(context, reader):
    conversation_id = await reader.begin()
    other = await person(context, reader.url)
    await other.visit(f"/conversations/{conversation_id}")
    await other.sees_state("Ready")

    await reader.ask(
        "/write a.txt one\n/edit a.txt one => two\n/cost 0.5\n/run cat a.txt\nsee", "see"
    )

    await expect(other.messages_of("agent").last).to_contain_text("see")
    await expect(other.part("usage")).to_have_text("$0.50120 tokens")
    assert await reader.entries() == await other.entries()
    assert not [*await reader.found_fault(), *await other.found_fault()]
