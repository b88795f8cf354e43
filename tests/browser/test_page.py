"""The built-in page in Chromium: talking, reloading, several tabs, hostile text."""

import re

import pytest
from playwright.async_api import expect

from tests.support.browser import person
from tests.support.screenshots import picture
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

MARKUP = '<img src=x onerror="window.broken=1"><script>window.broken=1</script><b>bold</b> & &lt;'
RIGHT_TO_LEFT = "\u202egnp.exe \u0627\u0644\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd"
EMOJI = "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\u200d\u2620\ufe0f e\u0301"
LONG_LINE = "w" * 100_000


async def test_a_person_creates_a_conversation_and_talks(reader):
    await reader.begin()

    await reader.ask("Good morning", "You said: Good morning")

    spoken = [(entry.source, entry.text) for entry in await reader.entries()]
    assert spoken == [("user", "Good morning"), ("agent", "You said: Good morning")]
    assert not await reader.found_fault()


async def test_a_command_is_shown_with_its_outcome(reader):
    await reader.begin()

    await reader.say("/run echo one > a.txt\n/run cat a.txt\n/run nonsense")

    commands = reader.part("command")
    await expect(commands).to_have_count(3)
    await expect(commands.nth(1)).to_contain_text("exit 0")
    await expect(commands.nth(1).get_by_test_id("command-output")).to_have_text("one")
    await expect(commands.nth(2)).to_contain_text("exit 127")
    await reader.sees_state("Ready")
    assert not await reader.found_fault()


async def test_a_reload_shows_the_same_transcript_and_the_same_list(reader):
    conversation_id = await reader.begin()
    await reader.ask("/run pwd\nand a word", "You said: and a word")
    before = await reader.entries()

    await reader.page.reload()
    await reader.sees_state("Ready")
    await expect(reader.messages_of("agent").last).to_contain_text("and a word")

    assert await reader.entries() == before
    await expect(reader.item(conversation_id).locator("[aria-current=page]")).to_be_visible()
    assert not await reader.found_fault()


async def test_two_tabs_stay_in_step(context, reader):
    conversation_id = await reader.begin()
    other = await person(context, reader.url)
    await other.visit(f"/conversations/{conversation_id}")
    await other.sees_state("Ready")

    await reader.ask("from the first", "You said: from the first")
    await expect(other.messages_of("agent").last).to_contain_text("from the first")
    await other.ask("from the second", "You said: from the second")
    await expect(reader.messages_of("agent").last).to_contain_text("from the second")

    assert await reader.entries() == await other.entries()
    assert len(await reader.entries()) == 4
    assert not [*await reader.found_fault(), *await other.found_fault()]


async def test_text_is_never_html(reader):
    await reader.begin()

    for turn, text in enumerate((MARKUP, RIGHT_TO_LEFT, EMOJI)):
        await reader.ask(text, f"You said: {text}")
        await reader.ask(f"/run echo '{text}'\n/think {text}\ndone {turn}", f"done {turn}")
        await expect(reader.part("command-output").last).to_have_text(text)
        await expect(reader.messages_of("user").nth(2 * turn).locator(".prose")).to_have_text(text)

    transcript = reader.part("transcript")
    assert await transcript.locator("img, script, b, iframe, a").count() == 0
    assert await reader.page.evaluate("window.broken") is None
    assert not await reader.found_fault()


async def test_a_line_of_100_kb_is_folded_and_widens_nothing(reader):
    await reader.begin()

    await reader.ask(LONG_LINE, "You said 100000 characters")

    mine = reader.messages_of("user").first
    assert len(await mine.locator(".prose").inner_text()) < 10_000
    await mine.get_by_role("button", name="Show all").click()
    assert await mine.locator(".prose").inner_text() == LONG_LINE
    assert await reader.fits()
    assert not await reader.found_fault()


async def test_a_hostile_title_is_only_text(reader):
    conversation_id = await reader.begin()

    await rename(reader, conversation_id, MARKUP)

    await expect(reader.part("title")).to_have_text(MARKUP)
    assert await reader.part("conversation-list").locator("img, script, b").count() == 0
    assert await reader.page.evaluate("window.broken") is None
    assert not await reader.found_fault()


async def test_a_new_title_reaches_the_other_tab_and_survives_a_reload(context, reader):
    conversation_id = await reader.begin()
    other = await person(context, reader.url)
    await other.visit(f"/conversations/{conversation_id}")
    await other.sees_state("Ready")

    await rename(reader, conversation_id, "A better title")

    await expect(other.part("title")).to_have_text("A better title")
    await other.page.reload()
    await expect(other.item(conversation_id)).to_contain_text("A better title")
    await expect(other.page).to_have_title(re.compile("A better title"))
    assert not [*await reader.found_fault(), *await other.found_fault()]


async def test_the_stop_button_stops_the_agent_and_resume_wakes_it(reader):
    await reader.begin()
    await reader.say("/slow 400 50")
    await expect(reader.messages_of("agent").nth(2)).to_be_visible()

    await reader.part("stop").click()
    await reader.sees_state("Stopped")
    said = await reader.messages_of("agent").count()

    assert said < 400
    await expect(reader.part("stop")).to_be_hidden()
    await reader.part("resume").click()
    await expect(reader.messages_of("agent").nth(said)).to_be_visible()
    assert not await reader.found_fault()


