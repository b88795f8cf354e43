"""The operating guide, from which tests take what they run."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")


def shown(language: str, holding: str) -> str:
    """The first code block of that language that holds a text. Raises StopIteration."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return next(one for one in blocks if holding in one)
