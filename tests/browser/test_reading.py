"""Reading a transcript: staying where one is, what is new, and logs of 10,000 events."""

import re
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
from tests.support.waiting import WAIT_SECONDS
from tests.support.written_logs import at_rest, did, ran, said, write_log

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
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
NOTE_PLACE = """
() => {
  const transcript = document.getElementById("transcript");
  // Where an entry is seen in each frame from the one on in which the reader is at the top.
  window.tops = [];
  const frame = () => {
    if (transcript.scrollTop === 0 || window.tops.length > 0) window.tops.push(document.querySelector("[data-event-id='154']").getBoundingClientRect().top);
    requestAnimationFrame(frame);
  };
  frame();
}
"""
MOVED = "() => Math.round(window.tops.at(-1) - window.tops[0])"


@pytest_asyncio.fixture(loop_scope="session")
async def recorded(browser, library):
    context = await new_context(browser)
    await context.add_init_script(RECORD + NOTE_MARKS)
    reader = await person(context, library.url)
    yield reader
    await context.close()


async def rewind(reader):
    """Go to the very beginning of a long conversation."""
    await drawn(reader.page)
    await scroll(reader.page, 0.5, 1)
    await reader.part("jump-beginning").click()
    await expect(reader.part("earlier")).to_be_hidden()
    await drawn(reader.page)


async def say_by_rest(reader, conversation_id, text):
    body = {"action": "message", "args": {"content": text}}
    async with httpx.AsyncClient(base_url=reader.url, timeout=WAIT_SECONDS) as client:
        answer = await client.post(f"/api/conversations/{conversation_id}/events", json=body)
    assert answer.is_success, answer.text


async def test_ten_thousand_events_are_read_without_jank(recorded, record_property):
    await recorded.visit("/conversations/ten-thousand")
    await drawn(recorded.page)
    opening = await look(recorded.page)
    await rewind(recorded)
    await expect(recorded.page.locator('[data-event-id="0"]')).to_be_in_viewport()
    rewinding = await look(recorded.page)
    await scroll(recorded.page, 0.04, 200)
    reading = await look(recorded.page)
    await scroll(recorded.page, 1, 200)
    flying = await look(recorded.page)

    await expect(recorded.page.locator('[data-event-id="9996"]')).to_be_in_viewport()
    record_property(
        "figures",
        f"opening: {opening}. rewinding: {rewinding}. reading: {reading}. flying: {flying}",
    )
    for seen in (opening, rewinding, reading, flying):
        assert seen.entries <= MOST_ENTRIES
        assert seen.elements <= MOST_ELEMENTS
    assert reading.longest_frame < JANK_MS
    assert flying.longest_frame < JANK_MS
    assert not await recorded.found_fault()


async def test_a_page_that_was_away_for_long_says_how_far_behind_it_is(browser, tmp_path):
    await write_log(tmp_path / "data", "long", "Long", long_log(1_000))
    async with server_process(tmp_path / "data") as server:
        context = await new_context(browser)
        await context.add_init_script(NOTE_MARKS)
        reader = await person(context, server.url)
        await reader.visit("/conversations/long")
        await drawn(reader.page)
        await reader.sees_state("Ready")

        await server.kill()
        await expect(reader.part("connection-state")).to_have_text("Reconnecting")
        missed = [said("agent", f"meanwhile {number}") for number in range(10_000)]
        await write_log(tmp_path / "data", "long", "Long", missed, follows=True)
        await server.start()
        await reader.sees_state("Ready")
        await expect(reader.messages_of("agent").last).to_contain_text("meanwhile 9999")

        marks = await reader.page.evaluate("window.marks")
        behind = [
            int(mark.split()[0].replace(",", "")) for mark in marks if mark.endswith("behind")
        ]
        assert behind
        # On a slow machine what has come is counted before the end of the log is known.
        falling = behind[behind.index(max(behind)) :]
        assert falling == sorted(falling, reverse=True), "|".join(marks)
        assert not await reader.found_fault(excused=OUTAGE)
        await context.close()


async def test_a_conversation_of_any_length_opens_with_its_newest_page_alone(context, library):
    reader = await person(context, library.url)
    asked: list[str] = []
    sent: list[str] = []
    reader.page.on("request", lambda request: asked.append(request.url))
    reader.page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda frame: sent.append(str(frame))),
    )
    await reader.visit("/conversations/ten-thousand")
    await reader.sees_state("Ready")

    await expect(reader.page.locator('[data-event-id="9996"]')).to_be_in_viewport()
    await expect(reader.part("earlier")).to_contain_text("earlier events")
    assert len([url for url in asked if "/ten-thousand/events?" in url]) == 1
    # What is sent is what the agent does as somebody comes.
    ids = [int(one) for frame in sent for one in re.findall(r'"id":(\d+)', frame)]
    assert all(one > 9_996 for one in ids), ids
    entries = await reader.entries()
    assert len(entries) < 100
    assert entries[0].event_id >= 9_900
    assert not await reader.found_fault()


