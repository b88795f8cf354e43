"""The check of a database: its contents, and the problems of each kind of record."""

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from events.checkpoints import Checkpoint
from events.conformance.records import append, key, records
from events.stores.base import MEMORY, PARTIALS, Aside
from events.stores.database.append import aside_checksum
from events.stores.database.check import check_database_logs
from events.stores.database.store import DatabaseEventStore
from events.stores.opening import storage_problems
from storage.audit.base import AuditRecord
from storage.backends import backend_of
from storage.backends.base import OpenedDatabase
from storage.config import LocalStorage, MemoryStorage, SqliteStorage
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.errors import Damaged, Unavailable
from storage.opening import open_storage
from storage.usage.model import ConversationUsage, UsageLine
from storage.users import CustomSecret, Secrets
from storage.workspaces.database import DatabaseWorkspaces
from storage.workspaces.manifest import BLOB_BYTES
from storage.workspaces.snapshot import Snapshot

NAME = "parley.sqlite3"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ACT = AuditRecord(
    at=NOON, last_at=NOON, who="ann", client=None, action="drain", outcome="done", acting=True
)


@pytest.fixture
async def filled(tmp_path):
    """A data directory with two logs, their records, a workspace, a user's secrets and an act."""
    async with open_storage(SqliteStorage(data_dir=tmp_path)) as storage:
        assert isinstance(storage, OpenedDatabase)
        events = DatabaseEventStore(storage.database)
        for name in ("b", "c"):
            record = ConversationMetadata(conversation_id=name, title=name)
            await storage.conversations.for_user("ann").save_metadata(record)
            await append(events, name, records(0, 10), keys={3: key("k")})
        workspaces = DatabaseWorkspaces(storage.database, storage.key)
        await workspaces.save("b", Snapshot(files={"a": b"1" * BLOB_BYTES, "b": b"2"}))
        secrets = Secrets(custom_secrets={"t": CustomSecret(value=SecretStr("x"))})
        await storage.secrets.for_user("ann").store(secrets)
        await storage.audit.add(ACT)
        line = UsageLine(day=NOON.date(), model="m", events=10, cost=0.1)
        usage = ConversationUsage(conversation_id="b", user_id="ann", position=10, lines=(line,))
        await storage.usage.save(usage, 0)
        checkpoint = Checkpoint(12, ()).encode()
        asides = [Aside("b", MEMORY, b"m"), Aside("b", PARTIALS, checkpoint)]
        await events.put_asides(asides)
        await events.place_arrivals()
        await append(events, "c", records(10, 2))
    return tmp_path


def change(folder, statement):
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount != 0


def problems(folder):
    return storage_problems(SqliteStorage(data_dir=folder))


async def test_a_sound_database_is_found_sound_and_is_not_changed(filled):
    before = {path.name: path.read_bytes() for path in filled.iterdir()}

    assert problems(filled) == []
    assert (
        backend_of(SqliteStorage(data_dir=filled)).describe()
        == f"ok, 2 conversations, 22 events in {NAME}"
    )

    assert {path.name: path.read_bytes() for path in filled.iterdir()} == before


