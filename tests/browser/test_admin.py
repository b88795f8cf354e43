"""The admin page in Chromium: what goes on, acting on it, usage, the audit, the key."""

import pytest
from playwright.async_api import expect

from tests.support.browser import new_context, person
from tests.support.screenshots import picture
from tests.support.servers import server_process

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

KEY = "a long admin key"
NO_STORAGE = """
for (const name of ["sessionStorage", "localStorage"]) {
  Object.defineProperty(window, name, {
    get() {
      throw new DOMException("No storage here", "SecurityError");
    },
  });
}
"""
PARTS = ("overview", "conversations", "connections", "usage", "audit", "server")
SIZES = ({"width": 1280, "height": 800}, {"width": 390, "height": 844})

REDRAWN = """
async ([before, after]) => {
  const { h } = await import("/admin/assets/views/dom.js");
  const { redraw } = await import("/admin/assets/admin/redraw.js");
  const parent = h("div");
  const acts = [];
  const build = (one) => h("p", { data: { id: one.id } },
    h("button", one.act ? { onclick: () => acts.push(one.act) } : {}, one.text));
  redraw(parent, before.map(build));
  redraw(parent, after.map(build));
  const buttons = [...parent.querySelectorAll("button")];
  for (const button of buttons) button.click();
  return [buttons.map((button) => button.textContent), acts];
}
"""
BROKEN_WORDS = """
() => [...document.querySelectorAll("td, th")].flatMap((cell) => {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  const broken = [];
  while (texts.nextNode()) {
    for (const { index, 0: word } of texts.currentNode.data.matchAll(/\\S{1,20}(?!\\S)/g)) {
      if (index > 0 && /\\S/.test(texts.currentNode.data[index - 1])) continue;
      const range = document.createRange();
      range.setStart(texts.currentNode, index);
      range.setEnd(texts.currentNode, index + word.length);
      if (new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1) broken.push(word);
    }
  }
  return broken;
})
"""
REDRAWS = {
    "a place is taken by another": ([("", "A", "a")], [("", "B", "b")]),
    "the text stays and the act changes": ([("", "Close", "a")], [("", "Close", "b")]),
    "a row moves": ([("1", "A", "a"), ("2", "B", "b")], [("2", "B", "c"), ("1", "A", "d")]),
    "a row goes": ([("1", "A", "a"), ("2", "B", "b")], [("2", "B", "c")]),
    "an act comes": ([("", "A", "")], [("", "A", "a")]),
    "an act goes": ([("", "A", "a")], [("", "A", "")]),
    "an id stands twice": ([("1", "A", "a")], [("1", "B", "b"), ("1", "C", "c")]),
}


async def talk(context, server, title):
    """A conversation that a person has begun on the page, and left."""
    other = await person(context, server.url)
    conversation_id = await other.begin()
    await other.ask(title, f"You said: {title}")
    await other.page.close()
    return conversation_id


async def complaints(reader):
    return [*reader.complaints, *await reader.page.evaluate("window.violations")]


async def test_the_overview_draws_what_goes_on(context, reader, server):
    conversation_id = await talk(context, server, "for the overview")

    await reader.visit("/admin")

    await expect(reader.part("ready")).to_have_text("ready")
    for chart in ("events", "latency", "loops", "connections", "lag", "errors"):
        await expect(reader.part(f"chart-{chart}").locator("svg")).to_be_visible()
    row = reader.page.locator(f'[data-id="{conversation_id}"]')
    await expect(row).to_contain_text("Idle")
    assert not await complaints(reader)


async def test_a_loop_is_closed_after_a_question(context, reader, server):
    conversation_id = await talk(context, server, "to be closed")
    await reader.visit("/admin")
    row = reader.page.locator(f'[data-id="{conversation_id}"]')

    await row.get_by_role("button").click()
    await reader.part("confirm-no").click()
    await expect(row).to_be_visible()
    await row.get_by_role("button").click()
    await reader.part("confirm-yes").click()

    await expect(row).to_have_count(0)
    await reader.visit("/admin#audit")
    await reader.page.reload()
    await expect(reader.part("audit")).to_contain_text("close loop")
    await expect(reader.part("audit")).to_contain_text(conversation_id)


