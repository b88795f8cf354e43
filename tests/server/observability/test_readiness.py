"""Whether requests should be sent here: every reason is told, and passes by itself."""

import asyncio
import logging
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr

from events.stores.memory import MemoryEventStore
from server.app import create_app
from server.config.settings import ServerConfig
from server.observability.readiness import (
    DRAINING,
    FILES_LOST,
    LOCK_LOST,
    LOOK_SECONDS,
    NEARLY_FULL,
    NO_ANSWER,
    NO_DATABASE,
    NOT_STORED,
    READ_ONLY,
    SETTLE_SECONDS,
    STORAGE,
    Readiness,
)
from storage.backends.local import probe_files
from storage.backends.sqlite import probe_database
from storage.config import LocalStorage, SqliteStorage
from storage.conversations.metadata import ConversationMetadata
from storage.counters import Counters
from storage.database.base import Statement, rerunnable
from storage.database.sqlite import SqliteDatabase
from storage.errors import MediumLost, OutcomeUnknown, Unavailable
from storage.files.local import LocalFileStore
from storage.lock import data_directory_lock
from storage.medium import Medium
from storage.opening import open_storage
from tests.support.backends import FILE_STORES, open_file_store
from tests.support.faulty_sqlite import Faults
from tests.support.faulty_store import FaultyEventStore, fails
from tests.support.live import live_server
from tests.support.postgres import SECRET_KEY
from tests.support.remote import CONVERSATIONS
from tests.support.rest import assert_refused, rest_server
from tests.support.waiting import WAIT_SECONDS


def nothing():
    """Intake goes on."""
    return []


def readiness(folder, counters=None, prove=None, medium=None, **settings):
    config = ServerConfig(data_dir=folder, **settings)
    return Readiness(
        config, nothing, counters or Counters(), prove, medium=medium, settle_seconds=0
    )


async def test_a_locked_writable_folder_is_ready(tmp_path):
    with data_directory_lock(tmp_path):
        assert await readiness(tmp_path).reasons() == []


async def test_a_lock_that_somebody_removed_or_replaced_is_lost(tmp_path):
    with data_directory_lock(tmp_path):
        (tmp_path / "lock").unlink()
        assert await readiness(tmp_path).reasons() == [LOCK_LOST]

        (tmp_path / "lock").touch()
        assert await readiness(tmp_path).reasons() == [LOCK_LOST]


async def test_a_disk_is_nearly_full_below_the_setting_and_is_looked_at_again(tmp_path):
    with data_directory_lock(tmp_path):
        asked = readiness(tmp_path, min_free_disk_bytes=2**52)
        assert await asked.reasons() == [NEARLY_FULL]
        assert await asked.reasons() == [NEARLY_FULL]

        assert await readiness(tmp_path, min_free_disk_bytes=0).reasons() == []


async def test_a_folder_that_is_gone_cannot_be_written_until_it_is_back(tmp_path):
    folder = tmp_path / "data"
    with data_directory_lock(folder):
        asked = readiness(folder)
        folder.rename(tmp_path / "away")
        assert await asked.reasons() == [READ_ONLY]

        (tmp_path / "away").rename(folder)
        assert await asked.reasons() == []


async def test_memory_has_no_folder_to_look_at(tmp_path):
    assert await readiness(tmp_path / "missing", storage_kind="memory").reasons() == []


async def test_after_a_failed_append_a_write_decides(tmp_path):
    counters = Counters()
    outcomes = [Unavailable("the disk is full"), None]

    async def prove():
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    asked = readiness(tmp_path, counters, prove, storage_kind="memory")
    assert await asked.reasons() == []
    counters.append_failed(1)

    assert await asked.reasons() == [NOT_STORED]
    assert await asked.reasons() == []
    assert outcomes == []


