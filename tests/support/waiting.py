"""Waits for what no event of its own announces."""

import asyncio
from collections.abc import Callable
from inspect import isawaitable

from events.event import EventSource
from events.stores.base import EventStore
from tests.support.streams import message, open_stream

WAIT_SECONDS = 5.0
LOOK_SECONDS = 0.005


async def until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition, which may be awaited, holds; the loop rests between two looks."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if isawaitable(holds) else holds:
                return
            looks = loop.create_future()
            timer = loop.call_later(LOOK_SECONDS, looks.set_result, None)
            try:
                await looks
            finally:
                timer.cancel()


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
