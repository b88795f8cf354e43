"""Backups of a storage that a server works on: on request, by command, and again and again."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from functools import partial
from pathlib import Path

import httpx
import orjson
import pytest

from events.stores.opening import storage_problems
from events.transfer.backup import verify
from events.transfer.contents import open_stores
from events.transfer.schedule import Backups
from tests.support.commands import run_parley
from tests.support.servers import REPOSITORY, server_process
from tests.support.waiting import WAIT_SECONDS, until
from tests.support.whole_storages import config_of, everything, fill, served


async def keep_writing(http, conversation_id, told, begun):
    path = f"/api/conversations/{conversation_id}/message"
    for number in range(100_000):
        answer = await http.post(path, json={"message": f"number {number}"})
        assert answer.status_code == 200
        told[conversation_id] = number
        if number == 5:
            begun.set()


async def said_in(stores, key):
    end = (await stores.events.head(key)).next_id
    events = [one async for part in stores.parts(key, end) for one in part.events]
    payloads = [orjson.loads(one.body) for one in events]
    return [one["message"] for one in payloads if one["message"].startswith("number ")]


@pytest.mark.parametrize("kind", ["sqlite", "local", "postgres", "cloud"])
async def test_the_command_backs_up_what_a_server_works_on_under_load(kind, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    async with served(kind, data) as storage:
        await back_up_under_load(storage, tmp_path)


async def back_up_under_load(storage, tmp_path):
    data = tmp_path / "data"
    async with (
        server_process(data, *storage.arguments, environment=storage.environment) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):
        await http.post("/api/secrets", json={"name": "TOKEN", "value": "a-secret-value"})
        created = [await http.post("/api/conversations", json={}) for _ in range(4)]
        ids = [one.json()["conversation_id"] for one in created]
        told: dict[str, int] = {}
        begun = asyncio.Event()
        writing = [asyncio.create_task(keep_writing(http, one, told, begun)) for one in ids]
        await begun.wait()
        before = dict(told)
        port = str(httpx.URL(server.url).port)
        there = [*storage.arguments, "--data-dir", str(data), "--port", port]
        environment = storage.environment
        backup = partial(run_parley, "backup", "backup", *there, cwd=tmp_path, **environment)
        made = await asyncio.to_thread(backup)
        assert [task.exception() for task in writing if task.done()] == []
        for task in writing:
            task.cancel()
        await asyncio.wait(writing)
        await server.stop()

    assert (made.returncode, made.stderr) == (0, "")
    assert "sound, of " in made.stdout
    assert [*(data / "backups").glob("*")] == []
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    given = storage.environment.get("PARLEY_SECRET_KEY")
    key = {} if given is None else {"PARLEY_SECRET_KEY": given}
    restored = run_parley("restore", "backup", "--data-dir", "new", cwd=tmp_path, **key)
    assert (restored.returncode, restored.stderr) == (0, "")
    config = config_of("sqlite", tmp_path / "new", given)
    async with open_stores(storage.config) as old, open_stores(config) as new:
        for key in ids:
            found = await said_in(new, key)
            whole = await said_in(old, key)
            assert found == whole[: len(found)]
            assert len(found) > before.get(key, -1)
        secrets = await new.storage.secrets.for_user(None).load()
    assert [*secrets.custom_secrets] == ["TOKEN"]
    assert storage_problems(config) == []


async def test_a_server_makes_backups_by_itself_from_the_start(tmp_path):
    environment = {"PARLEY_BACKUP_EVERY": "86400", "PARLEY_BACKUP_DIR": str(tmp_path / "kept")}
    async with server_process(tmp_path / "data", environment=environment) as server:
        await until(lambda: [*(tmp_path / "kept").glob("parley-*.backup")])
        await server.stop()

    (made,) = (tmp_path / "kept").iterdir()
    assert verify(made).conversations == 0


async def test_backups_begin_once_their_folder_can_be_made_and_again_after_it_was_removed(
    tmp_path, caplog
):
    folder = tmp_path / "mount" / "kept"
    (tmp_path / "mount").write_text("not mounted yet")
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        async with Backups(stores, folder, every_seconds=0.001, keep=1) as backups:
            await until(lambda: "cannot make a backup" in caplog.text)
            (tmp_path / "mount").unlink()
            await until(backups.kept)
            # In one step, since a backup is being made in it all the while.
            (tmp_path / "mount").rename(tmp_path / "removed")
            await until(backups.kept)
        assert verify(backups.kept()[0]).conversations == 0


async def test_a_kill_in_mid_backup_leaves_no_archive_and_the_next_one_removes_its_draft(tmp_path):
    folder = tmp_path / "kept"
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        await fill(stores, conversations=2)
        backups = Backups(stores, folder)
        before = (await backups.make()).path
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.halted_backup", str(tmp_path / "data"), str(folder)),
        stdout=PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"halted\n"
    process.kill()
    await process.wait()

    assert len([*folder.glob(".*.part")]) == 1
    assert backups.kept() == [before]
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        backups = Backups(stores, folder)
        made = (await backups.make()).path
    assert [*folder.glob(".*")] == []
    assert backups.kept() == [made, before]


async def test_the_newest_are_kept_and_nothing_else_of_the_folder_is_removed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "another.backup").write_text("mine")
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        backups = Backups(stores, tmp_path / "kept", keep=2)
        made = [(await backups.make_in_turn()).path for _ in range(4)]

        assert backups.kept() == made[:1:-1]
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"another.backup", made[2].name, made[3].name}


async def test_after_a_start_the_next_is_due_when_the_newest_is_old_enough(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        async with Backups(stores, tmp_path / "kept", every_seconds=86_400) as backups:
            await until(backups.kept)
        (first,) = backups.kept()
        async with Backups(stores, tmp_path / "kept", every_seconds=86_400):
            await fill(stores, conversations=2)
        assert backups.kept() == [first]
        async with Backups(stores, tmp_path / "kept", every_seconds=1e-6):
            await until(lambda: len(backups.kept()) > 1)


@pytest.mark.parametrize("kind", ["sqlite", "local", "memory"])
async def test_a_backup_of_any_kind_is_made_and_named_by_the_administration(kind, tmp_path):
    arguments = ("--storage", kind)
    async with (
        server_process(tmp_path / "data", *arguments) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):
        await http.post("/api/conversations", json={"initial_user_msg": "hello"})
        answer = await http.post("/api/admin/backups", json={})

    assert answer.status_code == 200, answer.text
    made = answer.json()
    found = verify(Path(made["file"]))
    assert found.conversations == made["conversations"] == 1
    assert found.events == made["events"]
    assert made["bytes"] == Path(made["file"]).stat().st_size
    assert made["damage"] == []


async def test_a_storage_in_use_without_a_server_that_answers_is_told(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
        await fill(stores, conversations=2)
        before = await everything(stores)
        outcome = run_parley("backup", "b", "--data-dir", "data", "--port", "9", cwd=tmp_path)
        assert await everything(stores) == before

    assert outcome.returncode == 2
    assert "is in use by process" in outcome.stderr
    assert "no server answers for it at 127.0.0.1:9" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()
