"""Copies between storages of all kinds: whole, verified, and begun again where they were cut short."""

import asyncio
import re
import sqlite3
from asyncio.subprocess import DEVNULL
from contextlib import closing, suppress
from typing import Any

import pytest

from events.conformance.records import append, records
from events.errors import AppendFailed, AppendUnknown
from events.stores.opening import storage_problems
from events.transfer.contents import Stores, open_stores
from events.transfer.copying import Copy
from events.transfer.digest import conversation_digest
from events.transfer.report import Result
from server.cli import main
from storage.backends import backend_of
from storage.conversations.metadata import ConversationMetadata
from storage.sealing.key import KEY_NAME, hand_over_key
from tests.support.commands import COMMAND, run_on_terminal
from tests.support.servers import REPOSITORY
from tests.support.waiting import until
from tests.support.whole_storages import (
    DURABLE,
    EVERY_KIND,
    KINDS,
    NOON,
    config_of,
    everything,
    fill,
    opened,
)

PAIRS = [
    (one, other)
    for one in EVERY_KIND
    for other in EVERY_KIND
    if (one, other) != ("memory", "memory")  # there is one of them in a process
]


async def copied(source, target):
    copy = Copy(source, target)
    return {one.conversation_id: one async for one in copy.outcomes()}, copy.report


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_copy_has_everything_whatever_the_kinds(one, other, tmp_path):
    async with (
        opened(one, tmp_path / "old") as (source, _),
        opened(other, tmp_path / "new") as (target, config),
    ):
        await fill(source)
        outcomes, report = await copied(source, target)
        before = await everything(source)
        after = await everything(target)
        problems = await asyncio.to_thread(storage_problems, config)

    assert after == before
    assert report.is_complete
    assert {outcome.result for outcome in outcomes.values()} == {Result.COPIED}
    assert problems == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_second_copy_changes_nothing(kind, tmp_path):
    async with (
        open_stores(config_of("sqlite", tmp_path / "old")) as source,
        open_stores(config_of(kind, tmp_path / "new")) as target,
    ):
        await fill(source)
        await copied(source, target)
        first = await everything(target)
        outcomes, report = await copied(source, target)

        assert await everything(target) == first
    assert report.is_complete
    assert {outcome.result for outcome in outcomes.values()} == {Result.UNCHANGED}


class CutShort:
    """An event store that takes so many appends, then none; some land and are not told."""

    def __init__(self, events, appends):
        self._events = events
        self._left = appends

    def __getattr__(self, name):
        return getattr(self._events, name)

    async def append_many(self, *arguments, **fields):
        self._left -= 1
        if self._left < 0:
            raise AppendFailed("the disk is full")
        await self._events.append_many(*arguments, **fields)
        if self._left % 3 == 0:
            raise AppendUnknown("no answer")


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_copy_cut_short_anywhere_goes_on_and_is_whole(kind, tmp_path):
    async with (
        open_stores(config_of("sqlite", tmp_path / "old")) as source,
        open_stores(config_of(kind, tmp_path / "new")) as target,
    ):
        await fill(source, conversations=7, events=1_100)
        expected = await everything(source)
        rounds = 0
        complete = False
        while not complete:
            rounds += 1
            cut: Any = CutShort(target.events, rounds)
            _, report = await copied(source, Stores(target.storage, cut, target.workspaces))
            complete = report.is_complete

        assert rounds > 3
        assert await everything(target) == expected


async def test_an_append_that_landed_untold_is_found_and_not_made_again(tmp_path):
    async with (
        open_stores(config_of("sqlite", tmp_path / "old")) as source,
        open_stores(config_of("sqlite", tmp_path / "new")) as target,
    ):
        await fill(source, conversations=7, events=1_100)
        untold: Any = CutShort(target.events, 300)

        _, report = await copied(source, Stores(target.storage, untold, target.workspaces))

        assert report.is_complete
        assert await everything(target) == await everything(source)


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_copy_whose_process_is_killed_goes_on_and_is_whole(kind, tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as source:
        await fill(source, conversations=9, events=1_100)
        expected = await everything(source)
    command = [*COMMAND, "copy", "--from", "sqlite", "--from-dir", "old"]
    command += ["--to", kind, "--to-dir", "new"]
    target = backend_of(config_of(kind, tmp_path / "new"))
    for count in (1, 4, 7):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=DEVNULL,
            stderr=DEVNULL,
            cwd=tmp_path,
            env={"PYTHONPATH": str(REPOSITORY)},
        )

        def has_come_so_far(count=count, process=process):
            found = re.match(r"ok, (\d+) conv", target.describe())
            return process.returncode is not None or (found and int(found[1]) >= count)

        await until(has_come_so_far)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    async with (
        open_stores(config_of("sqlite", tmp_path / "old")) as source,
        open_stores(config_of(kind, tmp_path / "new")) as copy,
    ):
        _, report = await copied(source, copy)
        assert await everything(copy) == expected
    assert report.is_complete
    assert storage_problems(config_of(kind, tmp_path / "new")) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_another_log_of_the_same_id_is_told_and_left_as_it_is(kind, tmp_path):
    async with (
        open_stores(config_of("sqlite", tmp_path / "old")) as source,
        open_stores(config_of(kind, tmp_path / "new")) as target,
    ):
        await fill(source, conversations=3)
        own = ConversationMetadata(conversation_id="c0001", created_at=NOON)
        await target.storage.conversations.for_user("ann").save_metadata(own)
        await append(target.events, "c0001", records(0, 4, "another"))
        kept = await target.storage.conversations.for_user("ann").get_metadata("c0001")
        digest = await conversation_digest(target, kept)

        outcomes, report = await copied(source, target)

        assert outcomes["c0001"].result is Result.DIFFERS
        assert await conversation_digest(target, kept) == digest
        assert {outcomes[one].result for one in ("c0000", "c0002")} == {Result.COPIED}
    assert not report.is_complete