DAMAGES = {
    "a body": (
        "UPDATE events SET body = CAST('x' AS BLOB) WHERE key IN (2 << 32 | 4, 2 << 32 | 5)",
        "damaged records 4-5 in conversation c",
    ),
    "an arrival": (
        "UPDATE arrivals SET crc = 0 WHERE key & 4294967295 = 11",
        "damaged records 11-11 in conversation c",
    ),
    "an id that is no number": (
        "UPDATE arrivals SET key = 'x' WHERE key & 4294967295 = 11",
        "1 events have an id that is no number",
    ),
    "an id far away": (
        "UPDATE arrivals SET key = 2 << 32 | 4000000000 WHERE key & 4294967295 = 11",
        "damaged records 11-4000000000 in conversation c",
    ),
    "a lost event": (
        "DELETE FROM events WHERE key = 2 << 32 | 7",
        "damaged records 7-7 in conversation c",
    ),
    "a head too low": (
        "UPDATE conversations SET next_id = 5 WHERE conversation_id = 'c'",
        "c: the head says it ends before 5, its events end before 12",
    ),
    "a head too high": (
        "UPDATE conversations SET next_id = 15 WHERE conversation_id = 'c'",
        "c: the head says it ends before 15, its events end before 12",
    ),
    "an id given twice": (
        "INSERT INTO arrivals SELECT 999, * FROM events WHERE key = 2 << 32 | 4",
        "damaged records 4-4 in conversation c: ids given twice",
    ),
    "a lost log": (
        "DELETE FROM events WHERE key >> 32 = 1",
        "damaged records 0-9 in conversation b: none is there",
    ),
    "a lost head": (
        "DELETE FROM conversations WHERE conversation_id = 'b'",
        "events 0-9 belong to no conversation (number 1)",
    ),
    "a key": (
        "UPDATE client_ids SET event_id = 20 WHERE conversation = 2",
        "damaged records 20-20 in conversation c: keys of events beyond its end",
    ),
    "a record": (
        "UPDATE conversations SET custom = '{' WHERE conversation_id = 'b'",
        "the record of conversation b cannot be read",
    ),
    "an aside": (
        "UPDATE asides SET body = CAST('n' AS BLOB) WHERE name = 'memory'",
        "the aside memory of conversation b fails its checksum",
    ),
    "an aside of another type": (
        "UPDATE asides SET body = 'm' WHERE name = 'memory'",
        "the aside memory of conversation b fails its checksum",
    ),
    "the name of an aside": (
        "UPDATE asides SET name = 'memori' WHERE name = 'memory'",
        "the aside memori of conversation b is none that a server writes",
    ),
    "whose an aside is": (
        "UPDATE asides SET conversation = 9 WHERE name = 'memory'",
        "the aside memory belongs to no conversation (number 9)",
    ),
    "a checkpoint that is no object": (
        f"UPDATE asides SET crc = {aside_checksum('b', PARTIALS, b'{')}, body = X'7b' WHERE name = 'partials'",  # noqa: S608
        "the aside partials of conversation b is no JSON object",
    ),
    "a user's secrets": (
        "UPDATE user_records SET body = CAST('x' AS BLOB)",
        "fails its checksum or has an unknown format version",
    ),
    "the name of a workspace's file": (
        "UPDATE workspace_blobs SET name = CAST(X'ff' AS TEXT) WHERE name = (SELECT max(name) FROM workspace_blobs)",
        "the workspace of b lacks 1 of its blobs",
    ),
    "an act": ("UPDATE audit SET body = '{}'", "audit record 1 cannot be read"),
    "an act that reads well": (
        "UPDATE audit SET body = replace(body, 'drain', 'drawn')",
        "audit record 1 fails its checksum",
    ),
    "the class of an act": ("UPDATE audit SET acting = 0", "audit record 1 fails its checksum"),
    "an aside of another log": (
        "UPDATE asides SET conversation = 2 WHERE name = 'memory'",
        "the aside memory of conversation c fails its checksum",
    ),
    "a sum of usage": (
        "UPDATE usage_positions SET cost = cost + 1e-12",
        "the usage of conversation b fails its checksum",
    ),
    "a line of usage": (
        "UPDATE usage_lines SET model = 'other'",
        "the usage of conversation b fails its checksum",
    ),
    "usage": (
        "INSERT INTO usage_lines VALUES ('c', 'today', '', 1, 0, 0, 0, NULL)",
        "the usage of conversation c cannot be read",
    ),
    "a missing table": ("DROP TABLE audit", f"{NAME}: the table audit is missing"),
    "a missing index": (
        "DROP INDEX usage_lines_by_day",
        f"{NAME}: the index usage_lines_by_day is missing",
    ),
    "a changed table": (
        "ALTER TABLE audit ADD COLUMN more TEXT",
        f"{NAME}: the table audit is not as this version made it",
    ),
    "a strange table": (
        "CREATE TABLE more (a)",
        f"{NAME}: the table more is none of this server's",
    ),
    "a newer version": (
        "INSERT INTO migrations VALUES (9999, '9999_more.sql', 'x')",
        f"{NAME}: the database is from a newer version (migration 9999_more.sql)",
    ),
    "a changed migration": (
        "UPDATE migrations SET checksum = 'x' WHERE number = 2",
        f"{NAME}: the applied migration 0002_list_filters.sql differs from this version's",
    ),
    "a lost table of migrations": (
        "DROP TABLE migrations",
        f"{NAME}: the table migrations is missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_check_names_whatever_is_damaged(filled, damage):
    statement, expected = DAMAGES[damage]
    change(filled, statement)

    found = problems(filled)

    assert any(one.endswith(expected) for one in found), found


HEADS = {
    "next_id": ("'5'", "-1", "1.5", "X'05'", "CAST(X'35ff' AS TEXT)"),
    "last_state_id": ("'x'", "-1", "3", "4", "1.5"),
    "epoch": ("''", "'abc'", "7", "X'00'", "CAST(X'ff' AS TEXT)"),
    "fence": ("'abc'", "-1", "1.5", "X'01'", "''"),
    "holder": ("'abc'", "-1", "1.5", "X'01'"),
    "masks": ("'abc'", "-1", "1.5", "X'01'", "''"),
    "deleted_at": ("'now'", "''", "5", "X'00'"),
    "purged": ("1", "2", "'x'", "-1"),
    "recorded": ("0", "2", "'x'", "-1"),
    "folded_title": ("NULL", "'C'", "'other'", "X'63'", "CAST(X'ff' AS TEXT)"),
    "created_at": ("NULL", "'2026'", "'x'", "7", "1.5", "X'00'", "CAST(X'ff' AS TEXT)"),
    "title": ("'C'", "CAST(X'ff' AS TEXT)", "X'ff'"),
    "user_id": ("NULL", "'bob'", "CAST(X'ff' AS TEXT)", "X'ff'"),
    "selected_repository": ("'x'", "''", "X'00'"),
    "selected_branch": ("'x'", "CAST(X'ff' AS TEXT)"),
    "llm_model": ("'x'", "1.5"),
    "sandbox_id": ("'x'", "X'00'"),
    "conversation_version": ("'x'", "7"),
    "checksum": ("0", "NULL", "'x'", "CAST(X'ff' AS TEXT)"),
    "git_provider": ("'x'", "CAST(X'ff' AS TEXT)"),
    "trigger_kind": ("'x'", "X'00'"),
    "pr_number": ("'x'", "'[-1]'", "'{}'", f"'{'[' * 100_000}'"),
    "custom": ("'[]'", "'{'", f"'{'[' * 100_000}'", "CAST(X'ff' AS TEXT)"),
    "last_updated_at": ("'x'", "7", "''", "CAST(X'ff' AS TEXT)"),
    "last_message_at": ("'x'", "7", "''", "CAST(X'ff' AS TEXT)"),
    "accumulated_cost": ("'x'", "9e999", "X'00'"),
    "prompt_tokens": ("'x'", "-1", "1.5"),
    "completion_tokens": ("'x'", "-1", "1.5"),
    "total_tokens": ("'x'", "-1", "1.5"),
}
"""Columns of a conversation's row, and values that none of them may have."""
UNCHECKED = {"number", "conversation_id"}
"""The keys of a row, which are those of its log."""


@pytest.mark.parametrize("column", HEADS)
async def test_a_check_names_the_conversation_of_any_damaged_column(filled, column):
    with closing(sqlite3.connect(filled / NAME, isolation_level=None)) as connection:
        (sound,) = connection.execute(
            f"SELECT {column} FROM conversations WHERE conversation_id = 'c'"  # noqa: S608
        ).fetchone()
        for value in HEADS[column]:
            changed = f"UPDATE conversations SET {column} = {value} WHERE conversation_id = 'c'"  # noqa: S608
            change(filled, changed)
            found = problems(filled)
            named = {name for one in found for name in re.findall(r"conversation (\w+)", one)}
            assert named == {"c"}, value
            connection.execute(
                f"UPDATE conversations SET {column} = ? WHERE conversation_id = 'c'",  # noqa: S608
                (sound,),
            )
        assert problems(filled) == []


async def test_a_check_looks_at_every_column_of_a_conversation(filled):
    with closing(sqlite3.connect(filled / NAME)) as connection:
        rows = connection.execute("PRAGMA table_info(conversations)").fetchall()

    assert {row[1] for row in rows} == {*HEADS} | UNCHECKED


async def test_a_deleted_conversation_is_no_damage_while_its_events_are_being_removed(filled):
    change(
        filled,
        "UPDATE conversations SET deleted_at = '2026-05-04T12:00:00.000000Z', recorded = 0,"
        " title = NULL, folded_title = NULL WHERE number = 1",
    )

    assert problems(filled) == []


async def test_progress_is_told_for_every_kind_of_record(filled):
    seen = {}

    def track(items, subject, total):
        seen[subject] = [total, 0]
        for item in items:
            seen[subject][1] += 1
            yield item

    assert storage_problems(SqliteStorage(data_dir=filled), track) == []
    assert seen == {
        "records": [2, 2],
        "users": [1, 1],
        "usage": [1, 1],
        "audit": [1, 1],
        "workspaces": [1, 1],
        "files of workspaces": [2, 2],
        "events": [22, 22],
        "asides": [2, 2],
    }


async def test_what_a_directory_lacks_is_said(tmp_path):
    gone = tmp_path / "gone"
    for kind, name in ((SqliteStorage, NAME), (LocalStorage, "files")):
        assert backend_of(kind(data_dir=gone)).describe() == (
            f"no data in {gone} yet: it does not exist"
        )
        assert backend_of(kind(data_dir=tmp_path)).describe() == (
            f"no data in {tmp_path} yet: no {name} in it"
        )
        assert storage_problems(kind(data_dir=gone)) == []
    assert not gone.exists()
    assert backend_of(MemoryStorage()).describe() == "ok, in memory only"


@pytest.fixture
def misnamed(filled):
    """A database whose schema names a table that SQLite cannot read, in bytes that are no text."""
    with closing(sqlite3.connect(filled / NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        changed = (
            "UPDATE sqlite_master SET name = CAST(X'c561' AS TEXT), sql = 'x' WHERE name = 'audit'"
        )
        assert connection.execute(changed).rowcount == 1
    return filled


async def test_a_schema_that_is_damaged_is_told_whatever_bytes_its_names_have(misnamed):
    assert [one.startswith(f"{NAME} cannot be read") for one in problems(misnamed)] == [True]
    described = backend_of(SqliteStorage(data_dir=misnamed)).describe()
    assert described.endswith(f" bytes in {NAME}")
    with pytest.raises(Unavailable, match=f"cannot open {NAME}"):
        async with open_storage(SqliteStorage(data_dir=misnamed)):
            pass


async def test_an_empty_file_is_no_database(tmp_path):
    (tmp_path / NAME).touch()

    assert problems(tmp_path) == [f"{NAME} is empty: 0 bytes, where a database should be"]
    assert backend_of(SqliteStorage(data_dir=tmp_path)).describe() == f"ok, 0 bytes in {NAME}"


async def test_a_database_that_lost_its_log_in_a_crash_says_so(tmp_path, caplog):
    async with open_storage(SqliteStorage(data_dir=tmp_path / "one")) as storage:
        ann = storage.conversations.for_user("ann")
        await ann.save_metadata(ConversationMetadata(conversation_id="c"))
        shutil.copytree(tmp_path / "one", tmp_path / "killed")
        assert problems(tmp_path / "one") == []
    assert problems(tmp_path / "killed") == []
    (tmp_path / "killed" / f"{NAME}-wal").unlink()
    (tmp_path / "killed" / f"{NAME}-shm").unlink()

    told = f"{NAME} was not closed in order, and its write-ahead log is missing"
    assert problems(tmp_path / "killed")[0].startswith(told)
    async with open_storage(SqliteStorage(data_dir=tmp_path / "killed")):
        assert [one for one in caplog.messages if one.startswith(told)]
    assert problems(tmp_path / "killed") == problems(tmp_path / "one") == []


async def test_a_broken_log_of_writes_is_named(tmp_path):
    async with open_storage(SqliteStorage(data_dir=tmp_path / "one")) as storage:
        for number in range(9):
            record = ConversationMetadata(conversation_id=f"c{number}")
            await storage.conversations.for_user("ann").save_metadata(record)
        shutil.copytree(tmp_path / "one", tmp_path / "killed")
    wal = tmp_path / "killed" / f"{NAME}-wal"
    content = bytearray(wal.read_bytes())
    content[-6000] ^= 1
    wal.write_bytes(content)

    (first, *_) = backend_of(SqliteStorage(data_dir=tmp_path / "killed")).check()
    assert first.startswith("the write-ahead log is broken after")


async def test_a_database_beside_which_no_file_can_be_made_is_read_if_it_was_closed(filled):
    # As on a medium that is mounted read-only: SQLite cannot make the files it wants.
    (filled / f"{NAME}-shm").symlink_to(filled / "missing" / "file")
    (filled / f"{NAME}-wal").touch()
    assert problems(filled) == []

    (filled / f"{NAME}-wal").write_bytes(b"x" * 5000)
    found = [one for one in problems(filled) if "cannot be read" in one]
    assert "copy the data directory to where it can be written" in found[0]
    assert check_database_logs(filled / NAME) == []


@pytest.mark.parametrize(
    ("of_record", "of_act"),
    [
        ("llm_model = 'other'", "body = replace(body, 'drain', 'drawn')"),
        ("checksum = NULL", "checksum = NULL"),
    ],
)
async def test_a_damaged_row_is_not_made_sound_by_what_is_written_over_it(
    of_record, of_act, filled
):
    change(filled, f"UPDATE conversations SET {of_record} WHERE conversation_id = 'c'")  # noqa: S608
    change(filled, f"UPDATE audit SET {of_act}")  # noqa: S608

    async with open_storage(SqliteStorage(data_dir=filled)) as storage:
        await storage.conversations.for_user("ann").update_metadata("c", MetadataChange(title="t"))
        await storage.audit.change(ACT.model_copy(update={"id": 1}))

    assert {one.rpartition(": ")[2] for one in problems(filled)} == {
        "the record of conversation c fails its checksum",
        "audit record 1 fails its checksum",
    }


async def test_usage_and_acts_that_fail_their_checksums_are_not_served(filled, caplog):
    change(filled, "UPDATE audit SET body = replace(body, 'drain', 'drawn')")
    change(filled, "UPDATE usage_lines SET events = 9")

    async with open_storage(SqliteStorage(data_dir=filled)) as storage:
        with pytest.raises(Damaged, match="the usage of conversation b fails its checksum"):
            await storage.usage.load("b")
        assert await storage.audit.page(9, 9) == []

    assert "left out of the audit: record 1 fails its checksum" in caplog.text
