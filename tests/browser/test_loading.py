"""What a page asks for: at first all at once, later nothing but itself and what it shows."""

import pytest

from tests.support.browser import person

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(60),
]

SCRIPTS = """
() => performance.getEntriesByType("resource").map((one) => one.name).filter((name) => name.endsWith(".js"))
"""
NAMED = """
() => [...document.querySelectorAll("link[rel=modulepreload], script[src]")].map((one) => one.href || one.src)
"""
FETCHED = """
() => performance.getEntriesByType("resource").filter((one) => one.transferSize > 0).map((one) => one.name)
"""


@pytest.mark.parametrize("address", ["/", "/admin", "/docs"])
async def test_no_script_waits_until_another_names_it_and_none_is_asked_for_again(
    context, server, address
):
    reader = await person(context, server.url)
    await reader.visit(address)
    asked = await reader.page.evaluate(SCRIPTS)
    assert len(asked) > 5
    assert sorted(asked) == sorted(await reader.page.evaluate(NAMED))

    again = await person(context, server.url)
    await again.visit(address)
    assert await again.page.evaluate(SCRIPTS)
    fetched = await again.page.evaluate(FETCHED)
    assert not [name for name in fetched if name.endswith((".js", ".css", ".svg"))]
    assert not [*reader.complaints, *again.complaints]
