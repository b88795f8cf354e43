"""What a page asks for: at first one script and one style sheet, later nothing but itself."""

import pytest
from playwright.async_api import Error

from tests.support.browser import person

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(60),
]

ASKED = """
() => performance.getEntriesByType("resource").map((one) => new URL(one.name).pathname)
  .filter((path) => /\\.(js|css)$/.test(path)).map((path) => path.split("/").at(-1)).sort()
"""
FETCHED = """
() => performance.getEntriesByType("resource").filter((one) => one.transferSize > 0).map((one) => one.name)
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
