"""The progress of a walk through a storage, told to those who show it."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Yields items while showing how many of `total` there were; None where that is not known."""

    def __call__(
        self, items: AsyncIterable[T], subject: str, total: int | None, /
    ) -> AsyncIterator[T]:
        """Return the items, in order."""


async def unshown(
    items: AsyncIterable[T], _subject: str, _total: int | None, /
) -> AsyncIterator[T]:
    """Yield the items without showing progress."""
    async for item in items:
        yield item
