"""Appends around everything that joining, replay and going live await, over real sockets."""

import asyncio
from collections import Counter

import pytest

from tests.support.backends import open_stores
from tests.support.checker import Counts
from tests.support.hooked import POINTS, HookedConversationStores, HookedEventStore
from tests.support.live import live_server
from tests.support.race import CLIENTS, Race

SEEDS = 500
AT_ONCE = 8
BLOCK = 50
PATIENCE_SECONDS = 300.0
CACHES = (0, 64 * 1024 * 1024)


BLOCKS = [("memory", range(first, first + BLOCK)) for first in range(0, SEEDS, BLOCK)]
BLOCKS += [(kind, range(BLOCK)) for kind in ("files", "sqlite", "local")]


@pytest.mark.parametrize(
    ("kind", "seeds"), BLOCKS, ids=lambda value: str(getattr(value, "start", value))
)
async def test_whatever_is_appended_meanwhile_comes_once_and_in_order(
    kind, seeds, tmp_path, record_property
):
    races: dict[str, Race] = {}

    async def hook(point: str, conversation_id: str) -> None:
        if conversation_id in races:
            await races[conversation_id].at(point)

    counts, placed, failed = Counts(), Counter[str](), dict[int, BaseException]()
    turn = asyncio.Semaphore(AT_ONCE)
    async with (
        open_stores(kind, tmp_path) as inner,
        live_server(
            events=HookedEventStore(inner.events, hook),
            conversations=HookedConversationStores(inner.conversations, hook),
            page_size=4,
            page_cache_bytes=CACHES[seeds.start // BLOCK % len(CACHES)],
            max_concurrent_conversations=SEEDS,
            # Deadlines have no part in the race; a loaded machine holds up the loop for seconds.
            append_deadline_seconds=PATIENCE_SECONDS,
            handshake_seconds=PATIENCE_SECONDS,
        ) as live,
    ):

        async def race(seed: int) -> None:
            async with turn:
                one = Race(inner.events, seed, counts, placed)
                races[one.conversation_id] = one
                try:
                    await one.run(live)
                except (AssertionError, TimeoutError) as error:
                    failed[seed] = error
                del races[one.conversation_id]

        await asyncio.gather(*(race(seed) for seed in seeds))

    around = ", ".join(f"{point} {placed[point]}" for point in POINTS)
    record_property("figures", f"{counts}; placed at {around}")
    assert not failed, f"seeds that failed: {failed!r}"
    assert counts.appended >= len(seeds) * 20
    assert counts.delivered >= len(seeds) * CLIENTS * 10
    assert counts.reconnected >= len(seeds)
    assert counts.collapsed >= len(seeds)
    assert all(placed[point] >= len(seeds) // 5 for point in POINTS), placed
