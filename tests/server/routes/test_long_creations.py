"""Long bodies are made into conversations a few at a time, as what is made of them is larger still."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from httpx import ASGITransport, AsyncClient

from events.stores.memory import MemoryEventStore
from server.routes.creation import LONG_AT_ONCE, LONG_BODY, LONG_OF_A_USER
from storage.keyed_locks import KeyedSlots
from tests.support.hooked import HookedEventStore
from tests.support.live import live_server
from tests.support.rest import EVERY
from tests.support.waiting import WAIT_SECONDS, until

AUTH = "tests.support.extensions:HeaderAuth"


class Creations:
    """Conversations of some users; those with a long body wait at the log for the gate."""

    client: AsyncClient

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.gate = asyncio.Event()

    async def hook(self, point, conversation_id):
        if point == "append.before" and conversation_id.startswith("long"):
            self.inside.add(conversation_id)
            await self.gate.wait()

    async def create(self, name, user, text="hello"):
        """Create one; the status of the answer."""
        body = {"conversation_id": name, "initial_user_msg": text}
        answer = await self.client.post(EVERY, json=body, headers={"x-forwarded-user": user})
        return answer.status_code

    def create_long(self, user, count):
        """Begin to create some with a long body."""
        return [
            asyncio.create_task(self.create(f"long-{user}-{one}", user, "x" * LONG_BODY))
            for one in range(count)
        ]


@asynccontextmanager
async def creations():
    """A server that creates them."""
    made = Creations()
    store = HookedEventStore(MemoryEventStore(), made.hook)
    async with live_server(
        events=store, allow_set_conversation_id=True, user_auth_class=AUTH
    ) as live:
        transport = ASGITransport(live.application.asgi)
        async with AsyncClient(transport=transport, base_url=live.url) as made.client:
            yield made


async def test_a_few_long_bodies_are_worked_on_at_one_time_and_short_ones_do_not_wait():
    async with creations() as made:
        long = [one for user in ("ann", "bob", "eve") for one in made.create_long(user, 3)]
        await until(lambda: len(made.inside) == LONG_AT_ONCE)
        short = [await made.create(f"short{number}", "ann") for number in range(3)]

        assert short == [200] * 3
        assert len(made.inside) == LONG_AT_ONCE
        made.gate.set()
        assert await asyncio.gather(*long) == [200] * len(long)
        assert len(made.inside) == len(long)


async def test_long_bodies_of_one_user_keep_no_other_user_waiting():
    async with creations() as made:
        long = made.create_long("ann", 2 * LONG_AT_ONCE)
        await until(lambda: len(made.inside) == LONG_OF_A_USER)
        long += made.create_long("bob", 1)
        await until(lambda: "long-bob-0" in made.inside)

        assert len(made.inside) == LONG_OF_A_USER + 1
        made.gate.set()
        assert await asyncio.gather(*long) == [200] * len(long)


async def test_a_slot_is_waited_for_with_a_deadline_and_is_free_again_after_its_block():
    slots: KeyedSlots[str] = KeyedSlots(2, 1)
    async with slots.of("ann", WAIT_SECONDS):
        with pytest.raises(TimeoutError):
            async with slots.of("ann", 0.01):
                pass
        async with slots.of("bob", WAIT_SECONDS):
            with pytest.raises(TimeoutError):
                async with slots.of("eve", 0.01):
                    pass
    async with slots.of("ann", WAIT_SECONDS), slots.of("eve", WAIT_SECONDS):
        pass
