"""Migrations: numbered, checked, forward only."""

import sqlite3
import zlib
from contextlib import closing

import pytest

from events.stores.database.store import DatabaseEventStore
from events.stores.opening import storage_problems
from storage.backends.base import OpenedDatabase
from storage.config import SqliteStorage
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.paging import ConversationFilter, ListOrder
from storage.database.migrate import (
    SQLITE_MIGRATIONS,
    _apply,
    load_migrations,
    migrate_sqlite,
    statements_of,
)
from storage.database.row_checksums import row_checksum
from storage.database.sqlite import SqliteDatabase, connect_writer
from storage.errors import MigrationError
from storage.keys import DATABASE_NAME
from storage.opening import open_storage

FIRST = "CREATE TABLE a (x TEXT); -- a semicolon; in a comment\nINSERT INTO a VALUES (';');\n"
SECOND = "CREATE TABLE b (y TEXT);\n\nINSERT INTO b SELECT x FROM a;\n"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "0001_first.sql").write_text(FIRST)
    return path


@pytest.fixture
def connection(tmp_path):
    with closing(sqlite3.connect(tmp_path / "some.db", isolation_level=None)) as opened:
        yield opened


def tables(connection):
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in rows]


def applied(connection):
    return connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()


def test_a_new_database_gets_every_migration_in_order(connection, folder):
    (folder / "0002_second.sql").write_text(SECOND)

    migrate_sqlite(connection, folder)

    assert applied(connection) == [(1, "0001_first.sql"), (2, "0002_second.sql")]
    assert connection.execute("SELECT y FROM b").fetchall() == [(";",)]


def test_a_database_that_is_up_to_date_is_left_as_it_is(connection, folder):
    migrate_sqlite(connection, folder)
    before = connection.total_changes

    migrate_sqlite(connection, folder)

    assert connection.total_changes == before


def test_only_what_is_new_is_applied_to_an_older_database(connection, folder):
    migrate_sqlite(connection, folder)
    connection.execute("INSERT INTO a VALUES ('kept')")
    (folder / "0002_second.sql").write_text(SECOND)

    migrate_sqlite(connection, folder)

    assert connection.execute("SELECT y FROM b").fetchall() == [(";",), ("kept",)]


def test_a_database_of_a_newer_version_is_refused_and_untouched(connection, folder):
    (folder / "0002_second.sql").write_text(SECOND)
    migrate_sqlite(connection, folder)
    (folder / "0002_second.sql").unlink()

    with pytest.raises(MigrationError, match=r"newer version \(migration 0002_second"):
        migrate_sqlite(connection, folder)

    assert len(applied(connection)) == 2


def test_an_applied_migration_that_was_changed_since_is_refused(connection, folder):
    migrate_sqlite(connection, folder)
    (folder / "0001_first.sql").write_text(FIRST + "-- one more word\n")

    with pytest.raises(MigrationError, match="0001_first"):
        migrate_sqlite(connection, folder)


def test_a_migration_that_fails_in_the_middle_leaves_the_ones_before_it(connection, folder):
    (folder / "0002_second.sql").write_text(SECOND + "DROP TABLE nowhere;\n")

    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate_sqlite(connection, folder)

    assert applied(connection) == [(1, "0001_first.sql")]
    assert "b" not in tables(connection)
    assert not connection.in_transaction


