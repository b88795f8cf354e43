"""Appends around everything that joining, replay and going live await, over real sockets."""

import asyncio
from collections import Counter

import pytest

from events.stores.memory import MemoryEventStore
from storage.conversations.memory import MemoryConversations
from tests.support.checker import Counts
from tests.support.hooked import POINTS, HookedConversationStores, HookedEventStore
from tests.support.live import live_server
from tests.support.race import CLIENTS, Race

SEEDS = 500
AT_ONCE = 8
BLOCK = 50
CACHES = (0, 64 * 1024 * 1024)


@pytest.mark.parametrize("first_seed", range(0, SEEDS, BLOCK))
async def test_whatever_is_appended_meanwhile_comes_once_and_in_order(first_seed, record_property):
    races: dict[str, Race] = {}

    async def hook(point: str, conversation_id: str) -> None:
        if conversation_id in races:
            await races[conversation_id].at(point)

    counts, placed, failed = Counts(), Counter[str](), dict[int, BaseException]()
    inner = MemoryEventStore()
    turn = asyncio.Semaphore(AT_ONCE)
    async with live_server(
        events=HookedEventStore(inner, hook),
        conversations=HookedConversationStores(MemoryConversations(), hook),
        page_size=4,
        page_cache_bytes=CACHES[first_seed // BLOCK % len(CACHES)],
        max_concurrent_conversations=SEEDS,
    ) as live:

        async def race(seed: int) -> None:
            async with turn:
                one = Race(inner, seed, counts, placed)
                races[one.conversation_id] = one
                try:
                    await one.run(live)
                except (AssertionError, TimeoutError) as error:
                    failed[seed] = error
                del races[one.conversation_id]

        await asyncio.gather(*(race(seed) for seed in range(first_seed, first_seed + BLOCK)))

    around = ", ".join(f"{point} {placed[point]}" for point in POINTS)
    record_property("figures", f"{counts}; placed at {around}")
    assert not failed, f"seeds that failed: {failed!r}"
    assert counts.appended >= BLOCK * 20
    assert counts.delivered >= BLOCK * CLIENTS * 10
    assert counts.reconnected >= BLOCK
    assert counts.collapsed >= BLOCK
    assert all(placed[point] >= BLOCK // 25 for point in POINTS), placed
