"""Backups: made under load, verified whole, refused where damaged, restored on any kind."""

import asyncio
import random
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import orjson
import pytest

from events.conformance.records import append, records
from events.errors import ConversationDeleted
from events.event import StoredEvent
from events.stores.opening import storage_problems
from events.summary import NO_CHANGE
from events.transfer.archive import (
    ArchiveWriter,
    DamagedArchive,
    Done,
    Kind,
    Manifest,
    model_in,
    read_frames,
)
from events.transfer.backup import archive_of, draft_of, verify, write_archive
from events.transfer.contents import PART_BYTES, Stores, open_stores
from events.transfer.report import Result
from events.transfer.restore import HELD_BYTES, NotEmpty, Restore
from server.cli import main
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ConversationDeleted as RecordDeleted
from storage.sealing.key import KEY_NAME, keep_key_file, key_file_in
from tests.support.whole_storages import (
    DURABLE,
    EVERY_KIND,
    NOON,
    config_of,
    everything,
    fill,
    opened,
)

PAIRS = [(one, other) for one in DURABLE for other in DURABLE]


async def backed_up(stores, path, folder=None):
    await write_archive(path, archive_of(stores, None if folder is None else key_file_in(folder)))


async def restored(path, stores, at=None):
    work = Restore(path, stores, at)
    return {one.conversation_id: one async for one in work.outcomes()}, work.report


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_backup_restored_on_any_kind_has_everything(one, other, tmp_path):
    async with open_stores(config_of(one, tmp_path / "old")) as stores:
        await fill(stores)
        expected = await everything(stores)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
    assert verify(tmp_path / "backup").conversations == 12
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    key = key_file_in(tmp_path / "old")
    assert key is not None
    keep_key_file(tmp_path / "new", key)
    async with open_stores(config_of(other, tmp_path / "new")) as stores:
        _, report = await restored(tmp_path / "backup", stores)
        assert await everything(stores) == expected
    assert report.is_complete
    assert storage_problems(config_of(other, tmp_path / "new")) == []


async def test_a_storage_with_another_key_seals_anew_what_was_sealed(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores)
        expected = await everything(stores)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
    async with open_stores(config_of("local", tmp_path / "new", "another passphrase")) as stores:
        await restored(tmp_path / "backup", stores)
        assert await everything(stores) == expected


@pytest.mark.parametrize("kind", ["postgres", "cloud"])
async def test_a_backup_of_a_shared_storage_is_restored_here_and_there(kind, tmp_path):
    async with opened(kind, tmp_path / "old") as (stores, _):
        await fill(stores)
        expected = await everything(stores)
        await backed_up(stores, tmp_path / "backup")
    async with opened(kind, tmp_path / "new") as (stores, config):
        await restored(tmp_path / "backup", stores)
        assert await everything(stores) == expected
        assert await asyncio.to_thread(storage_problems, config) == []


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_backup_made_under_load_is_a_prefix_of_every_log(kind, tmp_path):
    async with open_stores(config_of(kind, tmp_path / "old")) as stores:
        ids = await fill(stores, conversations=4, events=20)
        ids = ids[:3]
        going = asyncio.Event()
        told = dict.fromkeys(ids, 0)

        async def keep_writing(key):
            while True:
                end = (await stores.events.head(key)).next_id
                await append(stores.events, key, records(end, 3, f"more {end}"))
                told[key] = end + 3
                going.set()

        writers = [asyncio.create_task(keep_writing(key)) for key in ids]
        await going.wait()
        before = dict(told)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
        assert [writer.exception() for writer in writers if writer.done()] == []
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        logs = {key: await stores.events.read(key, 0, 1_000_000) for key in ids}
    key_file = key_file_in(tmp_path / "old")
    assert key_file is not None
    keep_key_file(tmp_path / "new", key_file)
    async with open_stores(config_of("sqlite", tmp_path / "new")) as stores:
        await restored(tmp_path / "backup", stores)
        for key in ids:
            found = await stores.events.read(key, 0, 1_000_000)
            assert found == logs[key][: len(found)]
            assert len(found) >= before[key]
    assert storage_problems(config_of("sqlite", tmp_path / "new")) == []


