"""The page by keyboard, in both schemes, and while the server is away."""

import pytest
from playwright.async_api import expect

from tests.support.browser import OUTAGE, new_context, person
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

CONTRAST = """
() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(`--${name}`).trim().slice(1);
    const parts = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  return (pairs) => pairs.map(([front, back]) => {
    const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}
"""
TEXTS = [
    *[
        [text, ground]
        for text in ("ink", "soft")
        for ground in ("ground", "side", "raised", "line")
    ],
    *[["accent", ground] for ground in ("ground", "side", "accent-wash")],
    *[["good", ground] for ground in ("ground", "side", "line")],
    ["accent-ink", "accent"],
    ["warn", "warn-wash"],
    ["warn", "line"],
    ["bad", "bad-wash"],
    ["bad", "ground"],
    ["ground", "ink"],
]
CONTROLS = [["field-line", "ground"], ["field-line", "side"], ["accent", "side"]]


async def test_shortcuts_are_shown_and_obeyed(reader):
    keys = reader.page.keyboard
    await reader.begin()
    await reader.part("title").click()

    await keys.press("?")
    await expect(reader.part("shortcuts-dialog")).to_be_visible()
    await keys.press("Escape")
    await expect(reader.part("shortcuts-dialog")).to_be_hidden()
    await keys.press("Control+k")
    await expect(reader.part("search")).to_be_focused()
    await keys.press("Alt+m")
    await expect(reader.part("composer")).to_be_focused()
    await keys.type("what?")
    await expect(reader.part("composer")).to_have_value("what?")
    await keys.press("Control+,")
    await expect(reader.part("settings-dialog")).to_be_visible()
    await keys.press("Escape")
    await expect(reader.part("composer")).to_be_focused()
    await keys.press("Alt+n")

    await expect(reader.part("new-message")).to_be_focused()
    assert not await reader.found_fault()


async def test_the_list_is_one_tab_stop_with_arrows_inside(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        ids = [await reader.begin() for _ in range(3)]
        keys = reader.page.keyboard
        newest, middle, oldest = (
            reader.item(one).get_by_test_id("conversation-link") for one in reversed(ids)
        )
        await keys.press("Control+k")
        await keys.press("ArrowDown")
        await expect(newest).to_be_focused()
        await keys.press("ArrowDown")
        await expect(middle).to_be_focused()
        await keys.press("End")
        await expect(oldest).to_be_focused()
        assert await reader.page.locator(".item__link[tabindex='0']").count() == 1

        await keys.press("F2")
        await reader.part("rename-input").fill("By keyboard")
        await keys.press("Enter")
        await expect(oldest).to_contain_text("By keyboard")
        await expect(oldest).to_be_focused()
        await keys.press("Delete")
        await expect(reader.item(ids[0])).to_have_count(0)
        await expect(middle).to_be_focused()
        await reader.part("undo").press("Enter")

        await expect(oldest).to_be_visible()
        assert not await reader.found_fault()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_chosen_scheme_is_there_at_the_first_paint_and_readable(
    browser, server, scheme, record_property
):
    context = await new_context(browser, color_scheme=scheme)
    reader = await person(context, server.url)
    await reader.visit()
    root = reader.page.locator("html")
    await expect(root).to_have_attribute("data-theme", scheme)
    ratios = await reader.page.evaluate(f"(pairs) => ({CONTRAST})()(pairs)", TEXTS)
    edges = await reader.page.evaluate(f"(pairs) => ({CONTRAST})()(pairs)", CONTROLS)

    other = "dark" if scheme == "light" else "light"
    while await root.get_attribute("data-theme") != other:
        await reader.part("theme").click()
    await reader.page.reload(wait_until="commit")

    await expect(root).to_have_attribute("data-theme", other)
    failing = [pair for pair, ratio in zip(TEXTS, ratios, strict=True) if ratio < 4.5]
    assert not failing
    assert min(edges) >= 3
    record_property("figures", f"{scheme}: text {min(ratios):.2f}, controls {min(edges):.2f}")
    assert not await reader.found_fault()
    await context.close()


async def test_the_page_says_when_the_server_is_away_and_goes_on_by_itself(context, tmp_path):
    async with server_process(tmp_path / "data") as server:
        reader = await person(context, server.url)
        await reader.visit()
        await expect(reader.part("list-empty")).to_be_attached()
        await server.kill()
        await reader.look_again()

        for width in (1280, 390):
            await reader.page.set_viewport_size({"width": width, "height": 800})
            await expect(reader.part("offline-banner")).to_be_visible()
            await expect(reader.part("offline-banner")).to_contain_text("is not responding")
            assert await reader.fits()
        await server.start()

        await expect(reader.part("offline-banner")).to_be_hidden()
        await expect(reader.part("list-empty")).to_be_attached()
        assert not await reader.found_fault(excused=OUTAGE)
