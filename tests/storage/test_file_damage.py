"""Damaged files of logs, records and lists are reported, never dropped, never taken for whole."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from events.batch import Appended
from events.checkpoints import Checkpoint
from events.conformance.records import append, key, records
from events.errors import DamagedHead, DamagedRecord, EventsError
from events.stores.base import MEMORY, PARTIALS, Aside
from events.stores.files.check import check_logs
from events.stores.files.store import FileEventStore
from storage.backends import backend_of
from storage.config import LocalStorage
from storage.conversations.files.store import FileConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.errors import Damaged, Unavailable
from storage.files.local import LocalFileStore
from storage.files.memory import MemoryFileStore
from storage.opening import open_storage
from tests.support.dying_files import Death, DyingFileStore
from tests.support.streams import USER, message, open_stream
from tests.support.waiting import WAIT_SECONDS, others_have_ended

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
PAGE_EVENTS = 5
COUNT = 13
"""Two pages, and a tail of three events in two files."""


async def opened(files):
    stores = await FileConversationStores.open(files)
    return stores, FileEventStore(files, stores, page_events=PAGE_EVENTS)


@pytest.fixture
async def files():
    """The files of a log `c` of 13 events, of another one, and of their records."""
    files = MemoryFileStore()
    stores, events = await opened(files)
    for name in ("b", "c"):
        saved = ConversationMetadata(conversation_id=name, created_at=NOON, title=name)
        await stores.for_user("ann").save_metadata(saved)
        for first, count in ((0, 4), (4, 7), (11, 2)):
            batch = records(first, count, name)
            await append(events, name, batch, keys={0: key(f"of {first}")})
            await others_have_ended()  # a page is sealed behind an append
    await events.close()
    await stores.close()
    return files


async def test_the_log_lies_in_pages_a_tail_a_key_table_and_a_head(files):
    assert await files.keys("logs/c/") == [
        "logs/c/head",
        "logs/c/keys/00000000",
        "logs/c/pages/00000000",
        "logs/c/pages/00000001",
        "logs/c/tail/0000000004",
        "logs/c/tail/0000000011",
    ]


@pytest.mark.parametrize("damage", ["flipped", "cut", "lengthened"])
async def test_no_damage_to_any_file_of_a_log_is_taken_for_events(files, damage, record_property):
    told = 0
    for name in await files.keys("logs/c/"):
        content = await files.read(name)
        for place in range(0, len(content), 3):
            await files.write(name, damaged(content, place, damage))
            told += await check_reads(files)
        await files.write(name, content)

    record_property("figures", f"{told} damages told")
    assert told > 100


@pytest.mark.parametrize("damage", ["flipped", "cut", "lengthened"])
async def test_a_check_tells_damage_to_a_log_just_where_reading_it_does(files, damage, tmp_path):
    await copy_to(tmp_path, files)
    assert check_logs(tmp_path) == []

    for name in await files.keys("logs/c/"):
        content = await files.read(name)
        for place in range(0, len(content), 29):
            broken = damaged(content, place, damage)
            await files.write(name, broken)
            (tmp_path / name).write_bytes(broken)
            assert bool(check_logs(tmp_path)) == await check_reads(files), (name, place)
        await files.write(name, content)
        (tmp_path / name).write_bytes(content)


async def test_a_check_names_the_ranges_of_damaged_and_lost_events_and_changes_nothing(
    files, tmp_path
):
    await copy_to(tmp_path, files)
    log = tmp_path / "logs" / "c"
    page = (log / "pages" / "00000000").read_bytes()
    (log / "pages" / "00000000").write_bytes(damaged(page, page.index(b'"id":2'), "flipped"))
    (log / "pages" / "00000001").unlink()
    (log / "tail" / "0000000004").unlink()
    (log / "keys" / "00000000").write_bytes(b"")
    before = {path: path.stat() for path in sorted(tmp_path.rglob("*"))}

    assert check_logs(tmp_path) == [
        "damaged records 2-2 in conversation c",
        "damaged records 5-10 in conversation c",
        "damaged records 0-9 in conversation c: their idempotency keys",
    ]

    def lasting(found):
        return {path: (one.st_mtime_ns, one.st_size, one.st_ino) for path, one in found.items()}

    after = {path: path.stat() for path in sorted(tmp_path.rglob("*"))}
    assert lasting(after) == lasting(before)


async def test_a_check_names_asides_that_are_damaged_or_no_checkpoints(files, tmp_path):
    stores, events = await opened(files)
    checkpoint = Checkpoint(13, ()).encode()
    await events.put_asides([Aside("b", MEMORY, b"m"), Aside("b", PARTIALS, checkpoint)])
    await events.put_asides([Aside("c", PARTIALS, b"[]")])
    await events.close()
    await stores.close()
    await copy_to(tmp_path, files)
    memory = tmp_path / "logs" / "b" / "asides" / MEMORY
    memory.write_bytes(damaged(memory.read_bytes(), -1, "flipped"))

    assert check_logs(tmp_path) == [
        "the aside memory of conversation b fails its checksum",
        "the aside partials of conversation c is no JSON object",
    ]


async def test_a_check_finds_nothing_wrong_with_a_deleted_log_or_none(files, tmp_path):
    assert check_logs(tmp_path) == []
    _, events = await opened(files)
    await events.delete("c")
    await events.close()

    await copy_to(tmp_path, files)

    assert check_logs(tmp_path) == []


async def copy_to(folder, files):
    for name in await files.keys():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(await files.read(name))


def damaged(content: bytes, place: int, damage: str) -> bytes:
    if damage == "cut":
        return content[:place]
    flipped = bytes([content[place] ^ 1 << place % 8])
    return content[:place] + flipped + content[place + (damage == "flipped") :]


async def check_reads(files) -> bool:
    """Every event is there as it was written, or damage is told; so with keys and the head."""
    _, events = await opened(files)
    told = False
    truth = records(0, COUNT, "c")
    for event_id in range(COUNT):
        try:
            assert await events.read("c", event_id, event_id + 1) == truth[event_id : event_id + 1]
        except DamagedRecord:
            told = True
    try:
        assert (await events.head("c")).next_id == COUNT
        assert [await events.find("c", key(f"of {first}")) for first in (0, 4, 11)] == [0, 4, 11]
    except DamagedRecord:
        told = True
    assert await events.read("b", 0, COUNT) == records(0, COUNT, "b")
    return told


async def test_what_lies_beside_a_damaged_event_can_be_read_and_written(files):
    page = await files.read("logs/c/pages/00000000")
    at = page.index(b'"id":2')
    await files.write("logs/c/pages/00000000", damaged(page, at, "flipped"))
    _, events = await opened(files)

    with pytest.raises(DamagedRecord, match="damaged records 2-2"):
        await events.read("c", 0, COUNT)
    assert await events.read("c", 0, 2) == records(0, 2, "c")
    assert await events.read("c", 3, COUNT) == records(3, 10, "c")
    await append(events, "c", records(COUNT, 20, "c"))
    await events.close()
    assert (await events.head("c")).next_id == COUNT + 20


async def test_what_lies_behind_an_event_whose_header_is_damaged_can_be_read(files):
    page = await files.read("logs/c/pages/00000000")
    at = page.index(b'"id":2') - 10
    await files.write("logs/c/pages/00000000", damaged(page, at, "flipped"))
    _, events = await opened(files)

    with pytest.raises(DamagedRecord, match="damaged records 2-2") as caught:
        await events.read("c", 0, COUNT)

    assert caught.value.sound == [*records(0, 2, "c"), *records(3, 10, "c")]


async def test_a_lost_file_is_told_with_its_range(files):
    await files.delete("logs/c/pages/00000000")
    _, events = await opened(files)

    with pytest.raises(DamagedRecord, match="damaged records 0-4"):
        await events.read("c", 0, 9)
    # One more is in the tail as well, in a file that reaches over.
    with pytest.raises(DamagedRecord, match="damaged records 0-3"):
        await events.read("c", 0, COUNT)


async def test_a_lost_key_table_is_told_to_who_needs_it(files):
    await files.delete("logs/c/keys/00000000")
    _, events = await opened(files)

    assert await events.find("c", key("of 11")) == 11
    for call in (
        events.find("c", key("of 0")),
        append(events, "c", records(13, 1), keys={0: key("x")}),
    ):
        with pytest.raises(DamagedRecord):
            await call
    await append(events, "c", records(COUNT, 1, "c"))


async def test_a_damaged_tail_is_not_sealed_and_takes_no_keys(files):
    tail = await files.read("logs/c/tail/0000000004")
    await files.write("logs/c/tail/0000000004", tail[:70])
    _, events = await opened(files)
    await append(events, "c", records(COUNT, 4, "c"))
    await events.close()

    with pytest.raises(DamagedRecord):
        await events.read("c", 10, 11)
    with pytest.raises(DamagedRecord):
        await append(events, "c", records(COUNT + 4, 1), keys={0: key("new")})
    assert await files.read("logs/c/tail/0000000004") == tail[:70]
    assert await events.read("c", 11, COUNT) == records(11, 2, "c")


async def test_an_event_whose_key_cannot_be_looked_up_is_refused_and_holds_no_other_up(files):
    await files.delete("logs/c/keys/00000000")
    _, events = await opened(files)
    stream = await open_stream(events)

    async with asyncio.timeout(WAIT_SECONDS):
        keyed = stream.append(message("with a key"), USER, client_id="x")
        outcomes = await asyncio.gather(
            keyed, stream.append(message("without"), USER), return_exceptions=True
        )
    assert isinstance(outcomes[0], DamagedRecord)
    assert outcomes[1] == Appended(COUNT)
    await stream.close()
    await events.close()


async def test_a_page_of_another_conversation_is_damage(files):
    await files.write("logs/c/pages/00000000", await files.read("logs/b/pages/00000000"))
    _, events = await opened(files)

    with pytest.raises(DamagedRecord, match="damaged records 0-4"):
        await events.read("c", 0, 5)


@pytest.mark.parametrize("name", ["head", "tail/0000000011"])
async def test_a_log_whose_end_is_damaged_takes_nothing_but_can_be_deleted(files, name):
    content = await files.read(f"logs/c/{name}")
    await files.write(f"logs/c/{name}", content[:-1] if name == "head" else b"")
    _, events = await opened(files)

    for call in (events.head("c"), events.read("c", 0, 1), append(events, "c", records(13, 1))):
        with pytest.raises(EventsError):
            await call
    await events.delete("c")
    _, events = await opened(files)

    assert (await events.head("c")).deleted


async def test_a_damaged_record_is_told_and_left_out_of_lists(files):
    content = await files.read("records/c")
    await files.write("records/c", damaged(content, len(content) // 2, "flipped"))
    stores, _ = await opened(files)
    ann = stores.for_user("ann")

    with pytest.raises(Damaged):
        await ann.get_metadata("c")
    assert [found.conversation_id for found in (await ann.search()).results] == ["b"]
    with pytest.raises(Damaged):
        await ann.save_metadata(ConversationMetadata(conversation_id="c"))


async def test_a_damaged_list_is_made_anew_from_the_records(files):
    for name in await files.keys("lists/"):
        await files.write(name, (await files.read(name))[:-2])

    stores, _ = await opened(files)

    found = [one.conversation_id for one in (await stores.for_user("ann").search()).results]
    assert found == ["c", "b"]


async def test_a_check_names_damaged_records_and_lists_and_changes_nothing(tmp_path):
    assert backend_of(LocalStorage(data_dir=tmp_path)).check() == []
    async with open_storage(LocalStorage(data_dir=tmp_path)) as storage:
        for name in ("b", "c"):
            record = ConversationMetadata(conversation_id=name)
            await storage.conversations.for_user("ann").save_metadata(record)
    assert backend_of(LocalStorage(data_dir=tmp_path)).check() == []
    kept = tmp_path / "files" / "records" / "c"
    kept.write_bytes(kept.read_bytes()[:-1])
    (tmp_path / "files" / "lists" / "00000000").write_bytes(b"")

    for _ in range(2):
        assert backend_of(LocalStorage(data_dir=tmp_path)).check() == [
            "lists/00000000 is damaged",
            "records/c fails its checksum or has an unknown format version",
        ]


STRAY = ["lists/not-ours", "lists/of another", "open/what is this", "logs/c/tail/0000000011.bak"]


async def test_files_of_somebody_else_in_its_folders_keep_no_store_from_opening(files, tmp_path):
    await copy_to(tmp_path, files)
    for name in STRAY:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not ours")

    local = await LocalFileStore.open(tmp_path)
    stores, events = await opened(local)
    await events.repair()

    assert await events.read("c", 0, COUNT) == records(0, COUNT, "c")
    found = (await stores.for_user("ann").search()).results
    assert [one.conversation_id for one in found] == ["c", "b"]
    assert check_logs(tmp_path) == []
    await local.close()
    for name in STRAY:
        assert (tmp_path / name).read_bytes() == b"not ours"


class Unreadable(DyingFileStore):
    """A file store on which a few files cannot be read, as where a disk has bad sectors."""

    def __init__(self, inner, keys):
        super().__init__(inner, 1_000, Death.after)
        self._keys = frozenset(keys)

    async def read(self, key):
        if key in self._keys:
            raise Unavailable(f"{key}: Input/output error")
        return await super().read(key)

    async def read_all(self, keys):
        for name in self._keys.intersection(keys):
            raise Unavailable(f"{name}: Input/output error")
        return await super().read_all(keys)


async def test_a_list_and_a_record_that_cannot_be_read_keep_no_store_from_opening(files):
    await files.create("open/b", b"")
    unreadable = Unreadable(files, ["lists/00000000", "records/b", "logs/b/head"])
    stores, events = await opened(unreadable)
    assert await events.repair() == 0

    found = (await stores.for_user("ann").search()).results
    assert [one.conversation_id for one in found] == ["c"]
    assert await events.read("c", 0, COUNT) == records(0, COUNT, "c")


@asynccontextmanager
async def over_local_files(folder):
    """Records and events over a folder of files, closed in order."""
    files = await LocalFileStore.open(folder / "files")
    stores, events = await opened(files)
    await events.repair()
    try:
        yield stores, events
    finally:
        await events.close()
        await stores.close()
        await files.close()


LOST_ENDS = {
    "the newest file": ["logs/c/tail/0000000011"],
    "all files of the tail": ["logs/c/tail/0000000004", "logs/c/tail/0000000011"],
    "all files of the log": [
        "logs/c/head",
        "logs/c/keys/00000000",
        "logs/c/pages/00000000",
        "logs/c/pages/00000001",
        "logs/c/tail/0000000004",
        "logs/c/tail/0000000011",
    ],
}
"""Files that were removed while nothing was open, and the log was no shorter when it was."""


@pytest.mark.parametrize("lost", LOST_ENDS)
async def test_a_log_that_has_lost_its_end_is_refused_and_found_by_a_check(lost, tmp_path):
    async with over_local_files(tmp_path) as (stores, events):
        for name in ("b", "c"):
            saved = ConversationMetadata(conversation_id=name, created_at=NOON, title=name)
            await stores.for_user("ann").save_metadata(saved)
            for first, count in ((0, 4), (4, 7), (11, 2)):
                moment = f"2026-05-04T12:{first:02}:00.000000Z"
                await append(events, name, records(first, count, name, moment))
                await others_have_ended()
    assert check_logs(tmp_path / "files") == []
    for key_of_file in LOST_ENDS[lost]:
        (tmp_path / "files" / key_of_file).unlink()

    problems = check_logs(tmp_path / "files")
    told = (
        "in conversation c: the log ends there, and its record knows a later event, of 2026-05-04"
    )
    assert told in "; ".join(problems)
    assert [one for one in problems if "conversation b" in one] == []
    async with over_local_files(tmp_path) as (stores, events):
        with pytest.raises(DamagedHead):
            await events.head("c")
        with pytest.raises(DamagedHead):
            await append(events, "c", records(11, 1))
        assert (await events.head("b")).next_id == COUNT
        await events.delete("c")
        assert (await events.head("c")).deleted
