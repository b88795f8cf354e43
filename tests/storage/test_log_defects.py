"""Defects of the ancestor's log, by their numbers in the protocol's notes, that are none here."""

import asyncio
import threading

import orjson
import pytest

from events.client_events import decode_client
from events.conformance.records import append, record, records
from events.errors import BadEvent, EventTooLarge
from events.event import EventFlag, StoredEvent
from events.filter import EventFilter
from events.page_reader import PageReader
from events.redaction import Redactor
from events.stores.database.store import DatabaseEventStore
from events.stores.memory import MemoryEventStore
from storage.database.base import Statement, Steps, rerunnable
from storage.database.sqlite import SqliteDatabase
from tests.support.backends import EVENT_STORES, open_event_store
from tests.support.faulty_sqlite import Faults
from tests.support.hooked import HookedEventStore
from tests.support.streams import AGENT, USER, log_of, message, open_stream

PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(params=EVENT_STORES)
async def store(request, tmp_path):
    async with open_event_store(request.param, tmp_path) as opened:
        yield opened


async def say(stream, *words):
    for word in words:
        await stream.append(message(word), USER)


async def test_d20_pages_stay_aligned_over_a_restart(store):
    for _ in range(3):
        stream = await open_stream(store, page_size=25)
        await say(stream, *(f"{number}" for number in range(30)))
        await stream.close()
    reader = PageReader(store, page_size=25, cache_bytes=1_000_000)

    for start in range(90):
        page = await reader.read("c", start, 90)
        assert [event.id for event in page] == list(range(start, min(start // 25 * 25 + 25, 90)))


async def test_d21_an_event_that_cannot_be_stored_takes_no_id(store):
    stream = await open_stream(store, event_bytes=1000)
    await say(stream, "before")

    with pytest.raises(EventTooLarge):
        await stream.append(message("x" * 1001), USER)
    await say(stream, "after")

    assert len(await log_of(store)) == 2


async def test_d22_an_append_that_is_cut_short_leaves_nothing_behind(tmp_path):
    faults = Faults()
    database = await SqliteDatabase.open(tmp_path / "parley.db", faults.connect)
    store = DatabaseEventStore(database)
    await append(store, "c", records(0, 3))

    faults.before = ["INSERT INTO appends", "COMMIT"]
    refused = await asyncio.gather(append(store, "c", records(3, 5)), return_exceptions=True)
    assert isinstance(refused[0], Exception)

    assert len(await log_of(store)) == 3
    await append(store, "c", records(3, 5))
    assert len(await log_of(store)) == 8
    await database.close()


async def test_d23_an_event_of_an_unknown_kind_is_kept_searched_and_given_back(store):
    body = orjson.dumps({"id": 1, "action": "levitate", "args": {"height": "very high"}})
    strange = StoredEvent(1, EventFlag.SPECIAL, body)
    await append(store, "c", [record(0), strange, record(2)])
    reader = PageReader(store, page_size=10, cache_bytes=1_000_000)

    found = [one async for one in reader.search("c", 3, filter=EventFilter(query="very high"))]
    everything = [one.id async for one in reader.search("c", 3)]

    assert found == [strange]
    assert everything == [0, 1, 2]


async def test_d24_two_writers_of_one_log_never_give_one_id_twice(store):
    first, second = await open_stream(store), await open_stream(store)

    words = [f"{name}{number}" for name in "ab" for number in range(20)]
    await asyncio.gather(
        *(
            (first if word.startswith("a") else second).append(message(word), AGENT)
            for word in words
        )
    )

    log = await log_of(store)
    assert sorted(orjson.loads(event.body)["message"] for event in log) == sorted(words)


async def test_d25_a_log_is_opened_without_looking_through_it():
    points: list[str] = []

    async def hook(point, _conversation_id):
        points.append(point)

    inner = MemoryEventStore()
    await append(inner, "c", records(0, 1000))
    stream = await open_stream(HookedEventStore(inner, hook))

    assert stream.next_id == 1000
    assert points == ["head.before", "head.after"]


async def test_d26_statements_run_beside_the_event_loop(tmp_path):
    database = await SqliteDatabase.open(tmp_path / "parley.db")

    @rerunnable
    def script() -> Steps[int]:
        yield Statement("read_claim", ("c",))
        return threading.get_ident()

    assert await database.write(script()) != threading.get_ident()
    await database.close()


def test_d27_a_search_does_not_look_into_pictures():
    event = {"action": "message", "args": {"content": "look", "image_urls": [PICTURE]}}

    assert EventFilter(query="look").matches(event)
    assert not EventFilter(query="iVBOR").matches(event)


async def test_d28_a_log_of_more_than_a_thousand_events_knows_its_end_and_is_deleted_whole(store):
    for first_id in range(0, 2500, 500):
        await append(store, "c", records(first_id, 500))

    stream = await open_stream(store)
    assert stream.next_id == 2500
    await say(stream, "one more")
    assert len(await log_of(store)) == 2501

    await store.delete("c")
    assert await store.read("c", 0, 3000) == []


def test_d34_secrets_are_masked_in_lists_and_texts_and_none_is_forgotten():
    redactor = Redactor({"TOKEN": "long-secret"})
    redactor.update({"OTHER": "long-secret-and-more", "EMPTY": "", "SHORT": "ab"})
    payload = {
        "action": "message",
        "message": "it is long-secret",
        "args": {"content": "abc long-secret-and-more", "image_urls": ["x", "long-secret"]},
    }

    text = orjson.dumps(redactor.redact(payload)).decode()

    assert "long-secret" not in text
    assert "and-more" not in text
    assert "abc" in text
    assert text.count("<secret_hidden>") == 3


@pytest.mark.parametrize("arguments", [None, [], "x", 7])
def test_d35_decoding_changes_nothing_and_refuses_arguments_that_are_none(arguments):
    bad = {"action": "message", "args": arguments}
    with pytest.raises(BadEvent):
        decode_client(bad)
    assert bad == {"action": "message", "args": arguments}

    good = {"action": "message", "args": {"content": "x", "images_urls": ["y"], "timestamp": "z"}}
    before = orjson.dumps(good)
    decode_client(good)
    assert orjson.dumps(good) == before


async def test_d36_reading_backwards_gives_the_window_before_an_event(store):
    await append(store, "c", records(0, 40))
    reader = PageReader(store, page_size=7, cache_bytes=1_000_000)

    window = reader.search("c", 40, start_id=0, end_id=20, reverse=True, limit=4)

    assert [event.id async for event in window] == [20, 19, 18, 17]
