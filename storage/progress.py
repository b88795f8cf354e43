"""How whoever reads a whole storage says how far it has come."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Hands items on while somebody is shown how many of `total` have passed."""

    def __call__(self, items: Iterable[T], subject: str, total: int, /) -> Iterable[T]:
        """Return the items, in order."""


def untracked(items: Iterable[T], _subject: str, _total: int, /) -> Iterable[T]:
    """Return the items; nobody is shown anything."""
    return items
