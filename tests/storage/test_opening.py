"""One opened storage per data directory and process, for as long as somebody uses it."""

import asyncio
import resource
import shutil
from typing import get_args

import pytest

from events.stores.opening import LOG_CHECKS, storage_problems
from storage.backends import BACKENDS, backend_of
from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig
from storage.conversations.base import ConversationStore
from storage.conversations.metadata import ConversationMetadata
from storage.errors import Conflict, DataDirectoryLocked, ForeignData, Unavailable
from storage.lock import data_directory_lock, mark_open, was_left_open
from storage.opening import open_storage

RECORD = ConversationMetadata(conversation_id="c")


@pytest.fixture(params=[SqliteStorage, LocalStorage])
def kind(request):
    return request.param


def test_every_medium_that_can_be_configured_has_a_back_end_and_a_check_of_its_logs(tmp_path):
    union, _ = get_args(StorageConfig)
    variants = get_args(union)

    assert set(BACKENDS) == set(variants)
    for variant in variants:
        values = {"data_dir": tmp_path, "url": "postgresql://h/d", "secret_key": "of a test"}
        config = variant(**{name: values[name] for name in values if name in variant.model_fields})
        backend = backend_of(config)
        assert backend.kind == config.kind
        assert backend.data_dir == getattr(config, "data_dir", None)
        assert (backend.kind in LOG_CHECKS) == (backend.path is not None)