def in_pages():
    """253 events, so that pages of 100 part actions from their answers and a question from its decision."""
    log = [said("agent", f"line {number}") for number in range(250)]
    log[52] = did("run", command="make it", confirmation_state="awaiting_confirmation")
    log[53] = did("run", command="make it", confirmation_state="confirmed")
    log[54] = ran(53, "make it", "made")
    log[152] = did("run", command="make more", confirmation_state="confirmed")
    log[153] = ran(152, "make more", "made more")
    log[200] = said("user", "go on")
    return [*log, *at_rest(200, 250)]


async def test_older_events_come_as_the_reader_goes_up_and_fit_what_is_there(context, tmp_path):
    await write_log(tmp_path / "data", "pages", "Pages", in_pages())
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/pages")
        await reader.sees_state("Ready")
        assert (await reader.entries())[0].event_id == 153
        await expect(reader.part("command")).to_have_count(1)
        await reader.page.evaluate(NOTE_PLACE)

        await scroll(reader.page, 0, 1)
        await expect(reader.part("earlier")).to_have_text(re.compile(r"\b53 earlier"))
        entries = await reader.entries()
        assert [entries[0].event_id, entries[-1].event_id] == [53, 249]
        assert 153 not in [one.event_id for one in entries]
        moved = await reader.page.evaluate(MOVED)
        assert abs(moved) <= 2, f"the reader was moved by {moved} px"

        await scroll(reader.page, 0, 1)
        await expect(reader.part("earlier")).to_be_hidden()
        ids = [one.event_id for one in await reader.entries()]
        # The question went into its decision, and answers into their actions.
        assert ids == [one for one in range(250) if one not in (52, 54, 153)]
        assert await reader.part("command").count() == 2
        await expect(reader.part("command").first).to_contain_text("made")
        assert not await reader.found_fault()


async def test_the_beginning_is_a_button_away_and_the_reader_stays_there(context, tmp_path):
    await write_log(tmp_path / "data", "long", "Long", long_log(1_000))
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/long")
        await rewind(reader)
        await expect(reader.page.locator('[data-event-id="0"]')).to_be_in_viewport()
        await say_by_rest(reader, "long", "still reading")
        await expect(reader.part("jump-latest")).to_have_text("2 new")
        await expect(reader.page.locator('[data-event-id="0"]')).to_be_in_viewport()

        await reader.part("jump-latest").click()
        await expect(reader.messages_of("agent").last).to_contain_text("You said: still reading")
        await expect(reader.messages_of("agent").last).to_be_in_viewport()
        assert not await reader.found_fault()


async def test_older_events_that_cannot_be_read_are_asked_for_again_when_the_server_is_back(
    context, tmp_path
):
    await write_log(tmp_path / "data", "long", "Long", long_log(1_000))
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit("/conversations/long")
        await drawn(reader.page)
        await server.kill()
        await expect(reader.part("connection-state")).to_have_text("Reconnecting")
        await scroll(reader.page, 0, 1)
        await expect(reader.part("earlier")).to_contain_text("could not be loaded")
        await picture(reader, "earlier-failed-1280-light")
        await reader.part("earlier").get_by_role("button", name="Try again").click()
        await expect(reader.part("earlier")).to_contain_text("could not be loaded")

        await server.start()
        await expect(reader.part("connection-state")).to_have_text("Connected")
        await expect(reader.part("earlier")).to_have_text(re.compile(r"\b800 earlier"))
        ids = [one.event_id for one in await reader.entries()]
        assert ids == sorted(set(ids))
        assert not await reader.found_fault(excused=OUTAGE)


async def test_nothing_is_missed_or_doubled_between_the_page_read_and_the_socket(context, reader):
    conversation_id = await reader.begin()
    await reader.say("/slow 400 10")
    tabs = []
    for number in (20, 60, 120, 180):
        await expect(reader.messages_of("agent").nth(number)).to_be_attached()
        tabs.append(await person(context, reader.url))
        await tabs[-1].visit(f"/conversations/{conversation_id}")
    await expect(reader.messages_of("agent").last).to_contain_text("Message 400 of 400")

    for tab in tabs:
        await expect(tab.messages_of("agent").last).to_contain_text("Message 400 of 400")
        if await tab.part("earlier").is_visible():
            await rewind(tab)
        assert await tab.entries() == await reader.entries()
        assert not await tab.found_fault()


async def test_a_long_line_in_a_long_log_widens_nothing(visitor):
    await visitor.visit("/conversations/thousand")
    await rewind(visitor)
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
    await expect(other.part("usage")).to_have_text("$0.50 120 tokens")
    assert await reader.entries() == await other.entries()
    assert not [*await reader.found_fault(), *await other.found_fault()]
