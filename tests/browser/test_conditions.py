"""The page as some people need it: read from right to left, in colours of their own, much enlarged."""

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.test_looks import SIZES
from tests.support.browser import new_context, person
from tests.support.frames import drawn, scroll
from tests.support.screenshots import picture

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

WEB = Path(__file__).parents[2] / "server" / "web"
SIDES = re.compile(
    r"(?<![\w-])(?:(?:margin|padding|border|scroll-margin|scroll-padding)-(?:left|right)|left|right)\b[\w-]*:"
    r"|(?:text-align|float|clear): (?:left|right)"
    r"|inset: \S+ (?P<right>\S+) \S+ (?!(?P=right);)\S+;"
    r"|(?:margin|padding): \S+ (?P<wide>\S+) \S+ (?!(?P=wide);)\S+;"
)
TURN = "document.documentElement.dir = 'rtl'"
BEYOND = """
() => [...document.querySelectorAll("body *")].filter((one) => {
  const { left, right, width } = one.getBoundingClientRect();
  const shown = one.checkVisibility({ visibilityProperty: true }) && !one.closest(".unseen, .skip");
  const scrolls = one.closest("pre, .code__text, .prose__table, .tabs, .diff");
  return shown && !scrolls && width > 0 && (left < -1 || right > document.documentElement.clientWidth + 1);
}).map((one) => one.outerHTML.slice(0, 120))
"""
MARKED = """
(selectors) => selectors.map((selector) => {
  const { borderTopWidth, borderTopStyle } = getComputedStyle(document.querySelector(selector));
  return borderTopStyle !== "none" && parseFloat(borderTopWidth) > 0;
})
"""
BUBBLE = '.entry[data-kind="message"][data-source="user"] .entry__body'


async def test_no_style_names_a_side():
    for sheet in WEB.rglob("*.css"):
        found = [line for line in sheet.read_text().splitlines() if SIDES.search(f"{line} ")]
        assert found == [], sheet.name


@pytest.mark.parametrize("size", SIZES)
async def test_read_from_right_to_left_every_view_is_turned_and_fits(browser, library, size):
    context = await new_context(browser, viewport=SIZES[size])
    await context.add_init_script(f"addEventListener('DOMContentLoaded', () => {TURN})")
    reader = await person(context, library.url)
    await reader.visit("/conversations/gallery")
    await drawn(reader.page)
    for part in range(3):
        await scroll(reader.page, part / 2, 1)
        assert await reader.page.evaluate(BEYOND) == []
    await picture(reader, f"right-to-left-{size}")
    width = SIZES[size]["width"]
    await reader.part("export").click()
    menu = await reader.part("export-menu").bounding_box()
    assert menu is not None
    assert 0 <= menu["x"] < width / 2
    await reader.page.keyboard.press("Escape")
    if size == "phone":
        await reader.part("drawer-open").click()
    await expect(reader.part("search")).to_be_in_viewport()
    field = await reader.part("search").bounding_box()
    assert field is not None
    assert field["x"] + field["width"] > width * 0.7
    await reader.part("open-settings").click()
    assert await reader.fits()
    for path in ("/docs", "/admin"):
        await reader.visit(path)
        await expect(reader.page.locator("h1")).to_be_visible()
        assert await reader.fits(), path
    await context.close()


async def test_in_colours_of_the_reader_what_a_background_sets_apart_has_a_line(browser, library):
    context = await new_context(browser, forced_colors="active")
    reader = await person(context, library.url)
    await reader.visit("/conversations/gallery")
    await drawn(reader.page)

    marked = await reader.page.evaluate(MARKED, [BUBBLE, ".chip", ".card", ".code"])
    await picture(reader, "forced-colours")

    assert all(marked)
    await scroll(reader.page, 1, 1)
    assert all(await reader.page.evaluate(MARKED, [".trouble"]))
    await reader.visit("/admin")
    await expect(reader.part("ready")).to_have_text("ready")
    colors = "(tabs) => tabs.map((tab) => getComputedStyle(tab).borderBottomColor)"
    tabs = await reader.page.locator(".tabs__tab").evaluate_all(colors)
    assert len(set(tabs[:1])) == len(set(tabs[1:])) == 1
    assert tabs[0] != tabs[1]
    await context.close()


@pytest.mark.parametrize("height", [200, 256])
async def test_enlarged_four_times_half_of_the_window_is_the_transcript(browser, library, height):
    context = await new_context(browser, viewport={"width": 320, "height": height})
    reader = await person(context, library.url)
    await reader.visit("/conversations/gallery")
    await drawn(reader.page)

    room = await reader.page.locator("#transcript").evaluate("(one) => one.clientHeight")

    assert room > height / 2
    assert await reader.fits()
    await expect(reader.part("send")).to_be_in_viewport()
    await reader.part("drawer-open").click()
    await reader.part("open-settings").click()
    await reader.part("setting-git_user_email").fill("ann@example.org")
    await expect(reader.part("setting-git_user_email")).to_be_in_viewport()
    assert await reader.fits()
    await context.close()