async def test_100_damaged_archives_are_refused_before_anything_is_touched(tmp_path, capsys):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores, conversations=6)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
    whole = (tmp_path / "backup").read_bytes()
    drawn = random.Random(7)  # noqa: S311 - no secret
    path = tmp_path / "damaged"
    for number in range(100):
        place = drawn.randrange(len(whole))
        match number % 4:
            case 0:
                content = whole[:place]
            case 1:
                flipped = bytes([whole[place] ^ 1 << drawn.randrange(8)])
                content = whole[:place] + flipped + whole[place + 1 :]
            case 2:
                content = whole[:place] + whole[place + drawn.randrange(1, 200) :]
            case _:
                content = whole + bytes([drawn.randrange(256)])
        path.write_bytes(content)
        with pytest.raises(DamagedArchive):
            verify(path)
    new = tmp_path / "new"
    assert main(["restore", str(path), "--data-dir", str(new)]) == 2
    assert "damaged" in capsys.readouterr().err
    assert not new.exists()


def timed(first, count, begin, every):
    moments = [begin + every * place for place in range(count)]
    texts = [one.isoformat(timespec="microseconds").replace("+00:00", "Z") for one in moments]
    found = []
    for place, text in enumerate(texts):
        found += records(first + place, 1, f"{first + place}", text)
    return found


def costly(event_id, moment):
    (event,) = timed(event_id, 1, moment, timedelta())
    metrics = {"accumulated_cost": 2.5}
    body = orjson.dumps(orjson.loads(event.body) | {"llm_metrics": metrics})
    return StoredEvent(event_id, event.flag, body)


async def test_a_restore_at_a_moment_ends_each_log_there_and_folds_its_record(tmp_path):
    hour = timedelta(hours=1)
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        view = stores.storage.conversations.for_user("ann")
        for number, begin in enumerate((NOON, NOON + 5 * hour, NOON + 50 * hour)):
            saved = ConversationMetadata(conversation_id=f"c{number}", created_at=begin, title="T")
            await view.save_metadata(saved)
            await append(stores.events, f"c{number}", timed(0, 10, begin, hour))
        await append(stores.events, "c0", [costly(10, NOON + 10 * hour)])
        assert (await view.get_metadata("c0")).accumulated_cost == 2.5
        early = ConversationMetadata(conversation_id="silent", created_at=NOON)
        await view.save_metadata(early)
        await append(stores.events, "silent", timed(0, 2, NOON + 50 * hour, hour))
        await backed_up(stores, tmp_path / "backup")
    async with open_stores(config_of("local", tmp_path / "new")) as stores:
        outcomes, _ = await restored(tmp_path / "backup", stores, NOON + 6 * hour)
        view = stores.storage.conversations.for_user("ann")
        kept = {one.conversation_id: one for one in (await view.search()).results}
        ends = {key: (await stores.events.head(key)).next_id for key in kept}

    assert ends == {"c0": 7, "c1": 2, "silent": 0}
    assert kept["c0"].last_updated_at == NOON + 6 * hour
    assert kept["c0"].accumulated_cost == 0
    assert kept["c1"].last_message_at == NOON + 6 * hour
    assert kept["silent"].last_updated_at is None
    assert outcomes["c2"].result is Result.LEFT_OUT
    assert storage_problems(config_of("local", tmp_path / "new")) == []


class Weighed:
    """An event store that notes how many bytes of bodies each append of many has."""

    def __init__(self, events):
        self._events = events
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self._events, name)

    async def append_many(self, conversation_id, expected_next_id, events, **fields):
        self.sizes.append(sum(len(event.body) for event in events))
        await self._events.append_many(conversation_id, expected_next_id, events, **fields)


