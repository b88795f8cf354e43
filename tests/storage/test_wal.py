"""A WAL that SQLite ends too early, for a bit that was flipped: what stands behind is told."""

import shutil
import sqlite3
import tracemalloc
from contextlib import closing

import pytest

from events.conformance.records import append, records
from events.stores.database.store import DatabaseEventStore
from storage.database.sqlite import SqliteDatabase
from storage.database.wal import NO_FRAMES, read_wal, wal_of

HEADER, FRAME, PAGE = 32, 24, 4096


def place(frame, byte):
    """Return the place of a byte of a frame, counted from 0."""
    return HEADER + frame * (FRAME + PAGE) + byte


@pytest.fixture
async def killed(tmp_path):
    """A database whose process was killed after twenty commits of an event each."""
    path = tmp_path / "running" / "parley.db"
    path.parent.mkdir()
    database = await SqliteDatabase.open(path)
    store = DatabaseEventStore(database)
    for event_id in range(20):
        await append(store, "c", records(event_id, 1))
    copy = tmp_path / "killed" / "parley.db"
    copy.parent.mkdir()
    for one, other in ((path, copy), (wal_of(path), wal_of(copy))):
        shutil.copyfile(one, other)
    await database.close()
    return copy


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 4
    path.write_bytes(content)


def taken_by_sqlite(path):
    """Return the number of frames of its WAL that SQLite itself takes."""
    with closing(sqlite3.connect(path)) as connection:
        return max(connection.execute("PRAGMA wal_checkpoint").fetchone()[1], 0)


async def test_a_whole_wal_is_taken_to_its_last_commit(killed, caplog):
    found = read_wal(wal_of(killed))

    assert (found.behind, found.commits, found.problem()) == (0, 0, None)
    assert found.taken == taken_by_sqlite(killed) > 20
    await (await SqliteDatabase.open(killed)).close()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("frame", "byte"),
    [(9, 0), (9, 6), (9, 9), (9, 13), (9, 17), (9, 22), (9, 24), (9, 2000), (0, 99), (9, 4119)],
    ids=["page", "commit", "salt", "salt 2", "sum", "sum 2", "body", "body 2", "first", "last"],
)
async def test_a_flipped_bit_in_any_part_of_a_frame_is_told_at_the_start(
    killed, frame, byte, caplog
):
    flip(wal_of(killed), place(frame, byte))

    found = read_wal(wal_of(killed))
    assert found.taken <= frame < found.taken + found.behind + 2
    assert found.commits > 5
    await (await SqliteDatabase.open(killed)).close()

    (line,) = caplog.records
    assert line.levelname == "ERROR"
    assert f"parley.db: {found.problem()}" == line.getMessage()


@pytest.mark.parametrize("byte", range(2, HEADER, 5))
async def test_a_flipped_bit_in_the_header_is_told(killed, byte):
    flip(wal_of(killed), byte)

    found = read_wal(wal_of(killed))

    assert found.taken == 0
    assert found.commits > 5
    assert found.problem() is not None
    assert taken_by_sqlite(killed) == 0


@pytest.mark.parametrize("frame", [0, 7, 30])
async def test_frames_are_taken_as_far_as_sqlite_takes_them(killed, frame):
    flip(wal_of(killed), place(frame, 100))

    assert read_wal(wal_of(killed)).taken == taken_by_sqlite(killed)


async def test_a_write_that_was_cut_short_and_frames_of_an_earlier_round_are_no_damage(killed):
    wal = wal_of(killed)
    whole = wal.read_bytes()
    before = read_wal(wal)
    wal.write_bytes(whole[:-100])
    assert read_wal(wal).problem() is None

    earlier = bytearray(whole[place(0, 0) : place(3, 0)])
    for number in range(3):
        earlier[number * (FRAME + PAGE) + 11] ^= 1
    wal.write_bytes(whole + earlier)
    assert read_wal(wal) == before


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"\0" * 5000])
async def test_a_wal_without_frames_is_no_damage(tmp_path, content):
    assert read_wal(tmp_path / "missing-wal") == NO_FRAMES
    (tmp_path / "one-wal").write_bytes(content)

    assert read_wal(tmp_path / "one-wal").problem() is None


async def test_a_long_wal_is_read_without_holding_it(killed):
    """Whoever reads for long, such as a check, lets the WAL grow as long as it reads."""
    wal = wal_of(killed)
    whole = read_wal(wal)
    with wal.open("r+b") as file:
        file.truncate(64 * 1024 * 1024)

    tracemalloc.start()
    try:
        found = read_wal(wal)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found == whole
    assert peak_bytes < 4 * 1024 * 1024
