"""The operating guide: its examples work as they stand there, and its lists are complete."""

import asyncio
import configparser
import re
import shutil
import sqlite3
import tomllib
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from httpx import ASGITransport

from server.app import create_app
from server.cli import main
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.observability import readiness
from server.process.runner import listen
from storage.errors import DataDirectoryLocked, MigrationError, Unavailable, WrongKey
from tests.support.guide import PAGE, shown
from tests.support.rest import rest_server
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

ROOT = Path(__file__).parents[2]
KEY = "0123456789-a-session-key"
WRITERS = 8


async def run(lines, folder):
    """Run lines of the guide in a folder in which `.venv` and `scripts` are the repository's."""
    for name in (".venv", "scripts"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    process = await asyncio.create_subprocess_exec(
        "sh", "-e", "-c", lines, stdout=PIPE, stderr=PIPE, cwd=folder
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@asynccontextmanager
async def asked(**settings):
    """A client of a server in this process."""
    async with create_app(ServerConfig(**settings)) as application:
        transport = ASGITransport(application.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield http


async def test_a_backup_made_under_load_holds_a_whole_prefix_of_every_log(tmp_path):
    data = tmp_path / "parley-data"
    async with (
        server_process(data) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):
        await http.post("/api/secrets", json={"name": "TOKEN", "value": "a-secret-value"})
        created = [await http.post("/api/conversations", json={}) for _ in range(WRITERS)]
        ids = [one.json()["conversation_id"] for one in created]
        begun = asyncio.Event()
        writing = [asyncio.create_task(keep_writing(http, one, begun)) for one in ids]
        await begun.wait()
        await run(shown("sh", "source.backup(copy)"), tmp_path)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        whole = {one: await log_of(http, one) for one in ids}
        await server.stop()

    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    await run(shown("sh", "mv parley-data damaged-data"), tmp_path)
    async with asked(data_dir=data) as http:
        kept = {one: await log_of(http, one) for one in ids}
        secrets = (await http.get("/api/secrets")).json()

    assert any(kept.values())
    assert kept == {one: whole[one][: len(kept[one])] for one in ids}
    assert [one["name"] for one in secrets["custom_secrets"]] == ["TOKEN"]


async def keep_writing(http, conversation_id, begun):
    """Say something again and again; `begun` when the tenth is stored."""
    path = f"/api/conversations/{conversation_id}/message"
    for number in range(100_000):
        answer = await http.post(path, json={"message": f"number {number}"})
        assert answer.status_code == 200
        if number == 10:
            begun.set()


async def log_of(http, conversation_id):
    """The messages of the user, in order."""
    answer = await http.get(f"/api/conversations/{conversation_id}/trajectory")
    events = orjson.loads(answer.content)["trajectory"]
    return [(one["id"], one["message"]) for one in events if one["source"] == "user"]


async def test_files_are_copied_and_brought_back(tmp_path):
    local = {"data_dir": tmp_path / "parley-data", "storage_kind": "local"}
    (tmp_path / "parley.toml").write_text('storage = "local"')
    async with asked(**local) as http:
        created = await http.post("/api/conversations", json={"initial_user_msg": "hello"})
        one = created.json()["conversation_id"]

    await run(shown("sh", "cp -a parley-data backup"), tmp_path)
    shutil.rmtree(tmp_path / "parley-data")
    (tmp_path / "parley-data").mkdir()
    await run(shown("sh", "mv parley-data damaged-data"), tmp_path)

    async with asked(**local) as http:
        assert "hello" in [text for _, text in await log_of(http, one)]


async def test_the_check_names_damage_and_ends_with_1(tmp_path):
    lines = PAGE.split("## Damage")[1].split("```sh\n")[1].split("```")[0]
    (tmp_path / "parley-data").mkdir()
    (tmp_path / "parley-data" / "parley.sqlite3").write_bytes(b"no database")

    output = await run(lines.strip() + " || test $? = 1", tmp_path)

    assert "storage: parley.sqlite3 cannot be read" in output


async def test_a_key_that_is_made_is_long_and_random(tmp_path):
    lines = shown("sh", "token_urlsafe")

    first, second = [(await run(lines, tmp_path)).strip() for _ in range(2)]

    assert len(first) >= 43
    assert first != second


async def test_the_addresses_to_watch_answer(tmp_path):
    async with server_process(tmp_path / "data") as server:
        lines = shown("sh", "/ready").replace("http://127.0.0.1:3000", server.url)

        output = await run(lines, tmp_path)

    assert output.count('{"status":"ok"}') == 2
    assert "\nparley_events_appended_total 0.0" in output.replace("}", "}\n")


def test_the_service_starts_what_there_is_and_may_write_where_it_keeps_its_data():
    unit = configparser.ConfigParser(strict=False)
    unit.read_string(shown("ini", "[Service]"))
    service = unit["Service"]
    settings = tomllib.loads(shown("toml", "data_dir"))

    _, command, *options = service["ExecStart"].split()

    assert (command, options[0]) == ("serve", "--config")
    assert f"# {options[1]}" in shown("toml", "data_dir")
    assert service["ReadWritePaths"] == settings["data_dir"]
    config = ServerConfig(**settings)
    assert int(service["TimeoutStopSec"]) > config.shutdown_seconds + 5


async def test_what_a_proxy_passes_on_is_refused_without_a_key():
    passed_on = {"host": "chat.example.org", "x-forwarded-for": "192.0.2.7"}
    async with rest_server() as rest:
        assert (await rest.client.get("/ready", headers=passed_on)).status_code == 403


def test_every_reason_why_a_server_is_not_ready_is_listed():
    section = PAGE.split("### Ready")[1].split("###")[0]
    looks = {readiness.LOCK_LOST, readiness.READ_ONLY, readiness.NO_ANSWER, readiness.NEARLY_FULL}
    reasons = {
        *looks,
        readiness.NO_DATABASE,
        readiness.NOT_STORED,
        readiness.FILES_LOST,
        readiness.TAKEN,
        readiness.NO_BUCKET,
        readiness.STOPPING,
        readiness.DRAINING,
    }

    listed = set(re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)) - {"reason", "---"}
    assert listed == reasons


CLOUD = {"PARLEY_CLOUD_URL": "s3://bucket", "PARLEY_SECRET_KEY": "a long random text"}


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--config", "/dev/null", "--host", "192.0.2.1"], {}),
        ([], {"PARLEY_NO_SUCH_THING": "1"}),
        (["--storage", "cloud"], {}),
        (["--storage", "cloud"], CLOUD | {"PARLEY_CLOUD_OPTIONS": '{"no_such_option": "1"}'}),
    ],
)
def test_what_keeps_a_server_from_starting_is_listed(
    arguments, variables, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)

    assert main(["serve", "--port", "0", *arguments]) == 2
    assert_listed(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Unavailable, {"data_dir": "/dev/null/data"}),
        (ConfigError, {"storage_kind": "memory", "agent_class": "no_such_module:Agent"}),
    ],
)
async def test_what_keeps_it_from_opening_its_parts_is_listed(kind, settings):
    await assert_refused_as_listed(kind, **settings)


