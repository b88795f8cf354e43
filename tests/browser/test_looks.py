"""The look of a conversation: two widths, two schemes, contrast, names, focus, motion."""

import pytest
from playwright.async_api import ViewportSize, expect

from tests.support.browser import new_context, person
from tests.support.contrast import faint_texts, nameless_controls, unmarked_focus
from tests.support.frames import drawn, scroll
from tests.support.screenshots import picture
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 800}
SIZES = {"desk": DESK, "phone": PHONE}
PARTS = 4
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everything_in_a_transcript_fits_and_can_be_read(browser, library, scheme, size):
    context = await new_context(browser, viewport=size, color_scheme=scheme)
    reader = await person(context, library.url)
    await reader.visit("/conversations/gallery")
    await drawn(reader.page)

    for part in range(PARTS):
        await scroll(reader.page, part / (PARTS - 1), 1)
        await expect(reader.part("jump-latest")).to_be_visible(visible=part < PARTS - 1)
        await picture(reader, f"gallery-{part}-{size['width']}-{scheme}")
    await reader.part("usage").click()
    await picture(reader, f"usage-{size['width']}-{scheme}")
    looked, faint = await faint_texts(reader.page)

    assert looked > 100
    assert not faint
    assert not await nameless_controls(reader.page)
    assert await reader.fits()
    assert not await reader.found_fault()
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_question_can_be_read_and_answered(browser, tmp_path, scheme):
    asking = {"PARLEY_CONFIRMATION_MODE": "true"}
    async with server_process(tmp_path / "data", environment=asking) as server:
        context = await new_context(browser, color_scheme=scheme)
        reader = await person(context, server.url)
        await reader.begin()
        await reader.say("/confirm rm -r \u202ebuild\n/run echo kept\nlast word")
        await reader.sees_state("Needs your answer")

        await expect(reader.part("question")).to_contain_text("May the agent run this command?")
        await expect(reader.part("question")).to_contain_text("High risk")
        await expect(reader.part("command")).to_contain_text("rm -r ⟨U+202E⟩build")
        for size in SIZES.values():
            await reader.page.set_viewport_size(size)
            await expect(reader.part("approve")).to_be_in_viewport()
            await expect(reader.part("confirmation")).to_be_hidden()
            await picture(reader, f"question-{size['width']}-{scheme}")
            _, faint = await faint_texts(reader.page)
            assert not faint
            assert await reader.fits()

        await reader.part("reject").click()
        await expect(reader.part("command").filter(has_text="rm -r").last).to_contain_text(
            "rejected"
        )
        assert not await reader.found_fault()
        await context.close()


async def test_a_second_click_does_not_answer_the_next_question(context, tmp_path):
    asking = {"PARLEY_CONFIRMATION_MODE": "true"}
    async with server_process(tmp_path / "data", environment=asking) as server:
        reader = await person(context, server.url)
        await reader.begin()
        await reader.say("/run echo one\n/run echo two\nlast word")
        await reader.sees_state("Needs your answer")
        card = reader.part("command").filter(has=reader.part("question"))
        await expect(card).to_contain_text("echo one")

        await reader.part("approve").evaluate("(button) => { button.click(); button.click(); }")

        await expect(reader.part("command-output")).to_have_text(["one"])
        await expect(card).to_contain_text("echo two")
        await expect(reader.part("approve")).to_be_enabled()
        await reader.part("approve").click()
        await expect(reader.part("command-output")).to_have_text(["one", "two"])
        assert not await reader.found_fault()


async def test_an_empty_conversation_says_how_to_begin(reader):
    await reader.begin()
    await expect(reader.part("blank")).to_be_visible()
    await picture(reader, "blank-1280-light")

    await reader.ask("hello", "You said: hello")

    await expect(reader.part("blank")).to_be_hidden()


async def test_all_lines_of_a_message_are_seen_when_the_window_becomes_narrower(reader):
    await reader.begin()
    await reader.part("composer").fill("a message that needs more lines in a narrow window")
    await reader.page.set_viewport_size(PHONE)
    await reader.page.evaluate(FRAMES)

    hidden = "(field) => field.scrollHeight - field.clientHeight"
    assert await reader.part("composer").evaluate(hidden) <= 0


async def test_what_has_the_focus_shows_it(visitor):
    await visitor.visit("/conversations/gallery")
    await drawn(visitor.page)

    assert not await unmarked_focus(visitor.page, 40)


async def test_a_screen_reader_hears_states_and_answers(reader):
    await reader.begin()
    announcer = reader.page.locator("#announcer")
    await expect(announcer).to_have_attribute("aria-live", "polite")

    await reader.ask("hello there", "You said: hello there")

    await expect(reader.page.get_by_role("log")).to_contain_text("hello there")
    await expect(reader.page.get_by_role("article", name="Agent").last).to_contain_text(
        "hello there"
    )
    said = "() => window.heard.some((text) => text.includes('You said: again'))"
    await reader.page.evaluate(
        "window.heard = []; new MutationObserver(() => window.heard.push(document.getElementById('announcer').textContent))"
        ".observe(document.getElementById('announcer'), { childList: true })"
    )
    await reader.ask("again", "You said: again")
    await reader.page.wait_for_function(said)


async def test_with_reduced_motion_nothing_moves_by_itself(browser, server):
    context = await new_context(browser, reduced_motion="reduce")
    reader = await person(context, server.url)
    await reader.begin()
    await reader.say("/slow 2 600000")
    await expect(reader.part("working")).to_be_visible()

    moving = "document.getAnimations().filter((one) => one.effect.getComputedTiming().endTime > 100).length"

    assert await reader.page.evaluate(moving) == 0
    await context.close()
