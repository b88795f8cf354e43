"""The requests of a page: at first one script and one style sheet, later nothing but itself."""

import pytest
from playwright.async_api import Error

from tests.support.browser import person

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
    assert await reader.page.evaluate(ASKED) == ["joined.css", "joined.js", "theme-boot.js"]

    again = await person(context, server.url)
    await again.visit(address)
    assert await again.page.evaluate(ASKED)
    fetched = await again.page.evaluate(FETCHED)
    assert not [name for name in fetched if name.endswith((".js", ".css", ".svg"))]
    assert not [*reader.complaints, *again.complaints]


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
