"""The page of descriptions at two widths: everything is listed, found, opened, and nothing blocked."""

from pathlib import Path

import httpx
import pytest
from playwright.async_api import ViewportSize, expect

from tests.support.browser import new_context, person
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
SIZES: dict[str, ViewportSize] = {
    "desk": {"width": 1280, "height": 800},
    "phone": {"width": 390, "height": 844},
}


async def entries_at(url):
    """Return the number of entries in both documents: methods, channels, and their messages."""
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as http:
        rest = (await http.get("/openapi.json")).json()
        socket = (await http.get("/asyncapi.json")).json()
    channels = [1 + len(one["messages"]) for one in socket["channels"].values()]
    return sum(map(len, rest["paths"].values())) + sum(channels)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_an_address_is_found_opened_and_shown_with_a_line_to_try(
    browser, server, scheme, size
):
    context = await new_context(browser, color_scheme=scheme, viewport=SIZES[size])
    try:
        reader = await person(context, server.url)
        page = reader.page
        await page.goto(f"{server.url}/docs")
        await expect(page.locator("html")).to_have_css("color-scheme", scheme)
        entries = await entries_at(server.url)
        await expect(page.get_by_test_id("found")).to_have_text(f"{entries} entries")

        await page.get_by_test_id("search").fill("upload skipped_files")
        await expect(page.get_by_test_id("found")).to_have_text(f"1 of {entries}")
        entry = page.locator(".entry:visible")
        await entry.click()

        await expect(entry).to_contain_text("-F files=@notes.txt")
        await entry.locator(".answer").first.click()
        await expect(entry).to_contain_text("SkippedFile")
        assert await page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
        assert await page.evaluate("window.violations") == []
        assert reader.complaints == []
        SCREENSHOTS.mkdir(exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"docs-{size}-{scheme}.png")
    finally:
        await context.close()


async def test_a_link_opens_what_it_names_and_every_entry_can_be_opened(reader, server):
    page = reader.page
    await page.goto(f"{server.url}/docs#socket-oh_event-oh_event.observation.run")
    named = page.locator("[id='socket-oh_event-oh_event.observation.run']")
    await expect(named).to_contain_text("exit_code")

    await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")

    await expect(page.locator(".entry:not(:has(> .entry__body))")).to_have_count(0)
    assert reader.complaints == []


async def test_the_page_is_there_when_another_one_is_served_at_the_root(context, tmp_path):
    build = tmp_path / "build"
    build.mkdir()
    (build / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')
    async with server_process(tmp_path / "data", environment={"PARLEY_UI_DIR": str(build)}) as one:
        reader = await person(context, one.url)

        await reader.page.goto(f"{one.url}/docs")

        entries = await entries_at(one.url)
        await expect(reader.page.get_by_test_id("found")).to_have_text(f"{entries} entries")
