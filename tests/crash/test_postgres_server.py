"""PostgreSQL ended, refusing and frozen under a server that goes on: nothing acknowledged is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.support.clients import joined, message
from tests.support.frozen_postgres import does_not_answer, run_frozen
from tests.support.postgres import (
    SECRET_KEY,
    PostgresServer,
    as_own_role,
    ask,
    postgres_server,
    terminate_backends,
)
from tests.support.postgres_rounds import is_ready, run_postgres_rounds
from tests.support.remote import server_over
from tests.support.waiting import until

ROUNDS = 5
FILLED, MOST_FILLED = 20, 2_000
"""Messages before the disk is full, and until the last pages of it have long been used up."""
LONG = "x" * 1_500


async def test_whatever_ends_postgresql_nothing_acknowledged_is_lost_or_doubled_and_the_server_goes_on(
    tmp_path, record_property
):
    figures = await run_postgres_rounds(tmp_path, ROUNDS)

    record_property("figures", str(figures))
    assert figures.rounds == ROUNDS
    assert figures.acknowledged >= 60 * ROUNDS


@asynccontextmanager
async def frozen() -> AsyncIterator[None]:
    postgres_server().freeze()
    try:
        yield
    finally:
        postgres_server().thaw()


@asynccontextmanager
async def without_connections(role: str) -> AsyncIterator[None]:
    """PostgreSQL has ended the connections of a role, and refuses it new ones."""
    await ask(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    await terminate_backends()
    try:
        yield
    finally:
        await ask(f"ALTER ROLE {role} CONNECTION LIMIT -1")


@asynccontextmanager
async def ended() -> AsyncIterator[None]:
    server = postgres_server()
    await asyncio.to_thread(server.crash)
    try:
        yield
    finally:
        server.launch()
        await asyncio.to_thread(server.wait)


OUTAGES: dict[str, Callable[[str], AbstractAsyncContextManager[None]]] = {
    "frozen": lambda _: frozen(),
    "no connections": without_connections,
    "ended": lambda _: ended(),
}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_during_an_outage_appends_are_refused_clients_stay_and_all_is_well_after_it(
    outage, tmp_path, record_property
):
    async with (
        as_own_role(tmp_path) as (settings, role),
        server_over(tmp_path, "postgres", append_deadline_seconds=2, **settings) as (server, api),
    ):
        conversation_id = await api.create("hello")
        async with joined(server.url, conversation_id) as client:
            await client.event(lambda one: one.get("message") == "You said: hello")
            async with OUTAGES[outage](role):
                await until(lambda: does_not_answer(api))
                began = time.monotonic()
                refused = await api.say(conversation_id, "message one", "one")
                took = time.monotonic() - began
                assert (await api.client.get("/alive")).status_code == 200
            began = time.monotonic()
            await until(lambda: is_ready(api))
            back = time.monotonic() - began
            # Under the key of what was refused, so that it is in the log once.
            assert (await api.say(conversation_id, "message one", "one")).status_code == 200
            await client.event(lambda one: one.get("message") == "You said: message one")
            log = await api.log(conversation_id)
            assert client.disconnects == []
            assert client.ids == sorted(set(client.ids))

    assert refused.status_code == 503, refused.text
    assert [one.get("client_id") for one in log].count("one") == 1
    assert [one["id"] for one in log] == list(range(len(log)))
    record_property("figures", f"refused after {took:.1f} s, ready again after {back:.1f} s")


async def test_while_postgresql_is_frozen_clients_and_requests_read_on_from_memory(
    tmp_path, record_property
):
    figures = await run_frozen(tmp_path, 0)

    record_property("figures", str(figures))
    assert figures.refused
    assert figures.reads


@pytest.fixture
def small():
    """A PostgreSQL on a disk that can be filled."""
    server = PostgresServer(disk_megabytes=192)
    try:
        server.start()
        server.create()
        yield server
    finally:
        server.remove()


async def test_on_a_full_disk_appends_are_refused_as_such_and_with_room_all_goes_on(
    small, tmp_path, record_property
):
    settings = {"database_url": small.url, "secret_key": SECRET_KEY}
    acknowledged = []
    async with server_over(tmp_path, "postgres", **settings) as (server, api):
        conversation_id = await api.create("hello")
        async with joined(server.url, conversation_id) as client:
            await client.event(lambda one: one.get("message") == "You said: hello")
            for number in range(FILLED):
                assert (await api.say(conversation_id, "short", f"k{number}")).status_code == 200
                acknowledged.append(f"k{number}")
            await small.begin_a_segment()
            small.disk.fill()
            for number in range(FILLED, MOST_FILLED):
                refused = await api.say(conversation_id, LONG, f"k{number}")
                if refused.status_code != 200:
                    break
                acknowledged.append(f"k{number}")
            told = await client.send(message(f"on a full disk {LONG}"))
            during = await api.log(conversation_id)
            small.disk.make_room()
            await until(lambda: is_ready(api))
            key = f"k{len(acknowledged)}"
            # Under the key of what was refused, so that it is in the log once.
            assert (await api.say(conversation_id, LONG, key)).status_code == 200
            log = await api.log(conversation_id)
            await client.until(lambda one: one.cursor >= log[-1]["id"])
            assert client.disconnects == []
            assert client.ids == sorted(set(client.ids))

    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
    assert told["code"] == "storage_full"
    for found, keys in ((during, acknowledged), (log, [*acknowledged, key])):
        assert [one["id"] for one in found] == list(range(len(found)))
        assert [one["client_id"] for one in found if "client_id" in one] == keys
    assert "PANIC" not in small.log
    record_property("figures", f"{len(acknowledged)} acknowledged on a full disk")