def test_a_storage_is_the_same_whatever_its_key_and_however_its_directory_is_spelled(
    kind, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = kind(data_dir=tmp_path)

    same = kind(data_dir="./", secret_key="other")  # noqa: S106 - a test's
    assert backend_of(same).identity == backend_of(config).identity
    assert backend_of(kind(data_dir=tmp_path / "b")).identity != backend_of(config).identity


async def test_the_description_counts_conversations_that_are_not_deleted(kind, tmp_path):
    config = kind(data_dir=tmp_path)
    async with open_storage(config) as storage:
        records = storage.conversations.for_user(None)
        for name in ("a", "b", "c"):
            await records.save_metadata(ConversationMetadata(conversation_id=name))
        await records.delete_metadata("b")

    assert backend_of(config).describe().startswith("ok, 2 conversations")


async def test_whoever_opens_it_meanwhile_gets_the_same_and_the_last_one_closes_it(kind, tmp_path):
    config = kind(data_dir=tmp_path)

    async with open_storage(config) as first:
        async with open_storage(config) as second:
            assert second is first
        assert await first.conversations.for_user(None).exists("c") is False

    with data_directory_lock(tmp_path):
        pass
    with pytest.raises(Unavailable):
        await first.conversations.for_user(None).save_metadata(RECORD)


async def test_opening_at_the_same_time_opens_once(kind, tmp_path):
    config = kind(data_dir=tmp_path)
    holdings = [open_storage(config) for _ in range(5)]

    opened = await asyncio.gather(*(holding.__aenter__() for holding in holdings))

    assert len({id(one) for one in opened}) == 1
    await asyncio.gather(*(holding.__aexit__() for holding in holdings))


async def test_whoever_comes_while_it_is_being_closed_opens_it_anew(kind, tmp_path):
    config = kind(data_dir=tmp_path)
    leaving, coming = open_storage(config), open_storage(config)
    before = await leaving.__aenter__()

    _, after = await asyncio.gather(leaving.__aexit__(), coming.__aenter__())

    assert not await after.conversations.for_user(None).exists("c")
    assert after is not before
    await coming.__aexit__()


async def test_a_path_written_in_two_ways_is_one_storage(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async with open_storage(kind(data_dir=tmp_path / "data")) as first:
        relative = kind.model_validate({"data_dir": "data"})
        async with open_storage(relative) as second:
            assert second is first


async def test_a_directory_in_use_is_refused_and_can_be_opened_later(kind, tmp_path):
    config = kind(data_dir=tmp_path)
    with data_directory_lock(tmp_path):
        for _ in range(2):
            with pytest.raises(DataDirectoryLocked):
                await ConversationStore.get_instance(config, None)

    async with open_storage(config):
        store = await ConversationStore.get_instance(config, None)
        assert not await store.exists("c")


async def test_another_event_loop_of_the_process_is_refused(kind, tmp_path):
    config = kind(data_dir=tmp_path)

    async def elsewhere():
        async with open_storage(config):
            raise AssertionError

    async with open_storage(config):
        with pytest.raises(Unavailable, match="another event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())


def test_an_event_loop_that_ends_lets_go_of_what_it_kept_open(kind, tmp_path):
    config = kind(data_dir=tmp_path)

    async def save(conversation_id):
        store = await ConversationStore.get_instance(config, None)
        await store.save_metadata(ConversationMetadata(conversation_id=conversation_id))
        return [record.conversation_id for record in (await store.search()).results]

    assert asyncio.run(save("a")) == ["a"]
    assert asyncio.run(save("b")) == ["b", "a"]
    with data_directory_lock(tmp_path):
        pass


async def test_memory_is_shared_while_it_is_open_and_forgotten_after():
    async with open_storage(MemoryStorage()) as first:
        store = first.conversations.for_user(None)
        await store.save_metadata(ConversationMetadata(conversation_id="c"))
        async with open_storage(MemoryStorage()) as second:
            assert await second.conversations.for_user(None).exists("c")

    async with open_storage(MemoryStorage()) as third:
        assert not await third.conversations.for_user(None).exists("c")


@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_write_ahead_log_without_its_database_is_refused_and_left_alone(tmp_path, is_empty):
    config = SqliteStorage(data_dir=tmp_path / "killed")
    async with open_storage(SqliteStorage(data_dir=tmp_path / "one")) as storage:
        await storage.conversations.for_user(None).save_metadata(RECORD)
        shutil.copytree(tmp_path / "one", config.data_dir)
    database = config.data_dir / "parley.sqlite3"
    whole = database.read_bytes()
    database.unlink()
    if is_empty:
        database.touch()

    told = "is empty" if is_empty else "is missing"
    (problem,) = storage_problems(config)
    assert f"parley.sqlite3 {told}, and its write-ahead log (parley.sqlite3-wal) is" in problem
    with pytest.raises(Unavailable, match=told):
        async with open_storage(config):
            pass

    database.write_bytes(whole)
    async with open_storage(config) as storage:
        assert await storage.conversations.for_user(None).exists("c")


async def test_a_link_that_leads_nowhere_is_named(kind, tmp_path):
    name = "files" if kind is LocalStorage else "parley.sqlite3"
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "gone")
    (tmp_path / "link").symlink_to(tmp_path / "gone")

    for config in (kind(data_dir=folder), kind(data_dir=tmp_path / "link")):
        (problem,) = storage_problems(config)
        assert problem.endswith(f"is a link to {tmp_path / 'gone'}, which is not there")
        with pytest.raises(Unavailable, match="which is not there"):
            async with open_storage(config):
                pass


async def test_a_file_is_no_data_directory(kind, tmp_path):
    config = kind(data_dir=tmp_path / "file")
    config.data_dir.touch()

    assert storage_problems(config) == [f"cannot use {config.data_dir}: Not a directory"]
    with pytest.raises(Unavailable, match="Not a directory"):
        async with open_storage(config):
            pass


LEFT = {
    "sqlite": lambda folder: (folder / "parley.sqlite3").touch(),
    "local": lambda folder: (folder / "files").mkdir(),
    "v0 settings": lambda folder: (folder / "settings.json").touch(),
    "v0 sessions": lambda folder: (folder / "sessions" / "a" / "events").mkdir(parents=True),
}


@pytest.mark.parametrize(
    ("left", "kind"),
    [
        ("sqlite", LocalStorage),
        ("local", SqliteStorage),
        ("v0 settings", SqliteStorage),
        ("v0 settings", LocalStorage),
        ("v0 sessions", SqliteStorage),
        ("v0 sessions", LocalStorage),
    ],
)
async def test_a_directory_of_somebody_elses_data_is_refused_and_left_alone(tmp_path, left, kind):
    LEFT[left](tmp_path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ForeignData, match=r"another data directory$"):
        async with open_storage(kind(data_dir=tmp_path)):
            pass

    assert sorted(tmp_path.rglob("*")) == before


async def test_a_directory_that_holds_both_is_opened_as_either(tmp_path):
    async with open_storage(SqliteStorage(data_dir=tmp_path)):
        (tmp_path / "files").mkdir()
    for kind in (SqliteStorage, LocalStorage):
        async with open_storage(kind(data_dir=tmp_path)) as storage:
            assert (await storage.conversations.for_user(None).search()).results == []


async def test_a_full_disk_keeps_no_lock_from_being_taken_and_let_go(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with data_directory_lock(tmp_path):
            mark_open(tmp_path)
            with pytest.raises(DataDirectoryLocked), data_directory_lock(tmp_path):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert not was_left_open(tmp_path)


def test_a_storage_that_could_not_be_closed_can_be_opened_in_another_event_loop(tmp_path):
    config = LocalStorage(data_dir=tmp_path)
    lists = tmp_path / "files" / "lists"

    async def fail_to_close():
        async with open_storage(config) as storage:
            await storage.conversations.for_user(None).save_metadata(RECORD)
            lists.write_text("a file where a folder belongs")

    with pytest.raises(Conflict):
        asyncio.run(fail_to_close())
    lists.unlink()

    async def is_there():
        async with open_storage(config) as storage:
            return await storage.conversations.for_user(None).exists("c")

    assert asyncio.run(is_there())
