"""Rows of a database that hold what they should not: each is told or left out, its neighbours served."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime

import pytest
from pydantic import SecretStr

from storage.audit.base import AuditRecord
from storage.config import SqliteStorage
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter, ListOrder
from storage.errors import Damaged
from storage.keys import DATABASE_NAME, owner_part
from storage.opening import open_storage
from storage.usage.model import ConversationUsage, UsageLine
from storage.users import CustomSecret, Secrets, Settings

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ACT = AuditRecord(
    at=NOON, last_at=NOON, who="ann", client=None, action="drain", outcome="done", acting=True
)
SECRETS = Secrets(custom_secrets={"t": CustomSecret(value=SecretStr("a secret value"))})
SECRETS_OF = "UPDATE user_records SET body = VALUE WHERE kind = 'secrets' AND owner = 'VALUE'"
ODD_VALUES = ("5", "0.5", "'text'", "zeroblob(0)")


@pytest.fixture
async def storage(tmp_path):
    async with open_storage(SqliteStorage(data_dir=tmp_path)) as opened:
        yield opened


@pytest.fixture
def change(tmp_path):
    def change(statement, *values):
        for value in values:
            statement = statement.replace("VALUE", value, 1)
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as connection:
            assert connection.execute(statement).rowcount == 1

    return change


def counted(name, line):
    return ConversationUsage(conversation_id=name, user_id="ann", position=1, lines=(line,))


@pytest.mark.parametrize("value", ODD_VALUES)
async def test_a_user_record_of_another_type_is_damaged_and_not_written_over(
    storage, change, value
):
    await storage.secrets.for_user("ann").store(SECRETS)
    await storage.settings.for_user("ann").store(Settings())
    await storage.secrets.for_user("bob").store(SECRETS)
    change(SECRETS_OF, value, owner_part("ann"))

    with pytest.raises(Damaged):
        await storage.secrets.for_user("ann").load()
    with pytest.raises(Damaged):
        await storage.secrets.for_user("ann").update(lambda _: Secrets())
    assert await storage.settings.for_user("ann").load() == Settings()
    assert await storage.secrets.for_user("bob").load() == SECRETS


DAMAGED_RECORDS = {
    "no text": "title = CAST(x'41ff' AS TEXT)",
    "no JSON": "custom = '['",
    "no number": "accumulated_cost = 'x'",
    "no creation": "created_at = '2026-0x'",
    "a creation that is no text": "created_at = CAST(x'323032362d30ff31' AS TEXT)",
    "no last message": "last_message_at = '2026-0x'",
    "a last message that is no text": "last_message_at = CAST(x'323032362d3080' AS TEXT)",
}


@pytest.mark.parametrize("order", ListOrder)
@pytest.mark.parametrize("damage", DAMAGED_RECORDS.values(), ids=DAMAGED_RECORDS)
async def test_lists_leave_out_records_that_cannot_be_read_wherever_a_page_ends(
    storage, change, damage, order, caplog
):
    ann = storage.conversations.for_user("ann")
    for number in range(6):
        await ann.save_metadata(
            ConversationMetadata(
                conversation_id=f"c{number}", title="A title", created_at=NOON, custom={"a": 1}
            )
        )
    for name in ("c2", "c3"):
        change("UPDATE conversations SET VALUE WHERE conversation_id = 'VALUE'", damage, name)

    for limit in (1, 2, 3, 10):
        for filters in (
            ConversationFilter(order=order),
            ConversationFilter(order=order, title_contains="title"),
        ):
            found, page_id = [], None
            while True:
                page = await ann.search(page_id, limit, filters=filters)
                assert len(page.results) <= limit
                found += [one.conversation_id for one in page.results]
                page_id = page.next_page_id
                if page_id is None:
                    break
            assert found == ["c5", "c4", "c1", "c0"]
    all_owners = await storage.conversations.search_all(None, 10)
    assert [one.conversation_id for one in all_owners.results] == ["c5", "c4", "c1", "c0"]
    assert "left out of a list" in caplog.text
    with pytest.raises(Damaged):
        await ann.get_metadata("c2")


async def test_a_record_whose_text_is_damaged_can_be_deleted_and_written_anew(storage, change):
    ann = storage.conversations.for_user("ann")
    for name in ("a", "b"):
        await ann.save_metadata(ConversationMetadata(conversation_id=name, title=name))
        change(
            "UPDATE conversations SET title = CAST(x'ff' AS TEXT) WHERE conversation_id = 'VALUE'",
            name,
        )

    await ann.delete_metadata("a")
    await ann.save_metadata(ConversationMetadata(conversation_id="b", title="again"))

    assert not await ann.exists("a")
    assert (await ann.get_metadata("b")).title == "again"


@pytest.mark.parametrize("value", ["'{}'", *ODD_VALUES])
async def test_an_audit_record_that_cannot_be_read_is_left_out(storage, change, value, caplog):
    added = [await storage.audit.add(ACT) for _ in range(3)]
    change("UPDATE audit SET body = VALUE WHERE id = 2", value)

    assert await storage.audit.page(100, 10) == [added[2], added[0]]
    assert "record 2" in caplog.text


async def test_usage_that_cannot_be_read_is_damaged_and_left_out_of_the_totals(
    storage, change, caplog
):
    day = date(2026, 5, 4)
    for name in ("a", "b"):
        await storage.usage.save(counted(name, UsageLine(day=day, events=1)), 0)
    change("UPDATE usage_lines SET day = '2026-05-0x' WHERE conversation_id = 'b'")

    with pytest.raises(Damaged):
        await storage.usage.load("b")
    assert [(one.day, one.events) for one in await storage.usage.totals()] == [(day, 1)]
    assert "2026-05-0x" in caplog.text


async def test_totals_are_told_although_tokens_come_to_more_than_64_bits(storage):
    line = UsageLine(day=date(2026, 5, 4), events=1, prompt_tokens=2**62, completion_tokens=2**62)
    for name in ("a", "b", "c"):
        await storage.usage.save(counted(name, line), 0)

    (total,) = await storage.usage.totals()

    assert total.events == 3
    assert total.prompt_tokens >= 2**63 - 1
    assert total.completion_tokens >= 2**63 - 1
