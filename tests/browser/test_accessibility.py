"""Every view under the rules of accessibility, at two widths in two schemes."""

import re

import pytest
from playwright.async_api import FilePayload, expect

from tests.browser.test_looks import SIZES
from tests.support.axe import broken_rules
from tests.support.browser import new_context, person
from tests.support.frames import drawn, scroll
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

ASKING = {"PARLEY_CONFIRMATION_MODE": "true", "PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1"}
KEYED = {
    "PARLEY_SESSION_API_KEY": "a session key of some length",
    "PARLEY_ADMIN_KEY": "an admin key of some length",
}
ADMIN_PARTS = ("overview", "conversations", "connections", "usage", "audit", "server")


class Inspector:
    """Goes from view to view and keeps what is broken in each."""

    def __init__(self, reader):
        self.reader = reader
        self.broken = {}
        self.looked = 0

    def __repr__(self):
        return "\n".join(
            f"{view}: {rule}: {element}"
            for view, found in self.broken.items()
            for rule, elements in found.items()
            for element in elements
        )

    async def look(self, view):
        """Judge what is shown now."""
        self.looked += 1
        found = await broken_rules(self.reader.page)
        if found:
            self.broken[view] = found


@pytest.fixture(
    params=[(scheme, size) for scheme in ("light", "dark") for size in SIZES], ids="-".join
)
def appearance(request):
    scheme, size = request.param
    return {"viewport": SIZES[size], "color_scheme": scheme}


async def inspected(browser, appearance, server):
    context = await new_context(browser, **appearance)
    reader = await person(context, server.url)
    return context, reader, Inspector(reader)


async def talk(reader, text):
    """Begin with a message; the list may be a drawer."""
    await reader.visit()
    await reader.part("composer").fill(text)
    await reader.part("send").click()
    await reader.page.wait_for_url(re.compile("/conversations/"))


async def show_list(reader):
    if await reader.part("drawer-open").is_visible():
        await reader.part("drawer-open").click()
    await expect(reader.part("new-conversation")).to_be_in_viewport()


async def test_the_frame_breaks_no_rule(browser, appearance, server):
    context, reader, inspector = await inspected(browser, appearance, server)
    await reader.visit()
    await expect(reader.part("beginning")).to_have_count(4)
    await inspector.look("front page")
    await talk(reader, "Good morning")
    await reader.sees_state("Ready")
    await inspector.look("short conversation")
    note = FilePayload(name="a-note.txt", mimeType="text/plain", buffer=b"listen")
    await reader.part("attach-input").set_input_files([note])
    await inspector.look("attachment")
    await reader.part("export").click()
    await inspector.look("export menu")
    await reader.page.keyboard.press("Escape")
    await show_list(reader)
    await reader.part("filter-toggle").click()
    await inspector.look("list with filters")
    await reader.part("search").fill("nowhere")
    await expect(reader.part("list-none")).to_be_visible()
    await inspector.look("nothing found")
    await reader.part("filters-clear").click()
    for dialog in ("settings", "secrets", "shortcuts"):
        await reader.part(f"open-{dialog}").click()
        await expect(reader.part(f"{dialog}-dialog")).not_to_have_attribute("aria-busy", "true")
        await inspector.look(dialog)
        await reader.part(f"{dialog}-dialog-close").click()
    await reader.part("new-conversation").click()
    await inspector.look("new conversation")
    await reader.page.keyboard.press("Escape")
    row = reader.part("conversation-item").first
    await row.hover()
    await inspector.look("row under the pointer")
    await row.get_by_test_id("rename").click()
    await expect(reader.part("rename-input")).to_be_focused()
    await inspector.look("rename field")
    await reader.page.keyboard.press("Escape")
    await row.hover()
    await row.get_by_test_id("delete").click()
    await expect(reader.part("undo-toast")).to_be_visible()
    await inspector.look("undo")
    await reader.visit("/conversations/never-there")
    await expect(reader.part("missing")).to_be_visible()
    await inspector.look("unknown conversation")
    await context.close()
    assert not inspector.broken, inspector
    assert inspector.looked == 14


async def test_a_transcript_breaks_no_rule(browser, appearance, library):
    context, reader, inspector = await inspected(browser, appearance, library)
    await reader.visit("/conversations/gallery")
    await drawn(reader.page)
    for part in range(3):
        await scroll(reader.page, part / 2, 1)
        await inspector.look(f"gallery {part}")
    await reader.part("usage").click()
    await inspector.look("usage")
    await reader.visit("/conversations/thousand")
    await drawn(reader.page)
    await scroll(reader.page, 0, 1)
    await inspector.look("earlier entries")
    await context.close()
    assert not inspector.broken, inspector


async def test_what_goes_wrong_breaks_no_rule(browser, appearance, tmp_path):
    async with server_process(tmp_path / "data", environment=ASKING) as server:
        context, reader, inspector = await inspected(browser, appearance, server)
        await talk(reader, "/confirm rm -r build\nlast word")
        await reader.sees_state("Needs your answer")
        await inspector.look("question")
        await reader.part("reject").click()
        await reader.sees_state("Ready")
        await reader.say("/error the well is dry")
        await expect(reader.part("retry")).to_be_visible()
        await inspector.look("failure")
        await reader.say("/slow 500 100")
        await reader.sees_state("Working")
        await show_list(reader)
        await reader.part("new-conversation").click()
        await reader.part("new-start").click()
        await reader.sees_state("Waiting")
        await inspector.look("waiting")
        await server.kill()
        await expect(reader.part("connection-state")).to_have_text("Reconnecting")
        await reader.look_again()
        await expect(reader.part("offline-banner")).to_be_visible()
        await inspector.look("offline")
        await context.close()
    assert not inspector.broken, inspector


async def test_the_forms_for_keys_break_no_rule(browser, appearance, tmp_path):
    async with server_process(tmp_path / "data", environment=KEYED) as server:
        context, reader, inspector = await inspected(browser, appearance, server)
        for path in ("/", "/admin"):
            await reader.visit(path)
            await expect(reader.part("key-form")).to_be_visible()
            await inspector.look(f"key of {path}")
            await reader.part("key-input").fill("wrong")
            await reader.part("key-submit").click()
            await expect(reader.page.locator("#key-again")).to_be_visible()
            await inspector.look(f"wrong key of {path}")
        await context.close()
    assert not inspector.broken, inspector


async def test_the_admin_page_breaks_no_rule(browser, appearance, server):
    context, reader, inspector = await inspected(browser, appearance, server)
    await talk(reader, "hello")
    await reader.sees_state("Ready")
    await reader.visit("/admin")
    for part in ADMIN_PARTS:
        await reader.page.locator(f'[data-part="{part}"]').click()
        await expect(reader.part("stage").locator("section").first).to_be_visible()
        await inspector.look(part)
    await reader.page.locator('[data-part="overview"]').click()
    await reader.page.get_by_role("button", name=re.compile("Close loop")).first.click()
    await inspector.look("confirmation")
    await context.close()
    assert not inspector.broken, inspector


async def test_the_page_of_descriptions_breaks_no_rule(browser, appearance, server):
    context, reader, inspector = await inspected(browser, appearance, server)
    await reader.visit("/docs")
    await expect(reader.part("found")).to_contain_text("entries")
    await inspector.look("entries")
    await reader.part("search").fill("upload skipped_files")
    await expect(reader.part("found")).to_contain_text("1 of")
    entry = reader.page.locator(".entry:visible")
    await entry.click()
    await entry.locator(".answer").first.click()
    await inspector.look("an entry")
    await context.close()
    assert not inspector.broken, inspector