async def test_a_small_write_says_nothing_while_appends_go_on_failing():
    counters = Counters()

    async def prove():
        pass

    config = ServerConfig(storage_kind="memory")
    asked = Readiness(config, nothing, counters, prove, settle_seconds=60)
    counters.append_unknown()
    assert await asked.reasons() == [NOT_STORED]

    counters.failure_seconds -= 61

    assert await asked.reasons() == []


async def test_an_append_that_succeeds_says_that_writing_is_possible():
    counters = Counters()
    counters.append_unknown()
    assert counters.failing

    counters.events += 1

    assert not counters.failing


async def test_a_storage_that_hangs_is_asked_once_and_told_as_such():
    counters = Counters()
    counters.append_failed(1)
    asked, go_on = 0, asyncio.Event()

    async def prove():
        nonlocal asked
        asked += 1
        await go_on.wait()

    config = ServerConfig(storage_kind="memory")
    question = Readiness(config, nothing, counters, prove, look_seconds=0.2, settle_seconds=0)

    assert await question.reasons() == [NO_ANSWER]
    assert await question.reasons() == [NO_ANSWER]
    assert asked == 1

    go_on.set()
    assert await question.reasons() == []


async def test_a_server_says_why_it_is_not_ready_and_is_again_when_it_can_write():
    store = FaultyEventStore(MemoryEventStore(), [fails] * 100)
    async with (
        live_server(events=store) as live,
        AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as http,
    ):
        one = await live.new()
        path = f"/api/conversations/{one}/message"
        assert (await http.post(path, json={"message": "hello"})).status_code == 503

        answer = await http.get("/ready")
        assert_refused(answer, 503, "not_ready", NOT_STORED)
        # It is no reason to refuse anybody: this is how it passes.
        store.script.clear()
        assert (await http.post(path, json={"message": "hello"})).status_code == 200
        assert (await http.get("/ready")).json() == {"status": "ok"}


async def test_a_server_over_a_folder_looks_at_its_lock_and_tries_a_write_of_its_own(tmp_path):
    async with create_app(ServerConfig(data_dir=tmp_path)) as application:
        transport = ASGITransport(application.asgi)
        async with AsyncClient(transport=transport, base_url="http://localhost") as http:
            counters = application.manager._parts.event_store.counters
            before = counters.commits
            counters.append_failed(1)
            assert_refused(await http.get("/ready"), 503, "not_ready", NOT_STORED)
            counters.failure_seconds -= SETTLE_SECONDS
            assert (await http.get("/ready")).json() == {"status": "ok"}
            assert counters.commits == before + 2

            counters.append_failed(1)  # what was found before does not count then
            counters.failure_seconds -= SETTLE_SECONDS
            (tmp_path / "lock").rename(tmp_path / "away")
            assert_refused(await http.get("/ready"), 503, "not_ready", LOCK_LOST)

            (tmp_path / "away").rename(tmp_path / "lock")
            assert (await http.get("/ready")).json() == {"status": "ok"}


async def test_a_server_that_stops_says_so():
    async with rest_server() as rest:
        rest.application.stop_intake()

        assert_refused(await rest.ask("GET", "/ready"), 503, "not_ready", "stopping")


async def test_a_database_proves_that_it_commits_and_tells_when_it_does_not(tmp_path):
    faults = Faults()
    database = await SqliteDatabase.open(tmp_path / "one.sqlite3", faults.connect)
    try:
        await probe_database(database)
        assert database.counters.commits == 1

        faults.before.append("COMMIT")
        with pytest.raises(OutcomeUnknown):
            await probe_database(database)
        await probe_database(database)
    finally:
        await database.close()


@pytest.mark.parametrize("kind", FILE_STORES)
async def test_files_prove_that_they_can_be_written_and_leave_nothing(kind, tmp_path):
    async with open_file_store(kind, tmp_path) as files:
        await probe_files(files)

        assert await files.keys() == []

        await files.close()
        with pytest.raises(Unavailable):
            await probe_files(files)


MEDIA = {
    "sqlite, all": (SqliteStorage, "parley.sqlite3*"),
    "sqlite, only the WAL": (SqliteStorage, "parley.sqlite3-wal"),
    "local, the folder": (LocalStorage, "files"),
    "local, a folder in it": (LocalStorage, "files/records"),
}