async def test_a_restore_holds_as_little_of_a_log_of_long_events(tmp_path):
    log = records(0, 120, "x" * 100_000)
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        view = stores.storage.conversations.for_user(None)
        await view.save_metadata(ConversationMetadata(conversation_id="c", created_at=NOON))
        for begin in range(0, 120, 40):
            part = log[begin : begin + 40]
            await stores.events.append_many("c", begin, part, summary=NO_CHANGE)
        await backed_up(stores, tmp_path / "backup")
    async with open_stores(config_of("local", tmp_path / "new")) as stores:
        events: Any = Weighed(stores.events)
        _, report = await restored(
            tmp_path / "backup", Stores(stores.storage, events, stores.workspaces)
        )

        assert await stores.events.read("c", 0, 120) == log
    assert report.is_complete
    assert max(events.sizes) <= HELD_BYTES + PART_BYTES + len(log[0].body)
    assert storage_problems(config_of("local", tmp_path / "new")) == []


async def test_a_damaged_conversation_is_named_and_keeps_no_other_out_of_a_backup(tmp_path, capsys):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores, conversations=4)
    with closing(sqlite3.connect(tmp_path / "old" / "parley.sqlite3")) as connection, connection:
        connection.execute("UPDATE conversations SET next_id = 5 WHERE conversation_id = 'c0001'")
        connection.execute("UPDATE events SET crc = 0 WHERE key = 3 << 32 | 4")
        connection.execute("UPDATE arrivals SET crc = 0 WHERE key = 3 << 32 | 4")
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")

    assert main(["verify", str(tmp_path / "backup")]) == 1
    told = capsys.readouterr().out
    assert "in conversation c0001" in told
    assert "damaged records 4-4 in conversation c0002" in told
    key = key_file_in(tmp_path / "old")
    assert key is not None
    keep_key_file(tmp_path / "new", key)
    async with open_stores(config_of("sqlite", tmp_path / "new")) as stores:
        outcomes, _ = await restored(tmp_path / "backup", stores)
        assert (await stores.events.head("c0003")).next_id == 235
        assert b"STORAGE$EVENT_DAMAGED" in (await stores.events.read("c0002", 4, 5))[0].body
    assert outcomes["c0001"].notes != ()


async def test_a_storage_that_holds_something_is_not_restored_into(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores, conversations=2)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
        before = await everything(stores)
        with pytest.raises(NotEmpty):
            await restored(tmp_path / "backup", stores)
        assert await everything(stores) == before


async def test_a_backup_that_fails_leaves_no_file_and_the_older_one(tmp_path):
    async def parts():
        yield b"begun"
        raise OSError("the disk is full")

    (tmp_path / "backup").write_bytes(b"older")
    with pytest.raises(OSError, match="full"):
        await write_archive(tmp_path / "backup", parts())

    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    assert (tmp_path / "backup").read_bytes() == b"older"


async def test_a_backup_on_a_full_disk_leaves_no_file_and_the_older_one(tmp_path):
    (tmp_path / "backup").write_bytes(b"older")
    # What is written to it finds no room.
    draft_of(tmp_path / "backup").symlink_to("/dev/full")
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores)
        with pytest.raises(OSError, match="No space left on device"):
            await backed_up(stores, tmp_path / "backup")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "old"]
    assert (tmp_path / "backup").read_bytes() == b"older"


async def test_an_archive_that_cannot_be_read_back_never_has_the_name(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores, conversations=2)
        parts = [part async for part in archive_of(stores)]

    async def damaged():
        for part in parts:
            yield part[:-1] + bytes([part[-1] ^ 1])

    (tmp_path / "backup").write_bytes(b"older")
    with pytest.raises(DamagedArchive):
        await write_archive(tmp_path / "backup", damaged())

    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "old"]
    assert (tmp_path / "backup").read_bytes() == b"older"


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_the_id_of_a_deleted_conversation_is_spent_where_a_backup_was_restored(
    kind, tmp_path
):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores, conversations=2)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
    async with opened(kind, tmp_path / "new") as (stores, _):
        await restored(tmp_path / "backup", stores)
        for key in ("deleted-log", "deleted-record"):
            record = ConversationMetadata(conversation_id=key, created_at=NOON)
            for owner in (None, "ann"):
                view = stores.storage.conversations.for_user(owner)
                with pytest.raises(RecordDeleted):
                    await view.save_metadata(record)
            with pytest.raises(ConversationDeleted):
                await append(stores.events, key, records(0, 1))
        assert (await stores.storage.inventory.take()).conversations == 2


