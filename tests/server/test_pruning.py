"""Deletion by age from outside: the command, the server that does it by itself, and their settings."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest

from events.stores.opening import storage_problems
from events.transfer.contents import open_stores
from server.cli import main
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.conversations.retention import SWEEP
from storage.lock import data_directory_lock
from tests.support.aged import acts_of, ago, ids, plant
from tests.support.killed_commands import killed_anywhere
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS, until
from tests.support.whole_storages import DURABLE, config_of, everything

LIMIT = {"PARLEY_RETENTION_DAYS": "30"}


def now():
    """The moment of the system's clock, which the commands read."""
    return datetime.now(UTC)


def fill(kind, data):
    """Plant three old conversations of two owners, and a young one."""

    async def run():
        async with open_stores(config_of(kind, data)) as stores:
            await plant(stores, "old1", None, ago(40, now()), events=60)
            await plant(stores, "old2", "ann", ago(50, now()), events=60)
            await plant(stores, "old3", "ann", ago(60, now()), events=60)
            await plant(stores, "young", None, ago(1, now()), events=60)
            await plant(stores, "new", None, now(), events=0)
            return await everything(stores)

    return asyncio.run(run())


def contents(kind, data):
    """Read everything back."""

    async def run():
        async with open_stores(config_of(kind, data)) as stores:
            return await everything(stores)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", DURABLE)
def test_a_dry_run_says_what_would_go_and_deletes_nothing(kind, tmp_path, monkeypatch, capsys):
    before = fill(kind, tmp_path / "data")
    monkeypatch.setenv("PARLEY_RETENTION_DAYS", "30")
    arguments = ["--storage", kind, "--data-dir", str(tmp_path / "data")]

    assert main(["prune", "--dry-run", *arguments, "--report", str(tmp_path / "report")]) == 0

    lines = capsys.readouterr().out.splitlines()
    reported = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    sizes = {one["conversation_id"]: one["bytes"] for one in reported}
    assert {*sizes} == {"old1", "old2", "old3"}
    assert all(size > 60 * 100 for size in sizes.values())
    (old1, both) = sizes["old1"], sizes["old2"] + sizes["old3"]
    last_used = "last used 40 to 40 days ago, the limit is 30 days"
    assert lines[0] == f"no user: 1 conversations, 60 events, {old1} bytes, {last_used}"
    last_used = "last used 50 to 60 days ago, the limit is 30 days"
    assert lines[1] == f"ann: 2 conversations, 120 events, {both} bytes, {last_used}"
    total = f"3 conversations, 180 events, {old1 + both} bytes"
    assert lines[2:] == [f"past the limit: {total}; nothing was deleted"]
    assert {one["user_id"] for one in reported} == {None, "ann"}
    assert contents(kind, tmp_path / "data") == before


@pytest.mark.parametrize("kind", DURABLE)
def test_a_command_deletes_what_is_past_its_limit(kind, tmp_path, monkeypatch, capsys):
    before = fill(kind, tmp_path)
    monkeypatch.setenv("PARLEY_RETENTION_DAYS", "30")
    prune = ["prune", "--storage", kind, "--data-dir", str(tmp_path)]

    assert main(prune) == 0

    assert capsys.readouterr().out == "pruned: 3 deleted, 0 in use, 0 failed\n"
    after = contents(kind, tmp_path)
    gone = {"old1", "old2", "old3"}
    assert before.keys() - after.keys() == gone
    assert storage_problems(config_of(kind, tmp_path)) == []
    assert main(prune) == 0
    assert capsys.readouterr().out == "pruned: 0 deleted, 0 in use, 0 failed\n"


