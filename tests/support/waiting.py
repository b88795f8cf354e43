"""Waits for what no event of its own announces."""

import asyncio
import os
from collections.abc import Callable
from inspect import isawaitable

from events.event import EventSource
from events.stores.base import EventStore
from tests.support.streams import message, open_stream

WAIT_SECONDS = float(os.environ.get("TEST_WAIT_SECONDS", "60"))
"""The longest anything a test waits for may take: a hang takes as long, a slow machine never."""

LOOK_SECONDS = 0.005


async def until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition, which may be awaited, holds; the loop rests between two looks."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if isawaitable(holds) else holds:
                return
            looks: asyncio.Future[None] = loop.create_future()
            timer = loop.call_later(LOOK_SECONDS, _end, looks)
            try:
                await looks
            finally:
                timer.cancel()


def _end(looks: asyncio.Future[None]) -> None:
    if not looks.done():  # the wait may be over, and its end not yet taken in
        looks.set_result(None)


async def others_have_ended(seconds: float = WAIT_SECONDS) -> None:
    """Wait until no task but the caller's is left, nor any that those began."""
    async with asyncio.timeout(seconds):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


async def another_append(store: EventStore) -> None:
    """Wait for a whole append to another log, begun now: time enough for one begun before."""
    stream = await open_stream(store, "another")
    await stream.append(message("another"), EventSource.USER)
    await stream.close()
