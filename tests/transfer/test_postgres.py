"""PostgreSQL among the kinds: copied from and into, backed up beside its server, restored."""

import asyncio

import httpx

from events.stores.opening import storage_problems
from events.transfer.backup import archive_of, verify, write_archive
from events.transfer.contents import open_stores
from events.transfer.copying import Copy
from events.transfer.report import Result
from events.transfer.restore import Restore
from server.cli import main
from tests.support.postgres import postgres_settings, postgres_storage
from tests.support.servers import environment_of, server_process
from tests.support.waiting import WAIT_SECONDS
from tests.support.whole_storages import config_of, everything, fill


async def problems(config):
    return await asyncio.to_thread(storage_problems, config)


async def copied(source, target):
    async with open_stores(source) as old, open_stores(target) as new:
        copy = Copy(old, new)
        results = {one.result async for one in copy.outcomes()}
        assert copy.report.is_complete
        return results, await everything(old), await everything(new)


async def test_a_storage_is_the_same_after_a_way_through_postgresql(tmp_path):
    first, last = config_of("sqlite", tmp_path / "first"), config_of("local", tmp_path / "last")
    async with postgres_storage(tmp_path) as between:
        async with open_stores(first) as stores:
            await fill(stores)
            expected = await everything(stores)
        for source, target in ((first, between), (between, last)):
            results, before, after = await copied(source, target)
            assert results == {Result.COPIED}
            assert before == after == expected
        results, _, _ = await copied(first, between)
        assert results == {Result.UNCHANGED}
        assert await problems(between) == []


async def test_a_backup_of_postgresql_is_restored_into_another_schema(tmp_path):
    folders = [tmp_path / name for name in ("old", "new")]
    for folder in folders:
        folder.mkdir()
    async with postgres_storage(folders[0]) as old, postgres_storage(folders[1]) as new:
        async with open_stores(old) as stores:
            await fill(stores)
            expected = await everything(stores)
            await write_archive(tmp_path / "backup", archive_of(stores, None))
        assert verify(tmp_path / "backup").conversations == 12
        async with open_stores(new) as stores:
            work = Restore(tmp_path / "backup", stores, None)
            assert [one async for one in work.outcomes()]
            assert work.report.is_complete
            assert await everything(stores) == expected
        assert await problems(new) == []


async def test_the_command_has_the_server_that_uses_the_schema_make_a_backup(
    tmp_path, monkeypatch, capsys
):
    async with postgres_settings(tmp_path) as settings:
        environment = environment_of(storage="postgres", **settings)
        data = tmp_path / "data"
        async with (
            server_process(data, environment=environment) as server,
            httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
        ):
            made = await http.post("/api/conversations", json={"initial_user_msg": "hello"})
            assert made.status_code == 200
            for name, text in environment.items():
                monkeypatch.setenv(name, text)
            monkeypatch.chdir(tmp_path)
            port = str(httpx.URL(server.url).port)
            code = await asyncio.to_thread(main, ["backup", "made", "--port", port])

    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    assert "sound, of " in told.out
    assert verify(tmp_path / "made").conversations == 1
