"""Pictures of the page, kept for people to look at."""

from pathlib import Path

from tests.support.browser import Person

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"


async def picture(reader: Person, name: str) -> None:
    """Keep what the tab shows now as screenshots/NAME.png."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await reader.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
