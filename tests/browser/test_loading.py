"""The requests of a page: at first one script and one style sheet, later nothing but itself."""

import pytest
from playwright.async_api import Error, expect

from tests.support.browser import new_context, person

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
]

ASKED = """
() => performance.getEntriesByType("resource").map((one) => new URL(one.name).pathname)
  .filter((path) => /\\.(js|css)$/.test(path)).map((path) => path.split("/").at(-1)).sort()
"""
FETCHED = """
() => performance.getEntriesByType("resource").filter((one) => one.transferSize > 0).map((one) => one.name)
"""

FIRST = ["joined.css", "joined.js", "theme-boot.js"]
LATER = ["joined-conversation-parts.js", "joined-dialogs.js"]
"""The files that the chat page loads once it shows all that it was opened for."""
MOMENTS = """
async (names) => {
  const moments = {};
  for (const name of names) {
    for (;;) {
      const found = performance.getEntriesByType("resource").filter((one) => new URL(one.name).pathname.endsWith(name));
      if (found.length > 0 && found.every((one) => one.responseEnd > 0)) {
        moments[name] = [found.length, found[0].startTime, found[0].responseEnd];
        break;
      }
      await new Promise((resolve) => new PerformanceObserver((_, all) => (all.disconnect(), resolve())).observe({ type: "resource" }));
    }
  }
  return moments;
}
"""

NOTED = """
window.noted = [];
const fetched = window.fetch;
window.fetch = (url, options) => {
  window.noted.push(String(url).split("?")[0]);
  return fetched(url, options);
};
const listened = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (...all) {
  if (this instanceof Element) window.noted.push("listens");
  return listened.apply(this, all);
};
"""


@pytest.mark.parametrize("address", ["/", "/admin", "/docs"])
async def test_a_page_asks_for_one_script_and_one_style_sheet_and_for_neither_again(
    context, server, address
):
    reader = await person(context, server.url)
    await reader.visit(address)
    # The colour scheme is set by a script of its own, before anything is painted.
    asked = await reader.page.evaluate(ASKED)
    assert [name for name in asked if name not in LATER] == FIRST

    again = await person(context, server.url)
    await again.visit(address)
    assert await again.page.evaluate(ASKED)
    fetched = await again.page.evaluate(FETCHED)
    assert not [name for name in fetched if name.endswith((".js", ".css", ".svg"))]
    assert not [*reader.complaints, *again.complaints]


async def test_what_the_first_look_does_without_is_loaded_once_after_it(context, server):
    reader = await person(context, server.url)
    await reader.visit()
    moments = await reader.page.evaluate(MOMENTS, ["/api/conversations", *LATER])
    for name in LATER:
        assert moments[name][0] == 1
        assert moments[name][1] >= moments["/api/conversations"][2]

    await reader.part("open-settings").click()
    await expect(reader.part("settings-dialog")).to_be_visible()
    assert (await reader.page.evaluate(MOMENTS, LATER)) == {name: moments[name] for name in LATER}
    assert not await reader.found_fault()


async def test_what_cannot_be_loaded_is_said_and_tried_again(context, server):
    reader = await person(context, server.url)
    await reader.page.route("**/joined-dialogs.js", lambda route: route.abort())
    await reader.visit()
    await reader.part("open-settings").click()
    await expect(reader.part("error-banner")).to_contain_text("could not be loaded")

    await reader.page.unroute("**/joined-dialogs.js")
    await reader.page.reload()
    await reader.part("open-settings").click()
    await expect(reader.part("settings-dialog")).to_be_visible()
    assert not await reader.found_fault(excused="ERR_FAILED")


async def test_a_conversation_whose_script_could_not_be_loaded_is_shown_when_it_can(visitor):
    script = "**/joined-conversation-parts.js"
    await visitor.page.route(script, lambda route: route.fulfill(status=503))
    await visitor.visit("/conversations/gallery")
    await expect(visitor.part("error-banner")).to_contain_text("could not be loaded")

    await visitor.page.unroute(script)
    await visitor.sees_state("Ready")
    await expect(visitor.part("error-banner")).to_be_hidden()
    assert await visitor.entries()
    assert not await visitor.found_fault(excused="503")


async def test_a_language_is_loaded_by_those_who_read_it(browser, server):
    for locale, expected in (("de-DE", ["de.js"]), ("en-GB", []), ("fr-FR", [])):
        context = await new_context(browser, locale=locale)
        reader = await person(context, server.url)
        await reader.visit()
        await expect(reader.part("conversation-list")).to_have_attribute("aria-busy", "false")
        asked = await reader.page.evaluate(ASKED)
        assert [name for name in asked if name.startswith(("de", "en"))] == expected
        await context.close()


async def test_a_language_that_cannot_be_loaded_leaves_the_page_in_english(browser, server):
    context = await new_context(browser, locale="de-DE")
    reader = await person(context, server.url)
    await reader.page.route("**/languages/de.js", lambda route: route.abort())
    await reader.visit()
    await expect(reader.part("new-conversation")).to_have_text("New conversation")
    await expect(reader.part("new-conversation")).to_be_visible()
    assert await reader.page.evaluate("document.documentElement.lang") == "en"
    assert not await reader.found_fault(excused="ERR_FAILED")
    await context.close()


@pytest.mark.parametrize("address", ["/conversations/gallery", "/admin", "/docs"])
async def test_no_page_can_make_markup_of_a_text(visitor, address):
    await visitor.visit(address)
    if address.endswith("gallery"):
        await visitor.sees_state("Ready")
        await visitor.entries()
    assert not [*visitor.complaints, *await visitor.page.evaluate("window.violations")]

    for attempt in (
        "() => { document.body.innerHTML = '<b>bold</b>'; }",
        "() => document.body.insertAdjacentHTML('beforeend', '<b>bold</b>')",
        "() => { document.createElement('script').src = 'data:text/javascript,1'; }",
        "() => trustedTypes.createPolicy('any', {})",
    ):
        with pytest.raises(Error, match="TypeError"):
            await visitor.page.evaluate(attempt)


async def test_the_newest_events_are_requested_before_the_page_is_put_together(visitor):
    await visitor.page.add_init_script(NOTED)
    await visitor.visit("/conversations/gallery")
    await visitor.sees_state("Ready")
    await visitor.entries()
    noted = await visitor.page.evaluate("window.noted")
    conversation = "/api/conversations/gallery"
    assert noted[:3] == [f"{conversation}/events", conversation, "listens"]
    assert noted.count(conversation) == 1
    assert not visitor.complaints
