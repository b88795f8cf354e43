"""Stores over files: unknown outcomes, bounded marks, sealing that fails."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from events.conformance.records import append, key, records
from events.errors import AppendConflict, AppendFailed, AppendUnknown, ConversationDeleted
from events.stores.files.format import encode_segment, head_in, seed_of
from events.stores.files.store import FileEventStore
from events.summary import SummaryChange
from storage.conversations.files.settling import SETTLE_AT
from storage.conversations.files.store import FileConversationStores
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.conversations.paging import ConversationFilter, ListOrder
from storage.errors import ConversationNotFound, OutcomeUnknown, Unavailable
from storage.files.format import checked_body, with_checksum
from storage.files.memory import MemoryFileStore
from storage.keys import LISTS, RECORDS, segment_key
from tests.support.waiting import others_have_ended

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


class FaultyFiles(MemoryFileStore):
    """Writes to keys that begin with `prefix` fail; with `lands` they are done all the same."""

    prefix = "-"
    lands = False
    error: type[Exception] = OutcomeUnknown

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        if not key.startswith(self.prefix) or self.lands:
            await super().create(key, content)
        self._fail(key)

    async def write(self, key: str, content: bytes) -> None:
        """See FileStore."""
        if not key.startswith(self.prefix) or self.lands:
            await super().write(key, content)
        self._fail(key)

    def _fail(self, key: str) -> None:
        if key.startswith(self.prefix):
            raise self.error("the disk does not answer")


@pytest.fixture
def files():
    return FaultyFiles()


@pytest.fixture
async def stores(files):
    opened = await FileConversationStores.open(files)
    yield opened
    await opened.close()


@pytest.fixture
async def events(files, stores):
    store = FileEventStore(files, stores, page_events=5)
    yield store
    await store.close()


@pytest.mark.parametrize("lands", [False, True])
async def test_after_an_unknown_append_the_log_tells_whether_it_landed(files, events, lands):
    await append(events, "c", records(0, 2))
    files.prefix, files.lands = "logs/", lands
    with pytest.raises(AppendUnknown):
        await append(events, "c", records(2, 2, "late"), keys={0: key("a")})
    files.prefix = "-"

    landed = 4 if lands else 2
    assert (await events.head("c")).next_id == landed
    assert await events.read("c", 2, 9) == (records(2, 2, "late") if lands else [])
    assert await events.find("c", key("a")) == (2 if lands else None)
    await append(events, "c", records(landed, 1))


class LingeringFiles(MemoryFileStore):
    """Segments are created at once, and it is told only when the gate is opened."""

    def __init__(self):
        super().__init__()
        self.landed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        await super().create(key, content)
        if key.startswith("logs/"):
            self.landed.set()
            await self.gate.wait()


async def test_a_create_that_lands_after_its_caller_was_cancelled_is_seen_at_once():
    files = LingeringFiles()
    stores = await FileConversationStores.open(files)
    events = FileEventStore(files, stores, page_events=5)
    await append(events, "c", records(0, 2))
    files.gate.clear()
    files.landed.clear()
    late = records(2, 2, "late")
    cut = asyncio.ensure_future(append(events, "c", late, keys={0: key("a")}))
    await files.landed.wait()
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    files.gate.set()

    assert cut.cancelled()
    assert (await events.head("c")).next_id == 4
    assert await events.read("c", 2, 9) == late
    assert await events.find("c", key("a")) == 2
    await append(events, "c", records(4, 1))
    await events.close()
    await stores.close()


async def test_an_append_that_certainly_failed_leaves_the_log_as_it_is(files, events):
    await append(events, "c", records(0, 2))
    files.prefix, files.error = "logs/", Unavailable
    with pytest.raises(AppendFailed):
        await append(events, "c", records(2, 2))
    files.prefix = "-"

    assert (await events.head("c")).next_id == 2
    await append(events, "c", records(2, 2))


async def test_a_file_that_another_writer_made_is_a_conflict_and_is_read(files, stores, events):
    await append(events, "c", records(0, 2))
    other = FileEventStore(files, stores, page_events=5)
    await append(other, "c", records(2, 3, "theirs"))

    with pytest.raises(AppendConflict):
        await append(events, "c", records(2, 1, "mine"))

    assert await events.read("c", 2, 9) == records(2, 3, "theirs")
    await append(events, "c", records(5, 1))


async def test_a_page_that_cannot_be_sealed_holds_no_append_up_and_is_sealed_later(files, events):
    files.prefix = "logs/c/pages/"
    for first in range(8):
        await append(events, "c", records(first, 1, "text"), keys={0: key(str(first))})
        await others_have_ended()
    assert await files.keys("logs/c/pages/") == []
    files.prefix = "-"
    for first in range(8, 14):
        await append(events, "c", records(first, 1, "text"), keys={0: key(str(first))})
        await others_have_ended()

    assert len(await files.keys("logs/c/pages/")) == 2
    assert await events.read("c", 0, 99) == records(0, 14, "text")
    assert [await events.find("c", key(str(one))) for one in range(14)] == list(range(14))


async def test_keys_of_many_pages_are_found_in_their_tables(files, stores, events):
    for first in range(0, 700, 20):
        keys = {place: key(str(first + place)) for place in range(0, 20, 4)}
        await append(events, "c", records(first, 20), keys=keys)
        await others_have_ended()
    await events.close()
    assert len(await files.keys("logs/c/keys/")) == 3

    again = FileEventStore(files, stores)
    for event_id in (0, 4, 316, 320, 324, 636, 640, 696):
        assert await again.find("c", key(str(event_id))) == event_id
    assert await again.find("c", key("1")) is None


async def test_a_log_of_a_deleted_record_takes_no_appends(stores, events):
    ann = stores.for_user("ann")
    await ann.save_metadata(ConversationMetadata(conversation_id="c"))
    await ann.delete_metadata("c")

    with pytest.raises(ConversationDeleted):
        await append(events, "c", records(0, 1))
    await events.delete("c")
    assert (await events.head("c")).deleted


@pytest.mark.parametrize("lands", [False, True])
async def test_after_an_unknown_save_the_medium_tells_what_it_holds(files, stores, lands):
    ann = stores.for_user("ann")
    await ann.save_metadata(ConversationMetadata(conversation_id="c", title="old"))
    files.prefix, files.lands = "records/", lands
    with pytest.raises(OutcomeUnknown):
        await ann.update_metadata("c", MetadataChange(title="new"))
    with pytest.raises(OutcomeUnknown):
        await ann.save_metadata(ConversationMetadata(conversation_id="d"))
    files.prefix = "-"

    assert await ann.exists("d") is lands
    found = await ann.get_metadata("c")
    assert found.title == ("new" if lands else "old")
    listed = [one.conversation_id for one in (await ann.search()).results]
    assert sorted(listed) == (["c", "d"] if lands else ["c"])
    if not lands:
        with pytest.raises(ConversationNotFound):
            await ann.get_metadata("d")


async def test_marks_stay_few_however_many_conversations_are_used(files, stores, events):
    ann = stores.for_user("ann")
    most = 0
    for number in range(2 * SETTLE_AT):
        moment = NOON + timedelta(seconds=number)
        record = ConversationMetadata(conversation_id=f"c{number}", created_at=moment)
        await ann.save_metadata(record)
        await _append_at(events, f"c{number}", 0, moment)
        if number % 100 == 0:
            await others_have_ended()
            most = max(most, len(await files.keys("open/")))

    assert SETTLE_AT - 100 < most <= SETTLE_AT + 100
    reopened = await FileConversationStores.open(files)
    page = await reopened.for_user("ann").search(limit=100)
    assert [one.conversation_id for one in page.results] == [
        f"c{number}" for number in range(2 * SETTLE_AT - 1, 2 * SETTLE_AT - 101, -1)
    ]
    oldest = await reopened.for_user("ann").get_metadata("c0")
    assert (oldest.last_updated_at, oldest.accumulated_cost) == (NOON, 0.5)


async def test_marks_of_a_crash_are_gone_once_all_logs_are_compared_and_not_before(
    files, stores, events
):
    for number in range(3):
        record = ConversationMetadata(conversation_id=f"c{number}")
        await stores.for_user("ann").save_metadata(record)
        await _append_at(events, f"c{number}", 0, NOON)
    reopened = await FileConversationStores.open(files)
    again = FileEventStore(files, reopened)
    await reopened.settle("c0", None, deleted=False)
    await others_have_ended()
    assert len(await files.keys("open/")) == 3

    assert await again.repair() == 2

    await others_have_ended()
    assert await files.keys("open/") == []
    assert (await reopened.for_user("ann").get_metadata("c2")).last_updated_at == NOON


async def test_a_record_in_use_is_settled_again_after_it_was_settled(files, stores, events):
    ann = stores.for_user("ann")
    await ann.save_metadata(ConversationMetadata(conversation_id="c", created_at=NOON))
    for event_id in range(3):
        await _append_at(events, "c", event_id, NOON + timedelta(seconds=event_id))
        await stores.in_use.settle()
        assert await files.keys("open/") == []

    reopened = await FileConversationStores.open(files)
    found = await reopened.for_user("ann").get_metadata("c")
    assert found.last_updated_at == NOON + timedelta(seconds=2)
    assert (await reopened.for_user("ann").search()).results == [found]


async def test_a_record_that_is_saved_after_its_log_began_has_the_fold(stores, events):
    await _append_at(events, "c", 0, NOON)
    await stores.in_use.settle()
    ann = stores.for_user("ann")
    saved = ConversationMetadata(conversation_id="c", accumulated_cost=9.0, prompt_tokens=3)
    await ann.save_metadata(saved)
    changed = await ann.update_metadata("c", MetadataChange(accumulated_cost=8.0, title="t"))

    assert (changed.accumulated_cost, changed.prompt_tokens, changed.title) == (0.5, 0, "t")
    assert changed.last_updated_at == NOON
    assert await ann.get_metadata("c") == changed


async def test_records_and_lists_without_last_messages_go_by_their_last_events():
    files = MemoryFileStore()
    stores = await _of_three(files)
    await stores.close()
    for name in (RECORDS + "a", f"{LISTS}{0:08}"):
        kind = "record" if name.startswith(RECORDS) else "list"
        body = checked_body(kind, (await files.read_all([name]))[0] or b"", name)
        older = (
            re.sub(rb',"last_message_at":null', b"", body)
            if kind == "record"
            else b"".join(
                orjson.dumps(orjson.loads(line)[:-1]) + b"\n" for line in body.splitlines()
            )
        )
        assert older != body
        await files.write(name, with_checksum(kind, older))

    reopened = (await FileConversationStores.open(files)).for_user(None)
    page = await reopened.search(filters=ConversationFilter(order=ListOrder.LAST_MESSAGE))

    assert [found.conversation_id for found in page.results] == ["a", "c", "b"]
    assert page.results[0].last_message_at == NOON + timedelta(hours=1)


@pytest.mark.parametrize("older", [True, False], ids=["an older version", "this version"])
async def test_after_a_crash_a_log_that_does_not_name_its_last_message_goes_by_its_last_event(
    older,
):
    files = MemoryFileStore()
    stores = await _of_three(files)
    if older:
        segment = await files.read(segment_key("a", 0))
        head = head_in(seed_of("a"), segment)
        assert head is not None
        summary = {**head.summary}
        del summary["last_message_at"]
        content = encode_segment("a", head._replace(summary=summary), {}, records(0, 1))
        await files.write(segment_key("a", 0), content)

    stores = await FileConversationStores.open(files)
    await FileEventStore(files, stores).repair()
    found = await stores.for_user(None).search(
        filters=ConversationFilter(order=ListOrder.LAST_MESSAGE)
    )

    names = [one.conversation_id for one in found.results]
    assert names == (["a", "c", "b"] if older else ["c", "b", "a"])
    await stores.close()


async def test_titles_of_which_an_older_version_folded_ascii_only_are_found():
    files = MemoryFileStore()
    stores = await FileConversationStores.open(files)
    await stores.for_user(None).save_metadata(
        ConversationMetadata(conversation_id="a", title="Cafe\u0301 \u00c4RGER")
    )
    await stores.close()
    name = f"{LISTS}{0:08}"
    body = checked_body("list", (await files.read_all([name]))[0] or b"", name)
    older = body.replace("caf\u00e9 \u00e4rger".encode(), "cafe\u0301 \u00c4rger".encode())
    assert older != body
    await files.write(name, with_checksum("list", older))

    reopened = (await FileConversationStores.open(files)).for_user(None)
    found = await reopened.search(filters=ConversationFilter(title_contains="CAF\u00c9 \u00e4"))

    assert [one.conversation_id for one in found.results] == ["a"]


async def _append_at(events, conversation_id, event_id, moment) -> None:
    text = moment.isoformat().replace("+00:00", "Z")
    summary = SummaryChange(event_id, text, accumulated_cost=0.5)
    await events.append(conversation_id, event_id, records(event_id, 1), summary=summary)


async def _of_three(files) -> FileConversationStores:
    """Three records, made one after the other; the first one's log has an event, of later."""
    stores = await FileConversationStores.open(files)
    for number, name in enumerate("abc"):
        moment = NOON + timedelta(minutes=number)
        await stores.for_user(None).save_metadata(
            ConversationMetadata(conversation_id=name, created_at=moment)
        )
    await _append_at(FileEventStore(files, stores), "a", 0, NOON + timedelta(hours=1))
    return stores
