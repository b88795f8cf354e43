"""Claims of several servers over one schema: one holds a loop, and users have so many and no more."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from events.conformance.records import append, records
from events.errors import Fenced
from events.fence import Fence
from events.stores.postgres.store import PostgresEventStore
from server.cluster.claims import ClusterClaims
from server.cluster.membership import Membership
from server.conversations.claims import Gone, Held, HeldBy, Waits
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.database.postgres import Role
from storage.database.postgres_database import PostgresDatabase
from tests.support.postgres import ask, open_postgres, other_transaction, schema_of
from tests.support.waiting import until

SLOTS = 2


class World:
    """Servers over one schema, the first of which writes records and logs."""

    def __init__(self, pools, members):
        self.members = members
        self._pools = pools
        self.claims = [
            ClusterClaims(pool, member, slots=SLOTS)
            for pool, member in zip(pools, members, strict=True)
        ]
        self.events = PostgresEventStore(pools[0])
        self._records = DatabaseConversationStores(PostgresDatabase(pools[0]), indexed=False)

    async def create(self, *names, user_id=None):
        for name in names:
            record = ConversationMetadata(conversation_id=name, user_id=user_id)
            await self._records.for_user(user_id).save_metadata(record)

    async def declare_dead(self, number):
        """Declare a server dead, as another one does that has not heard of it for a lease."""
        dead = self.members[number].incarnation
        await self._pools[-1].fetch(Role.RECORD, "leave_node", dead)

    async def append(self, name, start, fence):
        await append(self.events, name, records(start, start + 1), fence=fence)


def member(pool, name, lease_seconds=1_000.0):
    return Membership(pool, name=name, url=None, version="1", lease_seconds=lease_seconds)


@asynccontextmanager
async def world(folder, names=("one", "two")):
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(open_postgres(folder)) for _ in names]
        members = [
            await stack.enter_async_context(member(pool, name))
            for pool, name in zip(pools, names, strict=True)
        ]
        made = World(pools, members)
        stack.push_async_callback(made.events.close)
        yield made


async def test_one_server_holds_a_loop_until_it_gives_it_back(tmp_path):
    async with world(tmp_path) as of:
        await of.create("c")
        one, two = of.claims
        first = await one.claim("c", None, has_work=True)
        again = await one.claim("c", None, has_work=True)
        refused = await two.claim("c", None, has_work=True)
        await two.release("c")
        still = await two.claim("c", None, has_work=True)
        await one.release("c")
        at_last = await two.claim("c", None, has_work=True)

    holder, other = (one.incarnation for one in of.members)
    assert (first, again) == (Held(Fence(1, holder)), Held(Fence(2, holder)))
    assert refused == still == HeldBy("one")
    assert at_last == Held(Fence(3, other))


async def test_a_user_has_exactly_so_many_loops_however_many_servers_claim_at_once(tmp_path):
    names = [f"c{number}" for number in range(8)]
    async with world(tmp_path) as of:
        await of.create(*names, user_id="ann")
        await of.create("other", user_id="bob")
        claimed = await asyncio.gather(
            *(
                of.claims[number % 2].claim(name, "ann", has_work=True)
                for number, name in enumerate(names)
            )
        )
        held = [number for number, one in enumerate(claimed) if isinstance(one, Held)]
        others = await of.claims[0].claim("other", "bob", has_work=True)
        in_line = await of.claims[1].waiting_users()
        await of.claims[held[0] % 2].release(names[held[0]])
        waiting = next(number for number in range(8) if number not in held)
        after = await of.claims[waiting % 2].claim(names[waiting], "ann", has_work=True)

    assert len(held) == SLOTS
    assert claimed.count(Waits()) == len(names) - SLOTS
    assert isinstance(others, Held)
    assert in_line == {"ann"}
    assert isinstance(after, Held)


async def test_what_was_deleted_or_never_there_cannot_be_claimed(tmp_path):
    async with world(tmp_path) as of:
        await of.create("c")
        await of.events.delete("c")

        assert await of.claims[0].claim("c", None, has_work=True) == Gone()
        assert await of.claims[0].claim("unknown", None, has_work=True) == Gone()
        assert await of.claims[0].every_loop() == []


async def test_loops_of_a_dead_server_are_taken_over_and_it_writes_nothing_more(tmp_path):
    async with world(tmp_path) as of:
        one, two = of.claims
        await of.create("working", "resting")
        before = await one.claim("working", None, has_work=True)
        await one.claim("resting", None, has_work=False)
        await of.append("working", 0, before.fence)
        nothing = await two.take_over(20)
        await of.declare_dead(0)
        shown = await two.every_loop()
        (first,) = await two.take_over(1)
        (second,) = await two.take_over(20)
        dead = await one.claim("working", None, has_work=True)
        with pytest.raises(Fenced):
            await of.append("working", 1, before.fence)
        after = await two.claim("working", None, has_work=True)
        await of.append("working", 1, after.fence)

    assert nothing == []
    assert [row.node for row in shown] == [None, None]
    assert [(row.conversation_id, row.working) for row in (first, second)] == [
        ("working", True),
        ("resting", False),
    ]
    assert dead == Waits()
    assert after.fence == Fence(before.fence.number + 2, of.members[1].incarnation)


async def test_a_server_that_is_dead_takes_over_nothing(tmp_path):
    async with world(tmp_path) as of:
        await of.create("c")
        await of.claims[1].claim("c", None, has_work=True)
        await of.declare_dead(1)
        await of.declare_dead(0)

        assert await of.claims[0].take_over(20) == []


async def test_what_stands_in_line_for_a_dead_server_leaves_the_line(tmp_path):
    async with world(tmp_path) as of:
        one, two = of.claims
        await of.create("a", "b", "c", user_id="ann")
        for name in ("a", "b"):
            await two.claim(name, "ann", has_work=True)
        assert await one.claim("c", "ann", has_work=True) == Waits()
        await of.declare_dead(0)

        assert [row.conversation_id for row in await two.take_over(20)] == ["c"]
        assert await two.loop_of("c") is None


async def test_a_server_is_asked_to_stop_a_loop_and_what_waits_leaves_the_line(tmp_path):
    async with world(tmp_path) as of:
        one, two = of.claims
        await of.create("a", "b", "c", user_id="ann")
        for name in ("a", "b", "c"):
            await one.claim(name, "ann", has_work=True)
        for name in ("a", "c"):
            await two.ask_to_stop(name)

        assert await one.asked_to_stop() == ["a"]
        assert await two.asked_to_stop() == []
        assert await two.loop_of("c") is None
        await one.release("a")
        assert await one.asked_to_stop() == []


async def test_lists_show_the_loops_of_a_user_with_who_holds_them(tmp_path):
    async with world(tmp_path) as of:
        one, two = of.claims
        await of.create("a", user_id="ann")
        await of.create("b", user_id="bob")
        await of.create("c")
        for claims, name, user_id in ((one, "a", "ann"), (two, "b", "bob"), (two, "c", None)):
            await claims.claim(name, user_id, has_work=True)

        (row,) = await two.loops_of("ann", None)
        assert (row.conversation_id, row.node, row.here, row.waits) == ("a", "one", False, False)
        assert [one.conversation_id for one in await two.loops_of(None, None)] == ["c"]
        assert await two.loops_of("ann", {"b"}) == []
        assert await two.loops_of("ann", set()) == []
        assert [one.conversation_id for one in await one.every_loop()] == ["a", "b", "c"]
        assert (await two.loop_of("b")).here


async def test_a_loop_that_could_not_be_given_back_is_given_back_later(tmp_path):
    async with world(tmp_path, ("one",)) as of, open_postgres(tmp_path) as pool:
        await of.create("c")
        async with member(pool, "two", lease_seconds=2.0) as two:
            claims = ClusterClaims(pool, two, slots=SLOTS)
            await claims.claim("c", None, has_work=True)
            pool.refusal = "no writes for now"
            await claims.release("c")
            held = await of.claims[0].claim("c", None, has_work=True)
            pool.refusal = None
            await until(partial(is_free, of.claims[0]))

    assert held == HeldBy("two")


async def test_a_loop_that_is_claimed_anew_meanwhile_is_not_given_back_later(tmp_path):
    async with world(tmp_path, ("one",)) as of, open_postgres(tmp_path) as pool:
        await of.create("b", "c")
        async with member(pool, "two") as two:
            claims = ClusterClaims(pool, two, slots=SLOTS)
            for name in ("c", "b"):
                await claims.claim(name, None, has_work=True)
            pool.refusal = "no writes for now"
            for name in ("c", "b"):
                await claims.release(name)
            pool.refusal = None
            async with locked_loop(tmp_path, "c") as blocks:
                giving_back = asyncio.create_task(two.on_beat())
                await until(blocks)
                anew = await claims.claim("b", None, has_work=True)
            await giving_back
            kept = await of.claims[0].claim("b", None, has_work=True)
            assert await is_free(of.claims[0])

    assert anew == Held(Fence(2, two.incarnation))
    assert kept == HeldBy("two")


async def test_a_server_says_that_it_lives_while_a_loop_cannot_be_given_back(tmp_path):
    async with open_postgres(tmp_path) as pool, member(pool, "one", lease_seconds=1.0) as one:
        of = World([pool], [one])
        await of.create("c")
        await of.claims[0].claim("c", None, has_work=True)
        async with locked_loop(tmp_path, "c") as blocks:
            pool.refusal = "no writes for now"
            await of.claims[0].release("c")
            pool.refusal = None
            await until(blocks)
            before = (await pool.fetch(Role.READ, "living_nodes"))[0][1]

            async def beats():
                return (await pool.fetch(Role.READ, "living_nodes"))[0][1] > before + 2

            await until(beats)
        await until(partial(is_free, of.claims[0]))
        await of.events.close()


@asynccontextmanager
async def locked_loop(folder, name):
    """Lock a loop's row meanwhile; yield what tells whether somebody waits for it."""
    lock = "SELECT FROM parley.loops WHERE conversation_id = $1 FOR UPDATE"
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))"
    async with (
        schema_of(folder) as schema,
        other_transaction(lock, name, schema=schema) as connection,
    ):
        pid = await connection.fetchval("SELECT pg_backend_pid()")

        async def blocks():
            return bool(await ask(waiting, pid))

        yield blocks


async def is_free(claims):
    return await claims.loop_of("c") is None
