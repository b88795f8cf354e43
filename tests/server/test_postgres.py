"""A server over PostgreSQL: its settings, what it loads, and that it serves as over other storages."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from server.cli import main
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from tests.support.postgres import postgres_settings
from tests.support.remote import server_over
from tests.support.servers import REPOSITORY

WORD = "a-word-to-be-seen-nowhere"
KEY = "a key of sixteen letters"


async def printed_by(script, *arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *arguments), cwd=REPOSITORY, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    return output.decode() + errors.decode()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"secret_key": KEY}, {"database_url": "PARLEY_DATABASE_URL"}),
        ({"database_url": "postgresql://h/d"}, {"secret_key": "PARLEY_SECRET_KEY"}),
        ({}, {"database_url": "scripts/postgres", "secret_key": "PARLEY_SECRET_KEY"}),
    ],
)
def test_postgresql_without_an_address_or_a_key_is_refused_with_how_to_get_one(settings, named):
    with pytest.raises(ConfigError) as refused:
        ServerConfig(storage_kind="postgres", **settings)

    problems = dict(refused.value.problems)
    assert problems.keys() == named.keys()
    assert all(remedy in problems[name] for name, remedy in named.items())


def test_the_command_says_in_one_line_how_to_get_an_address(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["serve", "--storage", "postgres"]) == 2

    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "postgresql://user:password@host:5432/name" in line


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ann:{WORD}@h/d",
        f"postgresql://ann:{WORD}/{WORD}@h/d",
        f"postgresql://ann:{WORD}@{WORD}@h/d",
        f"postgresql://ann:{WORD}#{WORD}@h/d",
        f"postgresql://ann:{WORD}?{WORD}@h/d",
        f"postgresql://h:{WORD}/d",
        f"postgresql://[{WORD}]/d",
        WORD,
    ],
)
def test_an_address_that_might_be_read_in_another_way_is_refused_and_not_quoted(url):
    for name in ("database_url", "database_direct_url"):
        settings: dict[str, Any] = {name: url}
        with pytest.raises(ConfigError, match=f"{name}: not an address such as") as refused:
            ServerConfig(**settings)
        assert WORD not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/d",
        "postgres://ann@h:5432/d",
        f"postgresql://ann:{WORD}%40%2F@a.example.org:1,[::1]:2/d?sslmode=verify-full",
        f"postgresql://ann:{WORD}@/d?host=/run/postgresql",
        f"postgresql:///?user=ann&password={WORD}",
    ],
)
def test_an_address_is_a_secret(url, monkeypatch, capsys):
    monkeypatch.setenv("PARLEY_DATABASE_URL", url)
    monkeypatch.setenv("PARLEY_DATABASE_DIRECT_URL", url)
    settings: dict[str, Any] = {"database_url": url, "database_direct_url": url, "secret_key": KEY}
    config = ServerConfig(storage_kind="postgres", **settings)

    assert main(["config"]) == 0

    shown = f"{capsys.readouterr().out}{config!r}{config.storage!r}{config.masked()}"
    assert WORD not in shown
    assert url not in shown


async def test_a_server_over_another_storage_loads_no_driver_of_postgresql(tmp_path):
    script = """
import asyncio, sys
from server.app import create_app
from server.config.settings import ServerConfig

async def open_one():
    async with create_app(ServerConfig(data_dir=sys.argv[1])):
        print(sorted(name for name in sys.modules if name.partition(".")[0] == "asyncpg"))

asyncio.run(open_one())
"""
    assert (await printed_by(script, str(tmp_path))).splitlines()[-1] == "[]"


async def test_without_the_driver_one_line_says_how_to_install_it():
    script = """
import sys
sys.modules["asyncpg"] = None
from server.cli import main
code = main(["serve", "--storage", "postgres"])
print(code)
"""
    script = f"import os; os.environ.update(PARLEY_DATABASE_URL='postgresql://h/d', PARLEY_SECRET_KEY='{KEY}')\n{script}"

    output = await printed_by(script)

    assert output.splitlines()[0] == "2"
    assert "--storage postgres needs the extra `postgres`" in output
    assert "Traceback" not in output


async def test_conversations_outlast_a_server_and_its_pooler(tmp_path):
    told = []
    for pooler in (False, True, False):
        async with (
            postgres_settings(tmp_path, pooler=pooler) as settings,
            server_over(tmp_path, "postgres", **settings) as (_, asked),
        ):
            conversation_id = await asked.create(f"hello {pooler}")
            await asked.post(conversation_id, {"action": "message", "args": {"content": "again"}})
            told.append(conversation_id)
            assert set(await asked.listed()) == set(told)
            for one in told:
                said = [
                    event["message"] for event in await asked.log(one) if event["source"] == "user"
                ]
                assert "again" in said
            report = (await asked.client.get("/api/admin/storage", params={"check": "true"})).json()
            assert (report["medium"], report["conversations"]) == ("postgres", len(told))
            assert report["integrity"]["text"] == "ok"
            assert (await asked.client.get("/ready")).status_code == 200
    assert not list(tmp_path.iterdir())