async def test_a_directory_and_a_port_in_use_are_listed(tmp_path):
    async with server_process(tmp_path) as server:
        await assert_refused_as_listed(DataDirectoryLocked, data_dir=tmp_path)
        with pytest.raises(ConfigError, match="in use") as refused:
            listen("127.0.0.1", server.port)

    assert_listed(f"parley: {refused.value}\n")


async def test_another_key_and_newer_tables_are_listed(tmp_path):
    keys = ["the key of number 0", "the key of number 1"]
    async with asked(data_dir=tmp_path, secret_key=keys[0]) as http:
        await http.post("/api/secrets", json={"name": "ONE", "value": "a-secret-value"})

    await assert_refused_as_listed(WrongKey, data_dir=tmp_path, secret_key=keys[1])

    connection = sqlite3.connect(tmp_path / "parley.sqlite3")
    connection.execute("INSERT INTO migrations VALUES (900, 'later', 'its checksum')")
    connection.commit()
    connection.close()
    await assert_refused_as_listed(MigrationError, data_dir=tmp_path, secret_key=keys[0])


async def assert_refused_as_listed(kind, **settings):
    with pytest.raises(kind) as refused:
        async with create_app(ServerConfig(**settings)):
            pass
    assert_listed(f"parley: {refused.value}\n")


def assert_listed(line):
    """One line, and a row of the table quotes it."""
    table = PAGE.split("| the line says |")[1].split("\n\n")[0]
    quotes = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)

    assert line.count("\n") == 1, line
    assert [quote for quote in quotes if quote in line], line
