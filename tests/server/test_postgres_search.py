"""Full-text search in PostgreSQL: a server that keeps its index there, and the commands that make it anew."""

import asyncio

import pytest

from server.cli import main
from tests.support.postgres import ask, postgres_settings, rows_of
from tests.support.remote import process_over, server_over
from tests.support.waiting import until

ROUNDS, MESSAGES = 3, 8
COUNT = "SELECT count(*) FROM parley.search_entries"


async def conversations_with(asked, text, **more):
    answer = await asked.client.get(
        "/api/search", params={"q": text, "limit": 100, "source": "user"} | more
    )
    assert answer.status_code == 200, answer.text
    return [one["conversation_id"] for one in answer.json()["results"]]


async def finds(asked, text, expected):
    return sorted(await conversations_with(asked, text)) == sorted(expected)


@pytest.fixture
def command(monkeypatch):
    """Run a command of the command line over a storage in PostgreSQL; its exit code."""

    async def run(settings, *arguments):
        for name, value in settings.items():
            monkeypatch.setenv(f"PARLEY_{name.upper()}", value)
        return await asyncio.to_thread(main, [*arguments, "--storage", "postgres"])

    return run


async def test_what_is_said_is_found_without_a_directory_and_not_after_its_deletion(tmp_path):
    async with (
        postgres_settings(tmp_path) as settings,
        server_over(tmp_path, "postgres", **settings) as (_, asked),
    ):
        first = await asked.create("a zebra at the Café")
        second = await asked.create("another zebra")
        await until(lambda: finds(asked, "zebra", [first, second]))

        assert await conversations_with(asked, "ZEBRA cafe") == [first]
        assert await conversations_with(asked, "zebra", conversation_id=second) == [second]
        await asked.delete(first)
        assert await conversations_with(asked, "zebra") == [second]
        await until(lambda: finds(asked, "cafe", []))

    assert not list(tmp_path.iterdir())


async def test_a_server_without_full_text_search_keeps_no_index(tmp_path):
    async with (
        postgres_settings(tmp_path) as settings,
        server_over(tmp_path, "postgres", full_text_search=False, **settings) as (_, asked),
    ):
        await asked.create("a zebra")
        answer = await asked.client.get("/api/search", params={"q": "zebra"})

    assert (answer.status_code, answer.json()["code"]) == (501, "not_supported")


async def test_what_was_acknowledged_before_a_kill_is_found_once_after_it(tmp_path):
    said: list[str] = []
    async with postgres_settings(tmp_path) as settings:
        for number in range(ROUNDS):
            async with process_over(tmp_path, storage="postgres", **settings) as running:
                server, asked = running
                for message in range(MESSAGES):
                    said.append(await asked.create(f"zebra {number} {message}"))
                    if message == MESSAGES // 2:
                        # Some of it is in the index when the server dies, some is not.
                        await conversations_with(asked, "zebra")
                await server.kill()
        async with server_over(tmp_path, "postgres", **settings) as (_, asked):
            await until(lambda: finds(asked, "zebra", said))


async def test_reindex_makes_an_index_that_is_wrong_anew(tmp_path, command, capsys):
    async with postgres_settings(tmp_path) as settings:
        async with server_over(tmp_path, "postgres", **settings) as (_, asked):
            conversation_id = await asked.create("a zebra")
            await until(lambda: finds(asked, "zebra", [conversation_id]))
        schema = settings["database_schema"]
        await ask("UPDATE parley.search_entries SET words = ' gone '", schema=schema)
        async with server_over(tmp_path, "postgres", **settings) as (_, asked):
            assert await conversations_with(asked, "zebra") == []

        assert await command(settings, "reindex") == 0

        assert capsys.readouterr().out.endswith("reindex: 1 conversations\n")
        async with server_over(tmp_path, "postgres", **settings) as (_, asked):
            assert await conversations_with(asked, "zebra") == [conversation_id]


@pytest.mark.parametrize("erasure", [("--anonymous",), ("--deleted",)])
async def test_an_erasure_leaves_no_word_in_the_index(tmp_path, command, erasure):
    async with postgres_settings(tmp_path) as settings:
        async with server_over(tmp_path, "postgres", **settings) as (_, asked):
            conversation_id = await asked.create("a zebra")
            await until(lambda: finds(asked, "zebra", [conversation_id]))
        assert b" zebra " in await rows_of(tmp_path)

        assert await command(settings, "erase", *erasure) == 0

        assert b" zebra " not in await rows_of(tmp_path)
        assert (await ask(COUNT, schema=settings["database_schema"]))[0][0] == 0