class Noticed(logging.Handler):
    """Wakes a test by the lines that the watch of a medium writes."""

    def __init__(self):
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def emit(self, record):
        self._loop.call_soon_threadsafe(self._lines.put_nowait, record)

    async def next(self):
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._lines.get()


@pytest.fixture
async def noticed():
    handler = Noticed()
    logging.getLogger("storage.medium").addHandler(handler)
    yield handler
    logging.getLogger("storage.medium").removeHandler(handler)


@pytest.mark.parametrize("medium", MEDIA)
async def test_files_that_are_removed_under_a_server_are_told_and_nothing_is_written(
    tmp_path, medium, noticed
):
    kind, pattern = MEDIA[medium]
    away = tmp_path / "away"
    away.mkdir()
    async with open_storage(kind(data_dir=tmp_path / "data")) as storage:
        ann = storage.conversations.for_user("ann")
        await ann.save_metadata(ConversationMetadata(conversation_id="before"))
        asked = readiness(tmp_path / "data", medium=storage.medium)
        assert await asked.reasons() == []
        assert storage.medium is not None
        assert storage.prove is not None
        assert storage.medium.missing() is None
        moved = [(one, away / one.name) for one in (tmp_path / "data").glob(pattern)]
        for one, other in moved:
            one.rename(other)

        assert (await noticed.next()).levelname == "ERROR"
        assert FILES_LOST in await asked.reasons()
        for write in (
            ann.save_metadata(ConversationMetadata(conversation_id="lost")),
            ann.delete_metadata("before"),
            storage.prove(),
        ):
            with pytest.raises(MediumLost):
                await write

        for one, other in moved:
            other.rename(one)
        assert (await noticed.next()).levelname == "WARNING"
        await ann.save_metadata(ConversationMetadata(conversation_id="after"))
        assert await asked.reasons() == []

    async with open_storage(kind(data_dir=tmp_path / "data")) as storage:
        found = await storage.conversations.for_user("ann").search()
    assert {one.conversation_id for one in found.results} == {"before", "after"}


async def test_a_folder_that_was_removed_and_is_written_to_at_once_is_not_made_anew(tmp_path):
    store = await LocalFileStore.open(tmp_path / "files")
    await store.write("logs/c/tail/0", b"x")
    shutil.rmtree(tmp_path / "files" / "logs" / "c")

    with pytest.raises(MediumLost):
        await store.write("logs/c/tail/1", b"x")
    await store.write("logs/d/tail/0", b"x")

    assert await store.keys() == ["logs/d/tail/0"]
    await store.close()


async def test_a_database_that_is_emptied_while_it_is_open_takes_no_more_writes(tmp_path, noticed):
    database = tmp_path / "parley.sqlite3"
    async with open_storage(SqliteStorage(data_dir=tmp_path)) as storage:
        whole = database.read_bytes()
        database.write_bytes(b"")

        assert "parley.sqlite3 was emptied" in (await noticed.next()).getMessage()
        record = ConversationMetadata(conversation_id="c")
        with pytest.raises(MediumLost):
            await storage.conversations.for_user("ann").save_metadata(record)

        database.write_bytes(whole)
        assert (await noticed.next()).levelname == "WARNING"


async def test_a_server_whose_database_is_replaced_refuses_what_it_cannot_keep(tmp_path, noticed):
    config = ServerConfig(data_dir=tmp_path)
    async with (
        create_app(config) as application,
        AsyncClient(
            transport=ASGITransport(application.asgi), base_url="http://localhost:3000"
        ) as client,
    ):
        created = (await client.post(CONVERSATIONS, json={})).json()["conversation_id"]
        (tmp_path / "parley.sqlite3").rename(tmp_path / "gone")
        (tmp_path / "parley.sqlite3").write_bytes((tmp_path / "gone").read_bytes())
        told = await noticed.next()

        answer = await client.get("/ready")
        refused = await client.post(f"{CONVERSATIONS}/{created}/message", json={"message": "x"})

    assert "parley.sqlite3 was replaced" in told.getMessage()
    assert_refused(answer, 503, "not_ready", FILES_LOST)
    assert_refused(refused, 503, "not_stored")


