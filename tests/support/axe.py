"""axe-core in a page: which rules of accessibility are broken, and where."""

from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page

SOURCE = Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """
async () => {
  const enabled = { enabled: true };
  const rules = { "label-content-name-mismatch": enabled, "target-size": enabled };
  const found = await axe.run(document, { rules, resultTypes: ["violations"] });
  return found.violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html.slice(0, 160) + " " + node.failureSummary)]);
}
"""


@cache
def _source() -> str:
    assert SOURCE.is_file(), "axe-core is not installed; scripts/setup-tools does that"
    return SOURCE.read_text()


async def broken_rules(page: Page) -> dict[str, list[str]]:
    """Return the elements at fault by the rule they break; both WCAG and best practice count."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_source())
    found: list[Any] = await page.evaluate(RUN)
    return dict(found)