async def test_an_archive_without_deleted_conversations_of_the_first_version_is_restored(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores)
        expected = await everything(stores)
        await backed_up(stores, tmp_path / "backup", tmp_path / "old")
    writer = ArchiveWriter()
    with (tmp_path / "first").open("wb") as file:
        for frame in read_frames(tmp_path / "backup"):
            if frame.kind is Kind.MANIFEST:
                file.write(writer.begin(model_in(Manifest, frame).model_copy(update={"format": 1})))
            elif frame.kind is Kind.DONE:
                file.write(writer.done(model_in(Done, frame)))
            elif frame.kind not in (Kind.DELETED, Kind.END):
                file.write(writer.frame(*frame))
        file.write(writer.end())
    key = key_file_in(tmp_path / "old")
    assert key is not None
    keep_key_file(tmp_path / "new", key)
    async with open_stores(config_of("local", tmp_path / "new")) as stores:
        await restored(tmp_path / "first", stores)
        found = await everything(stores)
    assert (expected.pop("deleted"), found.pop("deleted")) == (
        ["deleted-log", "deleted-record"],
        [],
    )
    assert found == expected


async def test_a_conversation_deleted_during_a_backup_is_restored_as_it_was_read_or_is_spent(
    tmp_path,
):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        ids = await fill(stores, conversations=3)
        parts = []
        async for part in archive_of(stores, key_file_in(tmp_path / "old")):
            parts.append(part)
            if part[0] == Kind.DONE and ids:
                while ids:
                    await stores.events.delete(ids.pop())
        (tmp_path / "backup").write_bytes(b"".join(parts))
    verify(tmp_path / "backup")
    async with open_stores(config_of("local", tmp_path / "new", "a passphrase")) as stores:
        outcomes, _ = await restored(tmp_path / "backup", stores)
        (kept,) = [one async for one in stores.records()]
        assert await stores.storage.conversations.deleted() == [
            *(one for one in ("c0000", "c0001", "c0002") if one != kept.conversation_id),
            *("deleted-log", "deleted-record"),
        ]
    results = {key: one.result for key, one in outcomes.items()}
    assert results.pop(kept.conversation_id) is Result.COPIED
    assert [*results.values()] == [Result.LEFT_OUT, Result.LEFT_OUT]
    assert storage_problems(config_of("local", tmp_path / "new", "a passphrase")) == []


async def test_nothing_that_was_sealed_is_readable_in_an_archive(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
        await fill(stores)
        await backed_up(stores, tmp_path / "backup")
    bodies = b"".join(frame.body for frame in read_frames(tmp_path / "backup"))
    for secret in (b"secret of ann", b"key of ann", b"a.txt", bytes(range(256))):
        assert secret not in bodies


def test_the_commands_back_up_verify_and_restore(tmp_path, capsys):
    async def filled():
        async with open_stores(config_of("sqlite", tmp_path / "old")) as stores:
            await fill(stores)

    asyncio.run(filled())
    file = str(tmp_path / "backup")

    assert main(["backup", file, "--data-dir", str(tmp_path / "old")]) == 0
    assert main(["verify", file]) == 0
    assert capsys.readouterr().out.count("12 conversations, ") == 2
    new = ["--storage", "local", "--data-dir", str(tmp_path / "new")]
    assert main(["restore", file, *new]) == 0
    assert (tmp_path / "new" / KEY_NAME).read_bytes() == (tmp_path / "old" / KEY_NAME).read_bytes()
    assert main(["check", *new]) == 0
    assert main(["restore", file, *new]) == 2
    assert "holds conversations" in capsys.readouterr().err
    assert main(["restore", file, "--at", "2026-05-04", "--data-dir", "x"]) == 2
    assert "--at: a time needs a zone" in capsys.readouterr().err
