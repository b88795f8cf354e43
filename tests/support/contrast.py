"""The parts of a page that cannot be read or reached: contrast after WCAG 2.2 AA, names, focus."""

from playwright.async_api import Page

FAINT_TEXT = """
() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((one) => one * scale), numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const luminance = (colour) => {
    const [r, g, b] = colour.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const faint = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(":disabled, .unseen, .skip, noscript, option")) continue;
    looked += 1;
    const below = ground(element);
    const style = getComputedStyle(element);
    const light = [luminance(over(parse(style.color), below)), luminance(below)].sort((a, b) => b - a);
    const ratio = (light[0] + 0.05) / (light[1] + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.set(`${element.tagName}.${element.className}`, `${ratio.toFixed(2)} ${node.data.trim().slice(0, 30)}`);
  }
  return [looked, [...faint].map((pair) => pair.join(": "))];
}
"""
NAMELESS = """
() => [...document.querySelectorAll("button, a[href], input, textarea, select, summary, [role=img], [role=region]")]
  .filter((one) => one.checkVisibility() && !(one.getAttribute("aria-label") || one.getAttribute("aria-labelledby")
    || one.labels?.length || one.textContent.trim() || one.closest("label")))
  .map((one) => one.outerHTML.slice(0, 120))
"""
OUTLINE = """
() => {
  const style = getComputedStyle(document.activeElement);
  const shown = (one) => one.outlineStyle !== "none" && parseFloat(one.outlineWidth) >= 2 || one.boxShadow !== "none";
  const form = document.activeElement.closest("label, form");
  // After the last one the focus is the browser's own.
  if (document.activeElement === document.body) return ["", true];
  return [document.activeElement.outerHTML.slice(0, 120), shown(style) || (form !== null && shown(getComputedStyle(form)))];
}
"""


async def faint_texts(page: Page) -> tuple[int, list[str]]:
    """Return the number of visible texts, and those whose contrast is below 4.5 (3 when large)."""
    looked, faint = await page.evaluate(FAINT_TEXT)
    return int(looked), list(faint)


async def nameless_controls(page: Page) -> list[str]:
    """Visible controls that a screen reader has no name for."""
    found: list[str] = await page.evaluate(NAMELESS)
    return found


async def unmarked_focus(page: Page, tabs: int) -> list[str]:
    """Press Tab so often; what gets the focus without showing it."""
    unmarked: list[str] = []
    for _ in range(tabs):
        await page.keyboard.press("Tab")
        element, shown = await page.evaluate(OUTLINE)
        if not shown:
            unmarked.append(element)
    return unmarked
