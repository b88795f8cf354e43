"""Long bodies are made into conversations a few at a time, as what is made of them is larger still."""

import asyncio

from httpx import ASGITransport, AsyncClient

from events.stores.memory import MemoryEventStore
from server.routes.creation import LONG_AT_ONCE, LONG_BODY
from tests.support.hooked import HookedEventStore
from tests.support.live import live_server
from tests.support.rest import EVERY
from tests.support.waiting import until


async def test_a_few_long_bodies_are_worked_on_at_one_time_and_short_ones_do_not_wait():
    inside, gate = set(), asyncio.Event()

    async def hook(point, conversation_id):
        if point == "append.before" and conversation_id.startswith("long"):
            inside.add(conversation_id)
            await gate.wait()

    store = HookedEventStore(MemoryEventStore(), hook)
    async with live_server(events=store, allow_set_conversation_id=True) as live:
        transport = ASGITransport(live.application.asgi)
        async with AsyncClient(transport=transport, base_url=live.url) as client:

            async def create(name, text):
                body = {"conversation_id": name, "initial_user_msg": text}
                return (await client.post(EVERY, json=body)).status_code

            long = [
                asyncio.create_task(create(f"long{number}", "x" * LONG_BODY))
                for number in range(2 * LONG_AT_ONCE)
            ]
            await until(lambda: len(inside) == LONG_AT_ONCE)
            short = [await create(f"short{number}", "hello") for number in range(3)]

            assert short == [200] * 3
            assert len(inside) == LONG_AT_ONCE
            gate.set()
            assert await asyncio.gather(*long) == [200] * len(long)
            assert len(inside) == len(long)