class Hanging:
    """A flush that waits, as on a disk that does not answer."""

    def __init__(self):
        self.hangs = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, descriptor):
        if self.hangs.is_set():
            self.go_on.wait(30)


async def test_a_file_store_knows_how_old_its_oldest_write_is(tmp_path):
    flush = Hanging()
    store = await LocalFileStore.open(tmp_path / "files", flush=flush)
    flush.hangs.set()
    writing = [asyncio.ensure_future(store.write(name, b"x")) for name in "ab"]
    reading = asyncio.ensure_future(store.exists("a"))
    assert not await reading
    first = store.oldest_write_seconds()

    assert 0 < first <= store.oldest_write_seconds()
    flush.go_on.set()
    await asyncio.gather(*writing)

    assert store.oldest_write_seconds() == 0
    await store.close()


async def test_a_database_knows_how_old_its_oldest_write_is(tmp_path):
    database = await SqliteDatabase.open(tmp_path / "parley.db")
    with closing(sqlite3.connect(tmp_path / "parley.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        writing = [asyncio.ensure_future(probe_database(database)) for _ in range(3)]
        await database.read(key_mark())
        writing.append(asyncio.ensure_future(probe_database(database)))
        first = database.oldest_write_seconds()
        assert 0 < first <= database.oldest_write_seconds()
        other.execute("COMMIT")
    await asyncio.gather(*writing)

    assert database.oldest_write_seconds() == 0
    await database.close()


@rerunnable
def key_mark():
    return (yield Statement("read_key_mark")).rows


class Slow(Medium):
    """A medium whose oldest write has waited for so long."""

    seconds = 0.0

    def oldest_write_seconds(self):
        return self.seconds


async def test_a_write_that_takes_longer_than_a_look_may_is_no_answer_until_it_is_done(tmp_path):
    medium = Slow()
    asked = readiness(tmp_path, medium=medium, storage_kind="memory")
    assert await asked.reasons() == []
    medium.seconds = LOOK_SECONDS + 0.1
    assert await asked.reasons() == [NO_ANSWER]
    medium.seconds = 0.1
    assert await asked.reasons() == []


class Away(Medium):
    """A database that does not answer until it is back."""

    def __init__(self):
        super().__init__()
        self.is_back = False

    async def reach(self):
        if not self.is_back:
            raise Unavailable("PostgreSQL cannot be reached")


def over_postgresql(**settings):
    return ServerConfig(
        storage_kind="postgres",
        database_url=SecretStr("postgresql://db/parley"),
        secret_key=SecretStr(SECRET_KEY),
        **settings,
    )


@pytest.mark.parametrize(
    ("others_answer", "seconds", "reasons"),
    [(True, 0, [NO_DATABASE]), (True, 1_000, []), (False, 0, [])],
)
async def test_without_postgresql_requests_go_elsewhere_only_where_that_helps(
    others_answer, seconds, reasons
):
    config = over_postgresql(not_ready_seconds=seconds)
    intake: list[str] = []
    medium = Away()
    asked = Readiness(
        config, lambda: intake, Counters(), medium=medium, others_answer=lambda: others_answer
    )

    assert await asked.verdict() == (reasons, [STORAGE])
    intake.append(DRAINING)
    assert await asked.verdict() == ([DRAINING, *reasons], [STORAGE])
    medium.is_back = True
    assert await asked.verdict() == ([DRAINING], [])


async def test_a_failed_write_degrades_a_server_over_postgresql_too():
    counters = Counters()
    counters.append_failed(1)

    assert await Readiness(over_postgresql(), nothing, counters).verdict() == ([], [STORAGE])