async def test_a_damaged_event_is_told_and_its_marker_is_copied(tmp_path):
    config = config_of("sqlite", tmp_path / "old")
    async with open_stores(config) as source:
        await fill(source, conversations=2)
    with closing(sqlite3.connect(tmp_path / "old" / "parley.sqlite3")) as connection, connection:
        connection.execute("UPDATE events SET crc = 0 WHERE key = 2 << 32 | 4")
        connection.execute("UPDATE arrivals SET crc = 0 WHERE key = 2 << 32 | 4")
    async with (
        open_stores(config) as source,
        open_stores(config_of("local", tmp_path / "new")) as target,
    ):
        outcomes, _ = await copied(source, target)
        events = await target.events.read("c0001", 0, 10)

    assert outcomes["c0001"].notes == (
        "damaged records 4-4 in conversation c0001: markers stand for them",
    )
    assert b"STORAGE$EVENT_DAMAGED" in events[4].body
    assert [one.id for one in events] == [*range(10)]


async def test_records_of_users_without_conversations_need_the_same_key(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as source:
        await fill(source, conversations=1)
        async with open_stores(config_of("sqlite", tmp_path / "other")) as target:
            _, report = await copied(source, target)
        (problem,) = report.problems
        assert problem.startswith("4 records of users who have no conversation were left out")
        assert hand_over_key(tmp_path / "old", tmp_path / "new")
        async with open_stores(config_of("sqlite", tmp_path / "new")) as target:
            _, report = await copied(source, target)
            assert await everything(target) == await everything(source)
        assert report.is_complete


def test_the_command_copies_and_reports_each_conversation(tmp_path, capsys):
    async def filled():
        async with open_stores(config_of("sqlite", tmp_path / "old")) as source:
            await fill(source)

    asyncio.run(filled())
    report = tmp_path / "report.jsonl"
    arguments = ["copy", "--from", "sqlite", "--from-dir", str(tmp_path / "old"), "--to", "local"]
    arguments += ["--to-dir", str(tmp_path / "new"), "--report", str(report)]

    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("12 conversations: 12 copied; ")
    assert len(report.read_text().splitlines()) == 12
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("12 conversations: 12 unchanged; ")
    assert (tmp_path / "new" / KEY_NAME).read_bytes() == (tmp_path / "old" / KEY_NAME).read_bytes()
    assert main(["check", "--storage", "local", "--data-dir", str(tmp_path / "new")]) == 0


def test_the_command_shows_on_a_terminal_how_far_it_has_come(tmp_path):
    async def filled():
        async with open_stores(config_of("sqlite", tmp_path / "old")) as source:
            await fill(source, events=10)

    asyncio.run(filled())
    arguments = ["copy", "--from", "sqlite", "--from-dir", "old", "--to", "local"]
    outcome, shown = run_on_terminal(*arguments, "--to-dir", "new", cwd=tmp_path)

    assert outcome.returncode == 0
    assert b"conversations" in shown
    assert b"12/12" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--from", "sqlite", "--from-dir", "nothing", "--to", "local", "--to-dir", "new"],
            "no data in",
        ),
        (["--from", "memory", "--to", "local", "--to-dir", "new"], "memory holds nothing"),
        (["--from", "sqlite", "--from-dir", "a", "--to", "local", "--to-dir", "a"], "--to-dir"),
        (["--from", "paper", "--to", "local"], "--from"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_one_line(
    arguments, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    assert main(["copy", *arguments]) == 2

    written = capsys.readouterr().err
    assert told in written
    assert written.count("\n") == 1
    assert [*tmp_path.iterdir()] == []
