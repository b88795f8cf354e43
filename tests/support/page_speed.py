"""The time of the page in Chromium: to its list, and to the newest entry of a long conversation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from playwright.async_api import Browser, CDPSession, Page

from tests.support.browser import chromium, new_context
from tests.support.long_log import long_log
from tests.support.servers import ServerProcess, server_process
from tests.support.written_logs import write_log

LENGTHS = (500, 10_000)
"""Events of the conversations that are opened."""
TIMES = """
window.firstSeen = new Map();
const note = (name) => window.firstSeen.has(name) || window.firstSeen.set(name, performance.now());
new MutationObserver(() => {
  const list = document.getElementById("conversation-list");
  if (list?.getAttribute("aria-busy") === "false") note("list");
  const entries = document.getElementById("entries");
  const newest = entries?.querySelector(".block:last-child article:last-of-type");
  if (newest) note(newest.dataset.eventId);
  const drawn = newest && entries.getAttribute("aria-busy") === "false";
  if (drawn && document.getElementById("agent-state").textContent === "Ready") {
    window.firstSeen.set("newest", window.firstSeen.get(newest.dataset.eventId));
  }
}).observe(document, { subtree: true, childList: true, attributes: true });
"""
# Asked without Playwright's own scripts, which would take part of the time that is measured.
SEEN = """
new Promise((seen) => {
  const look = () => (window.firstSeen.has(NAME) ? seen(window.firstSeen.get(NAME)) : setTimeout(look, 50));
  look();
})
"""
OPEN = """
(id) => {
  window.openedAt = performance.now();
  document.querySelector(`[data-conversation-id='${id}'] a`).click();
}
"""
REQUESTS = """
() => {
  const asked = performance.getEntriesByType("resource");
  return [asked.length, asked.reduce((sum, one) => sum + one.transferSize, 0)];
}
"""


class Figures(NamedTuple):
    """Medians, in ms from the navigation or the click; requests and bytes of the first visit."""

    what: str
    slowdown: int
    milliseconds: float
    worst: float
    requests: int
    transferred: int

    def __str__(self) -> str:
        return (
            f"{self.what}, CPU {self.slowdown}x slower: {self.milliseconds:.0f} ms"
            f" (worst {self.worst:.0f}), {self.requests} requests, {self.transferred // 1024} KiB"
        )


async def measure(browser: Browser, url: str, slowdown: int, rounds: int) -> AsyncIterator[Figures]:
    """Visit the front page and the conversations, each in a fresh profile, `rounds` times."""
    yield await _visits(browser, url, "/", "list", slowdown, rounds)
    for length in LENGTHS:
        address = f"/conversations/events-{length}"
        yield await _visits(browser, url, address, "newest", slowdown, rounds)
    for length in LENGTHS:
        yield await _clicks(browser, url, f"events-{length}", slowdown, rounds)


@asynccontextmanager
async def long_conversations(folder: Path) -> AsyncIterator[ServerProcess]:
    """A server with a conversation of each of the LENGTHS."""
    for length in LENGTHS:
        await write_log(folder / "data", f"events-{length}", f"{length} events", long_log(length))
    async with server_process(folder / "data") as server:
        yield server


async def run_page_speed(folder: Path, rounds: int) -> AsyncIterator[Figures]:
    """At full speed and four times slower."""
    async with long_conversations(folder) as server, chromium() as browser:
        for slowdown in (1, 4):
            async for figures in measure(browser, server.url, slowdown, rounds):
                yield figures


async def _visits(
    browser: Browser, url: str, address: str, seen: str, slowdown: int, rounds: int
) -> Figures:
    taken, asked = [], [0, 0]
    for _ in range(rounds):
        async with _slow_page(browser, slowdown) as (page, session):
            await page.goto(url + address, wait_until="commit")
            taken.append(await _moment(session, seen))
            asked = await page.evaluate(REQUESTS)
    return Figures(f"visit of {address}", slowdown, median(taken), max(taken), *asked)


async def _clicks(browser: Browser, url: str, name: str, slowdown: int, rounds: int) -> Figures:
    taken, asked = [], [0, 0]
    for _ in range(rounds):
        async with _slow_page(browser, slowdown) as (page, session):
            await page.goto(url)
            await _moment(session, "list")
            before = await page.evaluate(REQUESTS)
            await page.evaluate(OPEN, name)
            shown = await _moment(session, "newest")
            taken.append(shown - await page.evaluate("window.openedAt"))
            after = await page.evaluate(REQUESTS)
            asked = [now - then for now, then in zip(after, before, strict=True)]
    return Figures(f"click on {name}", slowdown, median(taken), max(taken), *asked)


async def _moment(session: CDPSession, name: str) -> float:
    """When it was first seen, in ms since the navigation began."""
    asked = {"awaitPromise": True, "returnByValue": True}
    answer = await session.send(
        "Runtime.evaluate", {"expression": SEEN.replace("NAME", f"'{name}'"), **asked}
    )
    value: float = answer["result"]["value"]
    return value


@asynccontextmanager
async def _slow_page(browser: Browser, slowdown: int) -> AsyncIterator[tuple[Page, CDPSession]]:
    context = await new_context(browser)
    await context.add_init_script(TIMES)
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    await session.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    try:
        yield page, session
    finally:
        await context.close()