async def test_an_error_is_shown_with_its_reason_and_the_next_message_goes_on(reader):
    await reader.begin()

    await reader.say("/error the well is dry")
    await reader.sees_state("Error")
    failure = reader.page.locator('[data-testid="entry"][data-kind="error"]')
    await expect(failure).to_contain_text("the well is dry")
    await expect(reader.part("retry")).to_be_visible()
    await picture(reader, "failure-1280-light")
    await reader.page.reload()
    await reader.sees_state("Error")
    await expect(failure).to_contain_text("the well is dry")
    await expect(reader.part("retry")).to_be_visible()

    await reader.ask("go on", "You said: go on")
    await expect(reader.part("retry")).to_have_count(0)
    await reader.page.reload()
    await reader.sees_state("Ready")
    await expect(failure).to_contain_text("the well is dry")
    kinds = [entry.kind for entry in await reader.entries()]
    assert kinds == ["message", "error", "message", "message"]
    await expect(reader.part("error-banner")).to_have_count(0)
    assert not await reader.found_fault()


async def test_after_an_error_the_agent_tries_again_when_asked_to(reader):
    await reader.begin()
    await reader.say("/error the well is dry\nand then this")
    await reader.sees_state("Error")

    await reader.part("retry").press("Enter")

    await expect(reader.messages_of("agent").last).to_contain_text("and then this")
    await reader.sees_state("Ready")
    await expect(reader.part("retry")).to_have_count(0)
    await expect(reader.part("composer")).to_be_focused()
    assert not await reader.found_fault()


@pytest.mark.parametrize("first_message", ["", "hello there"], ids=["silent", "with a message"])
async def test_a_new_conversation_without_a_slot_says_that_it_waits_and_for_what(
    context, tmp_path, first_message
):
    one_slot = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1"}
    async with server_process(tmp_path / "data", environment=one_slot) as server:
        reader = await person(context, server.url)
        busy = await reader.begin()
        await reader.say("/run sleep 60")
        await reader.sees_state("Working")

        await reader.part("new-conversation").click()
        await reader.part("new-message").fill(first_message)
        await reader.part("new-start").click()
        await reader.page.wait_for_url(lambda url: "/conversations/" in url and busy not in url)
        await reader.sees_state("Waiting")
        await expect(reader.part("working")).to_contain_text(
            "Your other conversations are using all"
        )
        await picture(reader, f"waiting-{len(first_message)}")
        await reader.page.reload()
        await reader.sees_state("Waiting")
        await reader.say("and a word more")
        await expect(reader.messages_of("user").last).to_contain_text("and a word more")
        await reader.sees_state("Waiting")
        await expect(reader.part("error-banner")).to_have_count(0)

        await reader.item(busy).hover()
        await reader.item(busy).get_by_test_id("stop-conversation").click()
        await expect(reader.messages_of("agent").last).to_contain_text("and a word more")
        await reader.sees_state("Ready")
        await expect(reader.part("working")).to_be_hidden()
        assert not await reader.found_fault()


async def test_deleting_a_conversation_ends_it_in_the_other_tab(context, reader):
    conversation_id = await reader.begin()
    other = await person(context, reader.url)
    await other.visit(f"/conversations/{conversation_id}")
    await other.sees_state("Ready")

    item = reader.item(conversation_id)
    await item.hover()
    await item.get_by_test_id("delete").click()
    await reader.part("delete-now").click()

    await reader.page.wait_for_url(reader.url + "/")
    await expect(item).to_have_count(0)
    await expect(other.part("missing")).to_be_visible()
    await expect(other.part("composer")).to_be_disabled()
    assert not [*await reader.found_fault(), *await other.found_fault(excused="WebSocket")]


async def test_an_address_that_leads_nowhere_says_so(reader):
    await reader.visit("/conversations/never-there")

    await expect(reader.part("missing")).to_be_visible()
    assert not await reader.found_fault(excused="404")


async def rename(someone, conversation_id, title):
    item = someone.item(conversation_id)
    await item.hover()
    await item.get_by_test_id("rename").click()
    await someone.part("rename-input").fill(title)
    await someone.part("rename-input").press("Enter")
    await expect(item).to_contain_text(title)


async def test_a_message_during_a_drain_waits_and_is_answered_when_it_has_ended(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.begin()
        request = reader.page.request
        await request.post(f"{server.url}/api/admin/drain", data={"deadline_seconds": 5})
        await reader.sees_state("Stopped")

        await reader.say("is anybody there?")
        await reader.sees_state("Waiting")
        await expect(reader.part("working")).to_contain_text("Your message is saved")

        await request.delete(f"{server.url}/api/admin/drain")
        await expect(reader.messages_of("agent").last).to_contain_text("is anybody there?")
        await reader.sees_state("Ready")
        await expect(reader.part("working")).to_be_hidden()
        assert not await reader.found_fault()
