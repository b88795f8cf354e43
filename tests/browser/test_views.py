"""The look of the page: two widths, two colour schemes, the drawer; and a foreign build."""

from pathlib import Path

import pytest
from playwright.async_api import ViewportSize, expect

from tests.support.browser import Person, new_context, person
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 800}
TALK = (
    "/write plan.md First, listen.\n/run cat plan.md\n/run ls /nowhere"
    "\n/think The plan is short.\nWhat is in the plan?"
)
BUILD_INDEX = (
    '<!doctype html><title>Build</title><link rel="icon" href="data:,">'
    '<script type="module" src="/assets/app.js"></script>'
)
BUILD_SCRIPT = """
const answer = await fetch("/api/options/config");
document.title = `${(await answer.json()).APP_MODE} ${location.pathname}`;
"""


async def picture(reader: Person, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await reader.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


async def test_what_is_offered_is_the_agents_own(browser, reader, tmp_path):
    await reader.visit()
    await expect(reader.part("composer-examples")).to_be_hidden()  # the whole of them is in sight
    await reader.part("beginning").first.click()
    await expect(reader.part("transcript")).to_contain_text("note.txt")
    await expect(reader.part("composer-examples")).to_contain_text("/run echo hello > note.txt")

    reticent = {"PARLEY_AGENT_CLASS": "tests.support.extensions:ReticentAgent"}
    async with server_process(tmp_path / "data", environment=reticent) as server:
        context = await new_context(browser)
        other = await person(context, server.url)
        async with other.page.expect_response("**/api/options/examples"):
            await other.visit()
        await expect(other.part("composer")).to_be_enabled()
        await expect(other.part("beginning")).to_have_count(0)
        await expect(other.part("composer-examples")).to_be_empty()
        await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_desk_and_a_phone(browser, server, scheme):
    context = await new_context(browser, viewport=DESK, color_scheme=scheme)
    reader = await person(context, server.url)
    await reader.visit()
    await expect(reader.part("beginning")).to_have_count(4)
    await picture(reader, f"front-1280-{scheme}")
    await reader.begin()
    await reader.ask(TALK, "What is in the plan?")

    for size in (DESK, PHONE):
        await reader.page.set_viewport_size(size)
        assert await reader.fits()
        await picture(reader, f"conversation-{size['width']}-{scheme}")

    await reader.part("drawer-open").click()
    await expect(reader.part("new-conversation")).to_be_in_viewport()
    await picture(reader, f"drawer-390-{scheme}")
    await reader.visit()
    await expect(reader.part("beginning")).to_have_count(4)
    await picture(reader, f"front-390-{scheme}")
    assert await reader.fits()
    assert not await reader.found_fault()
    await context.close()


async def test_on_a_phone_the_list_is_a_drawer(browser, server):
    context = await new_context(browser, viewport=PHONE)
    reader = await person(context, server.url)
    await reader.visit()
    await expect(reader.part("new-conversation")).not_to_be_in_viewport()

    await reader.part("drawer-open").click()
    await reader.part("new-conversation").click()
    await reader.part("new-start").click()
    await reader.sees_state("Ready")
    await expect(reader.part("new-conversation")).not_to_be_in_viewport()
    await reader.ask("in the drawer's shadow", "You said")
    conversation_id = reader.page.url.rsplit("/", 1)[1]

    await reader.part("drawer-open").click()
    await expect(reader.item(conversation_id)).to_be_in_viewport()
    await reader.page.keyboard.press("Escape")
    await expect(reader.item(conversation_id)).not_to_be_in_viewport()
    await expect(reader.part("drawer-open")).to_be_focused()
    assert not await reader.found_fault()
    await context.close()


async def test_a_foreign_build_runs_at_its_own_addresses(context, tmp_path):
    build = tmp_path / "build"
    (build / "assets").mkdir(parents=True)
    (build / "index.html").write_text(BUILD_INDEX)
    (build / "assets" / "app.js").write_text(BUILD_SCRIPT)
    async with server_process(tmp_path / "data", "--ui-dir", str(build)) as server:
        reader = await person(context, server.url)

        await reader.visit("/conversations/abc")

        await expect(reader.page).to_have_title("oss /conversations/abc")
        assert not [*reader.complaints, *await reader.page.evaluate("window.violations")]