@pytest.mark.parametrize("case", REDRAWS)
async def test_a_button_drawn_anew_does_what_it_says(reader, case):
    before, after = (
        [dict(zip(("id", "text", "act"), one, strict=True)) for one in side]
        for side in REDRAWS[case]
    )
    await reader.visit("/admin")

    texts, acts = await reader.page.evaluate(REDRAWN, [before, after])

    assert texts == [one["text"] for one in after]
    assert acts == [one["act"] for one in after if one["act"]]


async def test_conversations_are_found_by_a_part_of_their_title(context, reader, server):
    wanted = await talk(context, server, "a needle in the hay")
    other = await talk(context, server, "only straw")
    await reader.visit("/admin#conversations")
    rows = reader.part("conversations")
    await expect(rows.locator(f'[data-id="{other}"]')).to_be_visible()

    await reader.part("find-title").fill("NEEDLE")

    await expect(rows.locator(f'[data-id="{other}"]')).to_have_count(0)
    await expect(rows.locator(f'[data-id="{wanted}"]')).to_contain_text("a needle in the hay")
    assert not await complaints(reader)


async def test_markup_in_a_title_is_only_text(context, reader, server):
    markup = '<img src=x onerror="window.broken=1"><b>bold</b>'
    await talk(context, server, markup)

    await reader.visit("/admin#conversations")

    await expect(reader.part("conversations")).to_contain_text("<img src=x onerror=")
    assert await reader.part("conversations").locator("img, b").count() == 0
    assert await reader.page.evaluate("window.broken") is None


async def test_a_client_is_disconnected_and_comes_back_by_itself(context, reader, server):
    other = await person(context, server.url)
    conversation_id = await other.begin()
    await reader.visit("/admin#connections")
    rows = reader.part("stage").locator("tbody tr").filter(has_text=conversation_id)
    await expect(rows).to_have_count(1)
    before = await rows.get_attribute("data-id")

    await rows.get_by_role("button").click()
    await reader.part("confirm-yes").click()

    gone = reader.page.locator(f'[data-id="{before}"]')
    await expect(gone).to_have_count(0)
    await other.ask("still there", "You said: still there")


async def test_a_drain_is_begun_after_a_question_and_ended(reader):
    await reader.visit("/admin")
    await reader.part("drain").click()
    await expect(reader.part("confirm-dialog")).to_contain_text("Drain this server?")
    await reader.part("confirm-yes").click()
    await expect(reader.part("ready")).to_have_text("draining")
    refused = await reader.page.request.get(f"{reader.url}/ready")
    assert refused.status == 503

    await reader.part("drain").click()

    await expect(reader.part("ready")).to_have_text("ready")
    assert not await complaints(reader)


async def test_usage_is_drawn_grouped_and_downloaded(context, reader, server):
    await talk(context, server, "that is counted")
    await reader.visit("/admin#usage")
    await expect(reader.part("usage-chart").locator("rect")).to_have_count(30)

    await reader.part("measure").select_option("events")
    await reader.part("group").select_option("user")
    await expect(reader.part("usage").locator("tbody")).to_contain_text("nobody")
    async with reader.page.expect_download() as download:
        await reader.part("csv").click()

    file = await (await download.value).path()
    assert file.read_text().startswith("day,user_id,model,events,prompt_tokens")
    assert not await complaints(reader)


async def test_the_storage_is_checked_and_settings_are_shown(reader):
    await reader.visit("/admin#server")
    await expect(reader.part("settings")).to_contain_text("page_size")

    await reader.part("check").click()

    await expect(reader.part("storage")).to_contain_text("Sound")


async def test_the_page_asks_only_while_it_is_seen(reader):
    asked = []
    reader.page.on("request", lambda one: asked.append(one.url))
    await reader.page.clock.install()
    await reader.visit("/admin")
    await expect(reader.part("ready")).to_have_text("ready")
    await expect(reader.part("chart-events")).to_be_visible()
    seen = "Object.defineProperty(document, 'hidden', {get: () => away, configurable: true}); "
    tell = "document.dispatchEvent(new Event('visibilitychange'))"

    await reader.page.evaluate(seen.replace("away", "true") + tell)
    # Requests are told in their order: none from before comes behind this one.
    async with reader.page.expect_request("**/alive"):
        await reader.page.evaluate("fetch('/alive').then(() => null)")
    asked.clear()
    await reader.page.clock.run_for(60_000)
    assert asked == []

    async with reader.page.expect_response("**/api/admin/overview"):
        await reader.page.evaluate(seen.replace("away", "false") + tell)