def test_a_crash_between_two_migrations_is_taken_up_where_it_was(tmp_path, folder):
    (folder / "0002_second.sql").write_text(SECOND)
    path = tmp_path / "crashed.db"

    class Crash(Exception):
        pass

    class Dying(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if sql.startswith("CREATE TABLE b"):
                raise Crash
            return super().execute(sql, *arguments)

    dying = sqlite3.connect(path, isolation_level=None, factory=Dying)
    with closing(dying), pytest.raises(Crash):
        migrate_sqlite(dying, folder)

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert applied(connection) == [(1, "0001_first.sql")]
        migrate_sqlite(connection, folder)
        assert connection.execute("SELECT y FROM b").fetchall() == [(";",)]


@pytest.mark.parametrize("name", ["0003_hole.sql", "0001_again.sql", "0000_zero.sql"])
def test_migrations_are_numbered_from_one_without_a_hole(folder, name):
    (folder / name).write_text(SECOND)

    with pytest.raises(MigrationError, match="without a hole"):
        load_migrations(folder)


def test_files_of_other_kinds_are_no_migrations(folder):
    (folder / "README.md").write_text("words")

    assert [migration.name for migration in load_migrations(folder)] == ["0001_first.sql"]


def test_a_script_is_cut_at_its_statements_only():
    assert len(statements_of(FIRST + SECOND)) == 4


def test_a_script_that_ends_in_the_middle_of_a_statement_is_refused():
    with pytest.raises(MigrationError, match="middle"):
        statements_of("CREATE TABLE a (x TEXT);\nCREATE TABLE b (")


async def test_the_shipped_migrations_make_the_schema_and_open_again(tmp_path):
    for _ in range(2):
        database = await SqliteDatabase.open(tmp_path / "parley.db")
        await database.close()

    with closing(sqlite3.connect(tmp_path / "parley.db")) as connection:
        assert {"conversations", "events", "client_ids", "migrations"} <= set(tables(connection))


async def test_opening_a_newer_database_is_refused(tmp_path):
    database = await SqliteDatabase.open(tmp_path / "parley.db")
    await database.close()
    with closing(sqlite3.connect(tmp_path / "parley.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, '0099_future.sql', 'x')")

    with pytest.raises(MigrationError, match="0099_future"):
        await SqliteDatabase.open(tmp_path / "parley.db")


async def test_a_database_without_last_messages_lists_by_its_last_events(tmp_path):
    path = tmp_path / "parley.db"
    folder = tmp_path / "migrations"
    folder.mkdir()
    for migration in load_migrations(SQLITE_MIGRATIONS)[:8]:
        (folder / migration.name).write_text(migration.text)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate_sqlite(connection, folder)
        for key, created, updated in (("a", 1, 9), ("b", 2, None), ("c", 3, 4)):
            connection.execute(
                "INSERT INTO conversations (conversation_id, recorded, created_at, last_updated_at)"
                " VALUES (?, 1, ?, ?)",
                (key, moment(created), None if updated is None else moment(updated)),
            )

    database = await SqliteDatabase.open(path)
    try:
        store = DatabaseConversationStores(database).for_user(None)
        page = await store.search(filters=ConversationFilter(order=ListOrder.LAST_MESSAGE))
    finally:
        await database.close()

    assert [found.conversation_id for found in page.results] == ["a", "c", "b"]
    assert page.results[1].last_message_at == page.results[1].last_updated_at


def moment(minute):
    return f"2026-05-04T12:{minute:02}:00.000000Z"


def old_database(path, applied):
    """A database as a version with so many migrations left it."""
    connection = connect_writer(path)
    _apply(connection, load_migrations(SQLITE_MIGRATIONS)[:applied])
    return closing(connection)


async def test_titles_that_an_older_version_folded_are_found_without_what_is_not_shown(tmp_path):
    titles = ["a\u00adb", "plain", "\u00c4rger\u200b", "gone"]
    with old_database(tmp_path / DATABASE_NAME, 12) as connection:
        for number, title in enumerate(titles):
            connection.execute(
                "INSERT INTO conversations (conversation_id, recorded, created_at, title,"
                " folded_title) VALUES (?, 1, '2026-05-04T12:00:00.000000Z', ?, lower(?))",
                (f"c{number}", title, title),
            )
        connection.execute(
            "UPDATE conversations SET title = CAST(X'41c2' AS TEXT) WHERE conversation_id = 'c3'"
        )

    assert len(storage_problems(SqliteStorage(data_dir=tmp_path))) == 1
    async with open_storage(SqliteStorage(data_dir=tmp_path)) as storage:
        store = storage.conversations.for_user(None)
        for text, found in (("ab", ["c0"]), ("\u00e4rger", ["c2"]), ("plain", ["c1"])):
            page = await store.search(filters=ConversationFilter(title_contains=text))
            assert [one.conversation_id for one in page.results] == found


@pytest.mark.parametrize("applied", range(3, len(load_migrations(SQLITE_MIGRATIONS)) + 1))
def test_a_check_finds_nothing_wrong_with_what_an_older_version_has_made(applied, tmp_path):
    with old_database(tmp_path / DATABASE_NAME, applied) as connection:
        connection.execute(
            "INSERT INTO conversations (conversation_id, recorded, created_at, title)"
            " VALUES ('c', 1, '2026-05-04T12:00:00.000000Z', 'a')"
        )
        if applied >= 10:
            connection.execute("UPDATE conversations SET folded_title = 'a'")
        if applied >= 17:
            moment = b"2026-05-04T12:00:00.000000Z"
            row = (b"c", None, moment, b"a", *[None] * 4, b"[]", *[None] * 3, b"{}")
            crc = row_checksum(*row)
            connection.execute("UPDATE conversations SET checksum = ?", (crc,))

    assert storage_problems(SqliteStorage(data_dir=tmp_path)) == []


async def test_checksums_of_asides_name_their_log_after_a_migration_and_damage_stays(tmp_path):
    with old_database(tmp_path / DATABASE_NAME, 16) as connection:
        connection.execute(
            "INSERT INTO conversations (conversation_id, recorded, created_at)"
            " VALUES ('c', 1, '2026-05-04T12:00:00.000000Z')"
        )
        rows = [(1, "memory", zlib.crc32(b"m"), b"m"), (1, "partials", zlib.crc32(b"x"), b"{}")]
        connection.executemany("INSERT INTO asides VALUES (?, ?, ?, ?)", rows)

    async with open_storage(SqliteStorage(data_dir=tmp_path)) as storage:
        assert isinstance(storage, OpenedDatabase)
        found = await DatabaseEventStore(storage.database).asides("c")

    assert found == {"memory": b"m"}
    (problem,) = storage_problems(SqliteStorage(data_dir=tmp_path))
    assert problem.endswith("the aside partials of conversation c fails its checksum")
