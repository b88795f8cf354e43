"""Progress on a terminal: a bar on stderr for each subject; nothing where that is no terminal."""

import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.inventory import T, Track, untracked

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from events.transfer.progress import Progress


@contextmanager
def _bars() -> Iterator["Bars"]:
    from rich.console import Console  # noqa: PLC0415 - few commands draw
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        yield bars


@contextmanager
def shown_progress() -> Iterator[Track]:
    """Give a `track` that draws a bar for each subject."""
    if not sys.stderr.isatty():
        yield untracked
        return
    with _bars() as bars:

        def track(items: Iterable[T], subject: str, total: int, /) -> Iterable[T]:
            return bars.track(items, total=total, description=subject)

        yield track


@contextmanager
def shown_async_progress() -> Iterator["Progress"]:
    """Give the same for items that are awaited."""
    from events.transfer.progress import unshown  # noqa: PLC0415 - few commands need it

    if not sys.stderr.isatty():
        yield unshown
        return
    with _bars() as bars:

        async def track(
            items: AsyncIterable[T], subject: str, total: int | None, /
        ) -> AsyncIterator[T]:
            bar = bars.add_task(subject, total=total)
            async for item in items:
                yield item
                bars.advance(bar)

        yield track
