"""Servers say that they live, and declare those dead that do so no more."""

import asyncio
import time

import pytest

from server.agent.lease import LeaseLost
from server.cluster.membership import Load, Membership
from storage.database.postgres import Role
from tests.support.postgres import open_postgres, postgres_server
from tests.support.waiting import until

LEASE_SECONDS = 1.0


class Watched:
    """Counts who was declared dead."""

    def __init__(self):
        self.others = 0
        self.own = 0

    def node_died(self):
        self.others += 1

    async def declared_dead(self):
        self.own += 1


def member(pool, name, tell=Load):
    url = f"http://{name}"
    return Membership(pool, name=name, url=url, version="1", lease_seconds=LEASE_SECONDS, tell=tell)


def names(membership):
    return [one.name for one in membership.members]


async def test_servers_see_each_other_until_one_leaves(tmp_path):
    load = Load(loops=3, connections=2, draining=True, hears=True)
    async with (
        open_postgres(tmp_path) as pool,
        open_postgres(tmp_path) as other,
        member(pool, "one") as one,
    ):
        watched = Watched()
        one.watch(watched)
        async with member(other, "two", tell=lambda: load):
            await until(lambda: names(one) == ["one", "two"] and one.members[1].beat > 1)
            two = one.members[1]
        await until(lambda: names(one) == ["one"])

    assert (two.url, two.version, two.load) == ("http://two", "1", load)
    assert watched.others == 0


async def test_a_server_that_says_nothing_for_a_lease_is_declared_dead_once(tmp_path):
    async with open_postgres(tmp_path) as pool, open_postgres(tmp_path) as other:
        began = time.monotonic()
        await pool.fetch(Role.RECORD, "enter_node", 1, "silent", None, "1", 1, 1)
        watchers = Watched(), Watched()
        async with member(pool, "one") as one, member(other, "two") as two:
            for membership, watched in zip((one, two), watchers, strict=True):
                membership.watch(watched)
            await until(lambda: names(one) == names(two) == ["one", "two"])
            took = time.monotonic() - began

    assert [one.own for one in watchers] == [0, 0]
    assert sum(one.others for one in watchers) == 1
    assert LEASE_SECONDS < took < LEASE_SECONDS + 2.0


async def test_a_server_that_was_declared_dead_loses_its_lease_and_begins_anew(tmp_path):
    async with (
        open_postgres(tmp_path) as pool,
        open_postgres(tmp_path) as other,
        member(pool, "one") as one,
    ):
        watched = Watched()
        one.watch(watched)
        before = one.incarnation
        assert one.holds()
        await other.fetch(Role.RECORD, "leave_node", before)
        await until(lambda: watched.own)
        await until(one.holds)

        assert one.incarnation != before


async def test_a_storage_that_is_away_takes_the_lease_and_kills_nobody(tmp_path):
    server = postgres_server()
    async with (
        open_postgres(tmp_path, deadline_seconds=0.3) as pool,
        open_postgres(tmp_path, deadline_seconds=0.3) as other,
        member(pool, "one") as one,
        member(other, "two") as two,
    ):
        watchers = Watched(), Watched()
        for membership, watched in zip((one, two), watchers, strict=True):
            membership.watch(watched)
        incarnations = one.incarnation, two.incarnation
        server.freeze()
        try:
            await until(lambda: not one.holds() and not two.holds())
            waiting = asyncio.create_task(one.held())
            await asyncio.wait([waiting], timeout=2 * LEASE_SECONDS)
            assert not waiting.done()
        finally:
            server.thaw()
        await waiting
        await until(two.holds)

        assert (one.incarnation, two.incarnation) == incarnations
    assert [(one.own, one.others) for one in watchers] == [(0, 0), (0, 0)]


async def test_who_waits_for_a_lease_is_told_that_it_is_lost(tmp_path):
    async with (
        open_postgres(tmp_path, deadline_seconds=0.3) as pool,
        open_postgres(tmp_path) as other,
        member(pool, "one") as one,
    ):
        pool.refusal = "cut off"
        await until(lambda: not one.holds())
        waiting = asyncio.create_task(one.held())
        await other.fetch(Role.RECORD, "leave_node", one.incarnation)
        pool.refusal = None
        with pytest.raises(LeaseLost):
            await waiting
