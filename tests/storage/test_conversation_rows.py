"""Records that share their row with the head of a log."""

import logging
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from storage.conversations.database import DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.database.base import Database, Statement, Steps, load_queries, rerunnable
from storage.database.sqlite import SqliteDatabase
from storage.errors import ConversationDeleted, Damaged

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "parley.db"


@pytest.fixture
async def database(path):
    opened = await SqliteDatabase.open(path)
    yield opened
    await opened.close()


@pytest.fixture
def store(database):
    return DatabaseConversationStores(database).for_user("ann")


async def append(database: Database, conversation_id: str, *, cost: float) -> None:
    head = (
        "2026-05-04T12:00:01.000000Z",
        cost,
        3,
        4,
        7,
        None,
        conversation_id,
        0,
        None,
        None,
        None,
        None,
    )

    @rerunnable
    def script() -> Steps[None]:
        yield Statement("create_head", (conversation_id,))
        assert (yield Statement("advance_head", (1, None, None, None, None, *head))).rows

    await database.write(script())


def spoil(path, column: str, value: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE conversations SET {column} = ?", (value,))  # noqa: S608
    connection.close()


async def test_saving_and_updating_leave_the_fold_of_a_begun_log_alone(database, store):
    await store.save_metadata(ConversationMetadata(conversation_id="c", accumulated_cost=9))
    await append(database, "c", cost=1.5)

    stale = ConversationMetadata(conversation_id="c", title="t", accumulated_cost=9, total_tokens=9)
    await store.save_metadata(stale)
    updated = await store.update_metadata("c", MetadataChange(selected_branch="b", total_tokens=8))

    assert updated == await store.get_metadata("c") == (await store.search()).results[0]
    assert (updated.title, updated.selected_branch) == ("t", "b")
    assert (updated.accumulated_cost, updated.total_tokens) == (1.5, 7)
    assert updated.last_updated_at == NOON + timedelta(seconds=1)


async def test_a_record_saved_after_its_log_began_shows_the_fold(database, store):
    await append(database, "c", cost=2)
    assert not await store.exists("c")
    assert (await store.search()).results == []

    await store.save_metadata(ConversationMetadata(conversation_id="c"))

    assert (await store.get_metadata("c")).accumulated_cost == 2


async def test_a_log_without_an_owner_is_not_a_record_of_nobody(database):
    await append(database, "c", cost=2)

    nobody = DatabaseConversationStores(database).for_user(None)

    assert not await nobody.exists("c")
    assert (await nobody.search()).results == []


async def test_deleting_a_record_buries_its_log(database, store):
    await store.save_metadata(ConversationMetadata(conversation_id="c", title="private"))
    await append(database, "c", cost=2)

    await store.delete_metadata("c")

    @rerunnable
    def head() -> Steps[list[tuple[object, ...]]]:
        return (yield Statement("read_head", ("c",))).rows

    assert (await database.read(head()))[0][4] is not None
    with pytest.raises(ConversationDeleted):
        await store.save_metadata(ConversationMetadata(conversation_id="c"))


@pytest.mark.parametrize(
    ("column", "value"),
    [("custom", "{"), ("git_provider", "sourceforge"), ("prompt_tokens", -1), ("title", b"\xff")],
)
async def test_a_damaged_record_is_named_and_does_not_hide_the_others(
    database, store, path, caplog, column, value
):
    await store.save_metadata(ConversationMetadata(conversation_id="broken"))
    spoil(path, column, value)
    await store.save_metadata(ConversationMetadata(conversation_id="whole"))

    with pytest.raises(Damaged, match="broken"):
        await store.get_metadata("broken")
    with pytest.raises(Damaged, match="broken"):
        await store.get_all_metadata(["whole", "broken"])
    with caplog.at_level(logging.ERROR):
        page = await store.search()

    assert [metadata.conversation_id for metadata in page.results] == ["whole"]
    assert "broken" in caplog.text


@pytest.mark.parametrize("owner", ["ann", None])
async def test_a_page_is_read_in_the_order_of_the_index(database, path, owner):
    connection = sqlite3.connect(path)
    query = "EXPLAIN QUERY PLAN " + load_queries()["list_records"]
    plan = connection.execute(query, (owner, "~", "", None, None, None, None, 21)).fetchall()
    connection.close()

    assert len(plan) == 1
    assert "USING INDEX conversations_by_owner" in plan[0][3]
    assert "(user_id=? AND (created_at,conversation_id)<(?,?))" in plan[0][3]