def test_the_limit_of_a_user_replaces_the_one_of_all(tmp_path, monkeypatch, capsys):
    fill("sqlite", tmp_path)
    monkeypatch.setenv("PARLEY_RETENTION_DAYS", "30")
    monkeypatch.setenv("PARLEY_RETENTION_DAYS_BY_USER", '{"ann": "forever"}')
    assert main(["prune", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "pruned: 1 deleted, 0 in use, 0 failed\n"
    monkeypatch.delenv("PARLEY_RETENTION_DAYS")
    monkeypatch.setenv("PARLEY_RETENTION_DAYS_BY_USER", '{"ann": 55}')
    assert main(["prune", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "pruned: 1 deleted, 0 in use, 0 failed\n"
    assert {"old2", "young", "new"} <= contents("sqlite", tmp_path).keys()


def test_a_command_whose_clock_is_far_ahead_deletes_nothing_unless_told_to(
    tmp_path, monkeypatch, capsys
):
    async def run():
        async with open_stores(config_of("sqlite", tmp_path)) as stores:
            await plant(stores, "old", None, ago(40, now()))

    asyncio.run(run())
    monkeypatch.setenv("PARLEY_RETENTION_DAYS", "30")
    prune = ["prune", "--data-dir", str(tmp_path)]
    assert main(prune) == 1
    assert capsys.readouterr().out.startswith("nothing was deleted: the clock is more than a day")
    assert "old" in contents("sqlite", tmp_path)
    assert main([*prune, "--clock-is-right"]) == 0
    assert "old" not in contents("sqlite", tmp_path)


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["delete", "dry run"])
def test_nothing_is_pruned_without_a_limit_or_beside_a_server(
    dry_run, tmp_path, monkeypatch, capsys
):
    before = fill("sqlite", tmp_path)
    prune = ["prune", *dry_run, "--data-dir", str(tmp_path)]
    assert main(prune) == 2
    assert capsys.readouterr().err.startswith("parley: retention_days: no age limit is set")
    monkeypatch.setenv("PARLEY_RETENTION_DAYS", "30")
    with data_directory_lock(tmp_path):
        assert main(prune) == 2
        error = capsys.readouterr().err
    assert "is in use by process" in error
    assert "GET /api/admin/retention" in error
    assert contents("sqlite", tmp_path) == before
    assert main([*prune[:-1], str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_sweep_that_was_killed_anywhere_leaves_whole_conversations_and_is_finished(
    kind, tmp_path
):
    data = tmp_path / "data"
    await asyncio.to_thread(fill, kind, data)
    arguments = ["prune", "--storage", kind, "--data-dir", str(data)]
    runs = []
    async for kills in killed_anywhere(*arguments, environment=LIMIT, step=2):
        runs.append(kills)
        async with open_stores(config_of(kind, data)) as stores:
            for key in await ids(stores):
                head = await stores.events.head(key)
                assert (head.deleted, head.next_id) == (False, 0 if key == "new" else 60)

    assert runs[-1] > 1
    assert storage_problems(config_of(kind, data)) == []
    async with open_stores(config_of(kind, data)) as stores:
        assert await ids(stores) == {"young", "new"}
        for key in ("old1", "old2", "old3"):
            assert (await stores.events.head(key)).deleted
            assert await stores.events.asides(key) == {}
            assert await stores.workspaces.load(key) is None
            counted = await stores.storage.usage.load(key)
            assert counted is not None
            assert sum(line.events for line in counted.lines) == 60
        assert await acts_of(stores.storage.audit, SWEEP) != []


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_server_reports_and_deletes_what_is_past_its_limit(kind, tmp_path):
    await asyncio.to_thread(fill, kind, tmp_path)
    arguments = ("--storage", kind)
    async with (
        server_process(tmp_path, *arguments, environment=LIMIT) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):
        assert (await http.get("/api/conversations/old1")).status_code == 200
        report = (await http.get("/api/admin/retention")).json()
        assert report["limits"] == {"days": 30, "by_user": {}}
        assert (report["held_until"], report["complete"]) == (None, True)
        lines = {one["user_id"]: one for one in report["results"]}
        assert {user: one["conversations"] for user, one in lines.items()} == {None: 1, "ann": 2}
        assert lines["ann"]["events"] == 120

        swept = (await http.post("/api/admin/retention", json={})).json()

        assert swept == {
            "deleted": 3,
            "waiting": 0,
            "failed": 0,
            "more": False,
            "held_until": None,
        }
        assert (await http.get("/api/conversations/old1")).json() is None
        assert (await http.get("/api/admin/retention")).json()["results"] == []
        metrics = (await http.get("/metrics")).text
        assert "parley_retention_deleted_total 3.0" in metrics
        acts = (await http.get("/api/admin/audit", params={"only_acts": True})).json()["results"]
        assert acts[0]["outcome"] == "3 deleted, 0 in use, 0 failed"


async def test_what_was_said_in_a_conversation_deleted_by_age_is_not_found(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        await plant(stores, "old", None, ago(40, now()), text="heliotrope")
        await plant(stores, "new", None, now(), text="heliotrope")

    async def found(http):
        answer = await http.get("/api/search", params={"q": "heliotrope"})
        return {one["conversation_id"] for one in answer.json()["results"]}

    async with (
        server_process(tmp_path, environment=LIMIT) as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http,
    ):

        async def both_are_found():
            return await found(http) == {"old", "new"}

        async def only_the_new_is_found():
            return await found(http) == {"new"}

        await until(both_are_found)
        await http.post("/api/admin/retention", json={})
        await until(only_the_new_is_found)


@pytest.mark.parametrize(
    "days", [0, -1, 36_501, 1.5, True, "soon", "1e3", "1.0", "", "1_0"], ids=repr
)
def test_a_limit_that_is_no_number_of_days_is_refused(days):
    with pytest.raises(ConfigError, match=r"^retention_days: must be a whole number of days from"):
        ServerConfig(retention_days=days)
    with pytest.raises(ConfigError, match=r'^retention_days_by_user: ann: .*, or "forever"$'):
        ServerConfig(retention_days_by_user={"ann": days})


@pytest.mark.parametrize("table", ["ann", "[]", "7", '{"ann": 7', 5, ["ann"]], ids=repr)
def test_limits_that_are_no_table_are_refused(table):
    with pytest.raises(ConfigError, match=r"^retention_days_by_user: not a table of users"):
        ServerConfig(retention_days_by_user=table)


def test_limits_are_read_from_the_file_and_the_environment(tmp_path):
    path = tmp_path / "parley.toml"
    path.write_text('retention_days = 30\nretention_days_by_user = { ann = 7, bob = "forever" }\n')
    config = ServerConfig.load(environ={}, toml_path=path)
    assert (config.retention_days, config.retention_days_by_user) == (
        30,
        {"ann": 7, "bob": "forever"},
    )
    environment = LIMIT | {"PARLEY_RETENTION_DAYS_BY_USER": '{"ann": 3}'}
    config = ServerConfig.load(environ=environment)
    assert (config.retention_days, config.retention_days_by_user) == (30, {"ann": 3})


def test_limits_are_refused_beside_a_class_for_conversations_of_ones_own():
    with pytest.raises(ConfigError, match="cannot be listed by their age"):
        ServerConfig(retention_days=30, conversation_store_class="some.module:Class")