@pytest.mark.parametrize("viewport", SIZES, ids=lambda size: str(size["width"]))
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_part_fits_and_complains_of_nothing(browser, context, server, viewport, scheme):
    await talk(context, server, f"A conversation with a title of some length, {scheme}")
    own = await new_context(browser, viewport=viewport, color_scheme=scheme)
    try:
        reader = await person(own, server.url)
        await reader.visit("/admin")
        await expect(reader.page.locator("html")).to_have_css("color-scheme", scheme)
        for part in PARTS:
            await reader.page.locator(f'[data-part="{part}"]').click()
            await expect(reader.part("stage").locator("section").first).to_be_visible()
            assert await reader.fits(), part
            await picture(reader, f"admin-{part}-{viewport['width']}-{scheme}")
            nameless = "button:not(:has-text('')), input:not([id]), select:not([id])"
            assert await reader.part("stage").locator(nameless).count() == 0
        assert not await complaints(reader)
    finally:
        await own.close()


@pytest.mark.parametrize("width", [800, 1000, 1280])
async def test_short_words_of_a_table_stay_whole_beside_long_ones(context, server, width):
    other = await person(context, server.url)
    conversation_id = await other.begin()
    await other.say("/cost 1.2345\nfine")
    await expect(other.messages_of("agent").last).to_contain_text("You said: fine")
    reader = await person(context, server.url)
    path = f"/api/conversations/{conversation_id}"
    for title in ("w" * 200, "long words " * 18):
        await reader.page.request.patch(server.url + path, data={"title": title})
        await reader.page.set_viewport_size({"width": width, "height": 800})
        for part in ("overview", "conversations", "connections", "audit"):
            await reader.visit(f"/admin#{part}")
            await reader.page.reload()
            await expect(reader.part("stage").locator("table").first).to_be_visible()
            await picture(reader, f"admin-{part}-{width}-long")

            assert await reader.page.evaluate(BROKEN_WORDS) == [], part
            assert await reader.fits(), part


async def test_the_parts_are_reached_by_keyboard(reader):
    await reader.visit("/admin")
    await expect(reader.part("ready")).to_have_text("ready")

    await reader.page.locator('[data-part="usage"]').focus()
    await reader.page.keyboard.press("Enter")

    await expect(reader.part("usage")).to_be_visible()
    await expect(reader.page.locator("[aria-current=page]")).to_have_text("Usage")
    await expect(reader.page.get_by_label("From", exact=True)).to_be_visible()


async def test_with_a_key_the_page_asks_for_it(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyed") / "data"
    environment = {"PARLEY_ADMIN_KEY": KEY}
    async with server_process(folder, environment=environment) as server:
        context = await new_context(browser)
        reader = await person(context, server.url)
        await reader.visit("/admin")
        for key in ("wrong", "beyond what a header holds: \N{SNOWMAN}", KEY):
            await reader.part("key-input").fill(key)
            await reader.part("key-submit").click()
            if key != KEY:
                again = reader.page.get_by_text("The server did not accept that key.")
                await expect(again).to_be_visible()

        await expect(reader.part("ready")).to_have_text("ready")
        await reader.page.reload()
        await expect(reader.part("ready")).to_have_text("ready")
        assert not [one for one in reader.complaints if "401" not in one]
        await context.close()


async def test_a_browser_without_storage_keeps_the_key_until_the_page_is_left(browser, tmp_path):
    # A key may be any text that a header holds.
    key = "an admin\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}s long key"
    async with server_process(
        tmp_path / "data", environment={"PARLEY_ADMIN_KEY": key, "SESSION_API_KEY": key}
    ) as server:
        context = await new_context(browser)
        await context.add_init_script(NO_STORAGE)
        reader = await person(context, server.url)
        for path, seen in (("/admin", "ready"), ("/", "composer")):
            await reader.visit(path)
            await reader.part("key-input").fill(key)
            await reader.part("key-submit").click()
            await expect(reader.part("key-form")).to_be_hidden()
            await expect(reader.part(seen)).to_be_visible()
        await expect(reader.part("list-empty")).to_be_visible()
        assert not [one for one in reader.complaints if "401" not in one]
        await context.close()
