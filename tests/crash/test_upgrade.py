"""A newer version over the same PostgreSQL and back: what was written stays, what cannot work says so."""

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE

import pytest
from pydantic import SecretStr

from events.stores.opening import storage_problems
from storage.config import PostgresStorage
from storage.database.migrate import load_migrations
from storage.database.migrate_postgres import POSTGRES_MIGRATIONS
from tests.support.postgres import SECRET_KEY, ask, postgres_server
from tests.support.remote import remote
from tests.support.servers import REPOSITORY, environment_of, server_process

SCHEMA = "parley_upgraded"
KNOWN = len(load_migrations(POSTGRES_MIGRATIONS))
WIDER, NARROWER = f"{KNOWN + 1:04}_wider.sql", f"{KNOWN + 2:04}_narrower.sql"
MORE = {
    WIDER: "-- kind: expand\nALTER TABLE parley.heads ADD COLUMN wider integer NOT NULL DEFAULT 1;",
    NARROWER: "-- kind: contract\nALTER TABLE parley.heads DROP COLUMN wider;",
}


@pytest.fixture
def newer(tmp_path):
    """The tree of a version that differs from this one by two migrations."""
    tree = tmp_path / "newer"
    shutil.copytree(
        REPOSITORY / "storage", tree / "storage", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(REPOSITORY / "parley_main.py", tree)  # it looks for the packages beside itself
    for name in ("events", "runtime_stub", "server"):
        (tree / name).symlink_to(REPOSITORY / name)
    for name, text in MORE.items():
        (tree / "storage" / "database" / "migrations" / "postgres" / name).write_text(text)
    return tree


@pytest.fixture
async def environment():
    url = postgres_server().url
    yield environment_of(
        storage="postgres", database_url=url, database_schema=SCHEMA, secret_key=SECRET_KEY
    )
    await ask(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


async def parley(tree, environment, *arguments):
    """The exit code and the output of a command of the version in a tree."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | environment | {"PARLEY_LOG_LEVEL": "error"},
        cwd=tree,
    )
    printed, told = await process.communicate()
    return process.returncode, printed.decode(), told.decode()


async def test_a_newer_version_and_back_over_one_schema_until_what_is_missing_is_taken_away(
    tmp_path, newer, environment
):
    conversation_id = None
    for tree in (REPOSITORY, newer, REPOSITORY):
        async with (
            server_process(tmp_path / "data", environment=environment, tree=tree) as server,
            remote(server.url) as api,
        ):
            conversation_id = conversation_id or await api.create()
            before = await api.log(conversation_id)
            text = f"said to {tree.name}"
            answer = await api.say(conversation_id, text, f"{len(before)}")
            assert answer.status_code == 200, answer.text
            log = await api.log(conversation_id)
            assert log[: len(before)] == before
            assert text in str(log[len(before) :])
    applied = await ask(
        "SELECT name FROM parley.migrations WHERE number > $1", KNOWN, schema=SCHEMA
    )
    assert [name for (name,) in applied] == [WIDER]
    config = PostgresStorage(
        url=SecretStr(postgres_server().url),
        secret_key=SecretStr(SECRET_KEY),
        schema_name=SCHEMA,
    )
    assert await asyncio.to_thread(storage_problems, config) == []

    migrated = await parley(newer, environment, "migrate", "--contract")
    refused = await parley(REPOSITORY, environment, "serve", "--port", "0")

    assert migrated[:2] == (0, f"migrate: {NARROWER}\n")
    assert refused[0] == 2
    assert refused[2] == f"parley: the database is from a newer version (migration {NARROWER})\n"
