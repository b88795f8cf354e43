"""A person at the page, in Chromium: does what people do and reads what they see."""

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from tests.support.tls_proxies import PUBLIC_NAME
from tests.support.waiting import WAIT_SECONDS

WAIT_MS = WAIT_SECONDS * 1000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {PUBLIC_NAME} 127.0.0.1",
)
REPORT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
READ_ENTRIES = """
(entries) => entries.map((entry) => [
  Number(entry.dataset.eventId),
  entry.dataset.kind,
  entry.dataset.source,
  entry.querySelector(".entry__body").innerText.trim(),
])
"""
OUTAGE = (
    r"ERR_CONNECTION_(REFUSED|RESET|CLOSED|ABORTED|FAILED)|ERR_EMPTY_RESPONSE|WebSocket"
    r"|ERR_CONTENT_LENGTH_MISMATCH|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_SOCKET_NOT_CONNECTED"
    r"|ERR_HTTP2_(PROTOCOL_ERROR|PING_FAILED|SERVER_REFUSED_STREAM)|ERR_NETWORK_(CHANGED|IO_SUSPENDED)"
)
"""The lines Chromium itself writes to the console while a server is away."""

expect.set_options(timeout=WAIT_MS)


class Entry(NamedTuple):
    """One entry of the transcript as a person reads it."""

    event_id: int
    kind: str
    source: str
    text: str


class Person:
    """One tab. What its console complains of is kept in `complaints`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", lambda line: self._note(line.type, line.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))

    def part(self, name: str) -> Locator:
        """Return the element with that data-testid."""
        return self.page.get_by_test_id(name)

    async def visit(self, path: str = "/") -> None:
        """Open an address of the page."""
        await self.page.goto(self.url + path)

    async def look_again(self) -> None:
        """Come back to the tab, on which the list is asked for at once instead of after 5 s."""
        await self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    async def begin(self) -> str:
        """Start a conversation from the front page; its id, when the agent is ready."""
        await self.visit()
        await self.part("new-conversation").click()
        await self.part("new-start").click()
        await self.page.wait_for_url(re.compile("/conversations/"))
        await self.sees_state("Ready")
        return self.page.url.rsplit("/", 1)[1]

    async def say(self, text: str) -> None:
        """Write a message and send it."""
        await self.part("composer").fill(text)
        await self.part("composer").press("Enter")

    async def ask(self, text: str, answer: str) -> None:
        """Write a message and wait for the agent's answer and rest."""
        await self.say(text)
        await expect(self.messages_of("agent").last).to_contain_text(answer)
        await self.sees_state("Ready")

    async def sees_state(self, text: str) -> None:
        """Wait until the agent's state is shown so, over a live connection."""
        await expect(self.part("connection-state")).to_have_text("Connected")
        await expect(self.part("agent-state")).to_have_text(text)

    def messages_of(self, source: str) -> Locator:
        """The messages of one side."""
        return self.page.locator(f'[data-testid="message"][data-source="{source}"]')

    def item(self, conversation_id: str) -> Locator:
        """A conversation's place in the list."""
        return self.page.locator(f'[data-conversation-id="{conversation_id}"]')

    async def entries(self) -> list[Entry]:
        """Return the drawn part of the transcript, once all that is to be drawn now is."""
        await expect(self.part("transcript")).not_to_have_attribute("aria-busy", "true")
        found = self.part("transcript").locator("article")
        return [Entry(*one) for one in await found.evaluate_all(READ_ENTRIES)]

    async def fits(self) -> bool:
        """Whether nothing sticks out to the side."""
        wide: bool = await self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return not wide

    async def found_fault(self, excused: str = r"(?!)") -> Sequence[str]:
        """Console errors that are not excused, policy violations, events drawn twice."""
        faults = [text for text in self.complaints if not re.search(excused, text)]
        faults += await self.page.evaluate("window.violations")
        repeated = await self.part("transcript").get_attribute("data-repeated")
        return [*faults, *([f"repeated: {repeated}"] if repeated else [])]

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The installed Chromium, without a window and without calls of its own."""
    path = shutil.which("chromium")
    assert path is not None, "Chromium is not installed; scripts/setup-tools does that"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


async def person(context: BrowserContext, url: str) -> Person:
    """A new tab."""
    return Person(await context.new_page(), url)


@asynccontextmanager
async def thread_ms(page: Page) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Give the milliseconds of a processor that the page's main thread has had since; others' have no part.

    Chromium counts them from the moment at which a session asks for them.
    """
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")

    async def taken() -> float:
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        (seconds,) = (one["value"] for one in metrics if one["name"] == "ThreadTime")
        return 1000 * float(seconds)

    try:
        yield taken
    finally:
        await session.detach()


async def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """A browser profile of its own, that reports what the policy forbids."""
    options.setdefault("viewport", {"width": 1280, "height": 800})
    options.setdefault("reduced_motion", "reduce")  # what breathes without end is drawn without end
    context = await browser.new_context(**options)
    context.set_default_timeout(WAIT_MS)
    await context.add_init_script(REPORT_VIOLATIONS)
    return context
