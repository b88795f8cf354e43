"""The smoothness of a page: the time between its animation frames, and its long tasks."""

from typing import Any, NamedTuple

from playwright.async_api import Page

RECORD = """
window.recorded = { gaps: [], tasks: [] };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.recorded.tasks.push(entry.duration);
}).observe({ type: "longtask" });
let last = performance.now();
requestAnimationFrame(function frame(now) {
  window.recorded.gaps.push(now - last);
  last = now;
  requestAnimationFrame(frame);
});
"""
READ = """
() => {
  const { gaps, tasks } = window.recorded;
  window.recorded = { gaps: [], tasks: [] };
  return {
    frames: gaps.length,
    longest: Math.max(...gaps),
    tasks: tasks.length,
    task: Math.max(0, ...tasks),
    elements: document.querySelectorAll("*").length,
    entries: document.querySelectorAll("article").length,
  };
}
"""
SCROLL = """
async ([share, steps]) => {
  const transcript = document.getElementById("transcript");
  const from = transcript.scrollTop;
  for (let step = 1; step <= steps; step += 1) {
    const to = share * (transcript.scrollHeight - transcript.clientHeight);
    transcript.scrollTop = from + ((to - from) * step) / steps;
    await new Promise(requestAnimationFrame);
  }
}
"""
DRAWN = """
async ([selector, text]) => {
  const entries = document.getElementById("entries");
  while (entries.getAttribute("aria-busy") !== "false" || document.querySelector(selector)?.textContent !== text) {
    await new Promise(requestAnimationFrame);
  }
}
"""


class Smoothness(NamedTuple):
    """The frames since the last look; times in ms, and counts of the document's elements now."""

    frames: int
    longest_frame: float
    long_tasks: int
    longest_task: float
    elements: int
    entries: int

    def __str__(self) -> str:
        return (
            f"{self.frames} frames, the longest {self.longest_frame:.0f} ms;"
            f" {self.long_tasks} long tasks, the longest {self.longest_task:.0f} ms;"
            f" {self.elements} elements, {self.entries} entries in the document"
        )


async def look(page: Page) -> Smoothness:
    """Return the record since the last look. The page needs `RECORD` as an init script."""
    figures: dict[str, Any] = await page.evaluate(READ)
    return Smoothness(*figures.values())


async def scroll(page: Page, share: float, steps: int) -> None:
    """Scroll to a share of the transcript's height, a step per animation frame."""
    await page.evaluate(SCROLL, [share, steps])


async def drawn(page: Page) -> None:
    """Wait until the transcript is drawn and the agent ready, without asking again and again."""
    await page.evaluate(DRAWN, ["#agent-state", "Ready"])
