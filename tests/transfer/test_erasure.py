"""Export and erasure: everything of one user in one archive, and then nowhere; others keep theirs."""

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack, asynccontextmanager, closing

import httpx
import orjson
import pytest
from pydantic import SecretStr

from events.conformance.records import append
from events.event import EventFlag, StoredEvent
from events.search.opening import drop_index
from events.stores.base import MEMORY, Aside
from events.stores.opening import storage_problems
from events.transfer.archive import Kind, read_frames
from events.transfer.backup import export_of, verify, write_archive
from events.transfer.contents import open_stores
from events.transfer.erasure import ACTION, Erasure
from events.transfer.restore import Restore, key_of
from events.usage import UsageLedger
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.stub import StubRuntimeBuilder
from server.cli import main
from storage.conversations.metadata import ConversationMetadata
from storage.errors import DataDirectoryLocked
from storage.keys import owner_part
from storage.lock import data_directory_lock
from storage.sealing.key import keep_key_file
from storage.users import CustomSecret, Secrets, Settings
from storage.workspaces.snapshot import Snapshot
from tests.support.killed_commands import killed_anywhere
from tests.support.local_worlds import UIDS, passable_folder
from tests.support.postgres import postgres_storage, rows_of
from tests.support.s3 import storage_of as bucket_of
from tests.support.servers import REPOSITORY, class_path, server_process
from tests.support.waiting import WAIT_SECONDS
from tests.support.whole_storages import DURABLE, NOON, config_of, everything, fill

CANARY = "c4nary"
WORDS = ("title", "message", "memory", "branch", "file", "folder", "language", "custom", "model")
PLANTED = {word: f"{CANARY}-{word}-value" for word in WORDS}
ANN = f"{CANARY}-user"
KINDS = (*DURABLE, "postgres", "s3")


@asynccontextmanager
async def storage_in(kind, folder):
    """The configuration of a storage of a kind."""
    if kind == "postgres":
        async with postgres_storage(folder) as config:
            yield config
    else:
        yield bucket_of(folder, lease_seconds=20.0) if kind == "s3" else config_of(kind, folder)


async def nothing_left(_):
    """Stands for runtimes that keep nothing."""


async def plant(stores, key, owner, count=300):
    """Make a conversation in which every field that takes a text has a canary."""
    record = ConversationMetadata(
        conversation_id=key,
        created_at=NOON,
        title=PLANTED["title"],
        selected_branch=PLANTED["branch"],
        llm_model=PLANTED["model"],
        custom={"note": PLANTED["custom"]},
    )
    await stores.storage.conversations.for_user(owner).save_metadata(record)
    payload = {
        "timestamp": "2026-05-04T12:00:00Z",
        "source": "user",
        "action": "message",
        "args": {"content": PLANTED["message"] * 20},
    }
    events = [
        StoredEvent(number, EventFlag.PLAIN, orjson.dumps({"id": number} | payload))
        for number in range(count)
    ]
    for start in range(0, count, 20):
        await append(stores.events, key, events[start : start + 20])
    await stores.events.put_asides([Aside(key, MEMORY, PLANTED["memory"].encode())])
    files = {f"{PLANTED['folder']}.txt": PLANTED["file"].encode()}
    await stores.workspaces.save(key, Snapshot(files=files, folders=frozenset(), own={}))


async def plant_user(stores, owner):
    """Give a user settings, secrets and usage."""
    settings = Settings(language=PLANTED["language"], llm_api_key=SecretStr("a key of ann's"))
    await stores.storage.settings.for_user(owner).store(settings)
    value = CustomSecret(value=SecretStr("a secret of ann's"))
    await stores.storage.secrets.for_user(owner).store(Secrets(custom_secrets={"TOKEN": value}))
    await UsageLedger(stores.events, stores.storage.usage).catch_up(WAIT_SECONDS)


def found_in(folder, words=(CANARY,)):
    """The files below a folder that hold one of the words."""
    return [
        f"{word} in {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        for word in words
        if word in str(path.relative_to(folder))
        or (path.is_file() and word.encode() in path.read_bytes())
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_erased_user_is_in_no_store_and_everybody_else_has_everything(kind, tmp_path):
    async with storage_in(kind, tmp_path / "data") as config, open_stores(config) as stores:
        await fill(stores, conversations=9, events=30)
        expected = await everything(stores)
        for number in range(3):
            await plant(stores, f"own{number}", ANN, count=40)
        await plant_user(stores, ANN)

        erased = await Erasure(stores, ANN, nothing_left).run()

        assert (erased.conversations, erased.events, erased.usage) == (3, 120, 3)
        assert sorted(erased.records) == ["secrets", "settings"]
        assert erased.notes == []
        assert [one async for one in stores.records_of(ANN)] == []
        assert await stores.storage.settings.for_user(ANN).load() is None
        assert await stores.storage.secrets.for_user(ANN).load() == Secrets()
        assert await stores.storage.users.names_of(ANN) == []
        for number in range(3):
            key = f"own{number}"
            assert (await stores.events.head(key)).deleted
            assert await stores.events.asides(key) == {}
            assert await stores.storage.usage.load(key) is None
        (act, *others) = await stores.storage.audit.page(2**62, 100)
        assert (act.action, act.target) == (ACTION, owner_part(ANN))
        assert ANN not in act.model_dump_json()
        left = await everything(stores)
        left["audit"] = [one.model_copy(update={"id": 0}) for one in others]
        spent = sorted([*expected["deleted"], *(f"own{number}" for number in range(3))])
        assert left == expected | {"deleted": spent}


@pytest.mark.parametrize("kind", DURABLE)
def test_no_byte_of_an_erased_user_is_left_in_the_directory(kind, tmp_path, capsys):
    data = tmp_path / "data"

    async def fill_all():
        async with open_stores(config_of(kind, data)) as stores:
            await fill(stores, conversations=6, events=30)
            for number in range(3):
                await plant(stores, f"own{number}", ANN)
            await plant_user(stores, ANN)
            return await everything(stores)

    expected = asyncio.run(fill_all())
    assert found_in(data) != []
    if kind == "sqlite":
        assert main(["reindex", "--data-dir", str(data)]) == 0
        assert f"{CANARY} in search.sqlite3" in found_in(data)
    capsys.readouterr()

    assert main(["erase", "--storage", kind, "--data-dir", str(data), "--user", ANN]) == 0

    assert capsys.readouterr().out == (
        "erased: 3 conversations with 900 events, secrets, settings, the usage of 3 conversations\n"
    )
    assert found_in(data) == []
    assert storage_problems(config_of(kind, data)) == []

    async def read_all():
        async with open_stores(config_of(kind, data)) as stores:
            return await everything(stores)

    left = asyncio.run(read_all())
    left["audit"] = left["audit"][1:]
    own = {key for key in expected if key.startswith("own")}
    kept = {key: expected[key] for key in expected.keys() - own}
    assert left == kept | {"deleted": sorted([*expected["deleted"], *own])}


@pytest.mark.parametrize("kind", DURABLE)
async def test_no_byte_of_a_deleted_conversation_is_left_in_the_directory(kind, tmp_path):
    """Not at once with SQLite, whose freed pages keep what was in them."""
    data = tmp_path / "data"
    async with server_process(data, "--storage", kind) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            made = await http.post("/api/conversations", json={"initial_user_msg": "hello"})
            key = made.json()["conversation_id"]
            one = f"/api/conversations/{key}"
            await http.patch(one, json={"title": PLANTED["title"]})
            for number in range(60):
                message = {"message": f"{PLANTED['message']} {number}"}
                assert (await http.post(f"{one}/message", json=message)).status_code < 300
            kept = await http.post("/api/conversations", json={"initial_user_msg": "stays"})
            assert (await http.delete(one)).status_code == 200
            stays = kept.json()["conversation_id"]
            assert (await http.get(f"/api/conversations/{stays}")).status_code == 200
        await server.stop()

    if kind == "sqlite":
        erase = ["erase", "--deleted", "--data-dir", str(data)]
        assert await asyncio.to_thread(main, erase) == 0

    assert found_in(data) == []
    assert storage_problems(config_of(kind, data)) == []


async def test_a_deleted_conversation_leaves_its_id_and_no_owner(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        await plant(stores, "own", ANN)
        await stores.events.delete("own")

    with closing(sqlite3.connect(tmp_path / "parley.sqlite3")) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = map(dict, connection.execute("SELECT * FROM conversations"))
    assert row["conversation_id"] == "own"
    assert not any(CANARY in str(value) for value in row.values())


async def test_the_owners_in_tombstones_of_earlier_versions_are_cleared(tmp_path):
    path = tmp_path / "parley.sqlite3"
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        await plant(stores, "gone", ANN, count=20)
        await plant(stores, "there", "bob", count=20)
        await stores.events.delete("gone")
    with closing(sqlite3.connect(path)) as connection, connection:
        # As a version left it that kept the owner, before there was the migration.
        connection.execute(
            "UPDATE conversations SET user_id = ?, created_at = '2026-05-04T12:00:00.000000Z',"
            " llm_model = 'm', last_updated_at = '2026-05-04T12:00:00.000000Z'"
            " WHERE conversation_id = 'gone'",
            (ANN,),
        )
        for name in ("records", "usage_positions", "usage_lines", "audit"):
            connection.execute(f"DROP VIEW checked_{name}")
        for name in ("conversations", "usage_positions", "usage_lines", "audit"):
            connection.execute(f"ALTER TABLE {name} DROP COLUMN checksum")
        connection.execute("DELETE FROM migrations WHERE name >= '0016_tombstones.sql'")

    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        assert [one.conversation_id async for one in stores.records()] == ["there"]

    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM conversations")
        rows = {row["conversation_id"]: dict(row) for row in found}
    kept = ("user_id", "created_at", "llm_model", "last_updated_at", "last_message_at")
    assert [rows["gone"][name] for name in kept] == [None] * 5
    assert rows["there"]["user_id"] == "bob"
    assert rows["there"]["last_updated_at"] is not None
    assert storage_problems(config_of("sqlite", tmp_path)) == []


def test_no_part_of_a_deleted_title_is_left_in_its_index(tmp_path):
    """It is kept by three letters, in blocks that are merged some day."""
    planted(tmp_path)
    parts = "SELECT count(*) FROM titles_data WHERE instr(block, CAST('c4n' AS BLOB)) > 0"
    with closing(sqlite3.connect(tmp_path / "parley.sqlite3")) as connection:
        assert connection.execute(parts).fetchone() == (1,)

    assert main(["erase", "--data-dir", str(tmp_path), "--user", ANN]) == 0

    with closing(sqlite3.connect(tmp_path / "parley.sqlite3")) as connection:
        assert connection.execute(parts).fetchone() == (0,)


async def test_an_erased_user_is_in_no_row_of_postgres(tmp_path):
    async with postgres_storage(tmp_path / "data") as config:
        async with open_stores(config) as stores:
            await plant(stores, "own", ANN)
            await plant_user(stores, ANN)
            found = await rows_of(tmp_path / "data")
            assert CANARY.encode() in found
            assert CANARY.encode().hex().encode() in found
            await Erasure(stores, ANN, nothing_left).run()
        found = await rows_of(tmp_path / "data")
        assert CANARY.encode() not in found
        assert CANARY.encode().hex().encode() not in found


@pytest.mark.parametrize("kind", KINDS)
async def test_an_export_restored_elsewhere_has_everything_of_the_user_and_nothing_else(
    kind, tmp_path
):
    async with storage_in(kind, tmp_path / "old") as config, open_stores(config) as stores:
        await fill(stores, conversations=9, events=30)
        await write_archive(tmp_path / "export", export_of(stores, "ann"))
        all_of_it = await everything(stores)
        own = {one.conversation_id async for one in stores.records_of("ann")}
    assert verify(tmp_path / "export").conversations == len(own) == 3

    _, key = key_of(tmp_path / "export")
    assert key is not None
    keep_key_file(tmp_path / "new", key)
    async with open_stores(config_of("sqlite", tmp_path / "new")) as stores:
        restore = Restore(tmp_path / "export", stores)
        assert {one.conversation_id async for one in restore.outcomes()} == own
        assert restore.report.is_complete
        found = await everything(stores)
        assert {*await stores.storage.usage.counted()} <= own | {"gone"}
    nobodys: dict[str, object] = {"audit": [], "deleted": []}
    nobodys |= {"user None": (None, Secrets()), "user bob": (None, Secrets())}
    expected = {key: all_of_it[key] for key in [*own, "user ann", "gone"]}
    assert found == expected | nobodys


@pytest.mark.parametrize("kind", DURABLE)
async def test_an_export_holds_a_key_of_its_own_and_none_of_the_storage(kind, tmp_path):
    async with open_stores(config_of(kind, tmp_path / "old")) as stores:
        await fill(stores, conversations=3, events=10)
        await write_archive(tmp_path / "export", export_of(stores, "ann"))
    frames = [*read_frames(tmp_path / "export")]
    storages = (tmp_path / "old" / "secret.key").read_bytes().strip()
    assert [frame.kind for frame in frames].count(Kind.KEY) == 1
    assert not any(storages in frame.body for frame in frames)
    assert not any(frame.kind is Kind.AUDIT for frame in frames)


def test_a_user_is_exported_by_a_command(tmp_path, capsys):
    async def fill_all():
        async with open_stores(config_of("sqlite", tmp_path / "data")) as stores:
            await fill(stores, conversations=3, events=10)

    asyncio.run(fill_all())
    data, path = str(tmp_path / "data"), str(tmp_path / "export")

    assert main(["export", "--user", "ann", path, "--data-dir", data]) == 0

    assert ", 1 conversations, " in capsys.readouterr().out
    assert main(["restore", path, "--data-dir", str(tmp_path / "new")]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["erase"],
        ["erase", "--user", "ann", "--anonymous"],
        ["erase", "--deleted", "--user", "ann"],
        ["export", "file"],
    ],
    ids=" ".join,
)
def test_exactly_one_user_is_named(arguments, tmp_path, capsys):
    assert main([*arguments, "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("parley: ")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("kind", DURABLE)
def test_nothing_is_erased_beside_a_server_that_has_the_directory(kind, tmp_path, capsys):
    async def fill_all():
        async with open_stores(config_of(kind, tmp_path)) as stores:
            await plant(stores, "own", ANN, count=40)

    asyncio.run(fill_all())
    arguments = ["--storage", kind, "--data-dir", str(tmp_path)]
    before = found_in(tmp_path)
    with data_directory_lock(tmp_path):
        # The lock is that of another process, as far as a second one is concerned.
        for command in (["--user", ANN], ["--deleted"]):
            assert main(["erase", *arguments, *command]) == 2
            assert "is in use by process" in capsys.readouterr().err
    assert found_in(tmp_path) == before


def planted(data):
    """Fill a directory with one conversation of the user."""

    async def run():
        async with open_stores(config_of("sqlite", data)) as stores:
            await plant(stores, "own", ANN, count=20)

    asyncio.run(run())


def test_the_directory_of_an_erased_conversation_is_removed(tmp_path, monkeypatch):
    planted(tmp_path / "data")
    with passable_folder() as folder:
        for name in ("own", "other"):
            (folder / name / "workspace").mkdir(parents=True)
            (folder / name / "workspace" / "file").write_text(CANARY)
        monkeypatch.setenv("PARLEY_LOCAL_DIR", str(folder))
        monkeypatch.setenv("PARLEY_LOCAL_UIDS", f"{UIDS.start}-{UIDS.stop - 1}")
        arguments = ["--runtime", "local", "--data-dir", str(tmp_path / "data")]

        assert main(["erase", *arguments, "--user", ANN]) == 0

        assert found_in(folder) == [f"{CANARY} in other/workspace/file"]


class Unforgetting(StubRuntimeBuilder):
    """Cannot remove what it has left."""

    async def forget(self, conversation_id: str) -> None:
        """See RuntimeBuilder."""
        raise RuntimeUnavailable("the disk is away")


def test_a_conversation_stays_while_what_its_runtime_left_cannot_be_removed(
    tmp_path, monkeypatch, capsys
):
    planted(tmp_path)
    erase = ["erase", "--data-dir", str(tmp_path), "--user", ANN]
    with monkeypatch.context() as environment:
        environment.setenv("PARLEY_RUNTIME_CLASS", class_path(Unforgetting))
        assert main(erase) == 2
    assert "has left cannot be removed: the disk is away" in capsys.readouterr().err

    assert main(erase) == 0
    assert capsys.readouterr().out.startswith("erased: 1 conversations with 20 events")


@pytest.mark.parametrize("setting", ["conversation_store", "settings_store", "secrets_store"])
def test_what_a_class_of_ones_own_keeps_is_not_said_to_be_erased(
    setting, tmp_path, monkeypatch, capsys
):
    planted(tmp_path)
    monkeypatch.setenv(f"PARLEY_{setting.upper()}_CLASS", "some.module:Class")

    assert main(["erase", "--data-dir", str(tmp_path), "--user", ANN]) == 2

    assert capsys.readouterr().err.startswith(f"parley: {setting}_class: ")
    assert found_in(tmp_path) != []


@pytest.mark.parametrize("kind", DURABLE)
async def test_an_erasure_that_was_killed_anywhere_is_finished_by_the_next(kind, tmp_path):
    data = tmp_path / "data"
    async with open_stores(config_of(kind, data)) as stores:
        await fill(stores, conversations=3, events=20)
        for number in range(3):
            await plant(stores, f"own{number}", ANN, count=60)
        await plant_user(stores, ANN)
    arguments = ["erase", "--storage", kind, "--data-dir", str(data), "--user", ANN]
    runs = [kills async for kills in killed_anywhere(*arguments)]

    assert runs[-1] > 1
    assert found_in(data) == []
    assert storage_problems(config_of(kind, data)) == []
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(config_of(kind, data)))
        acts = await stores.storage.audit.page(2**62, 100)
        assert ACTION in [act.action for act in acts]
        assert [one.conversation_id async for one in stores.records()] != []


async def test_the_index_of_a_search_directory_in_use_stays(tmp_path):
    (tmp_path / "search.sqlite3").write_bytes(b"")
    held = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; from pathlib import Path\n"
        "from storage.lock import data_directory_lock\n"
        "with data_directory_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
        str(tmp_path),
        stdin=PIPE,
        stdout=PIPE,
        cwd=REPOSITORY,
    )
    assert held.stdout is not None
    assert held.stdin is not None
    assert await held.stdout.readline() == b"held\n"
    async with AsyncExitStack() as stack:
        with pytest.raises(DataDirectoryLocked):
            await drop_index(tmp_path, stack)
    assert (tmp_path / "search.sqlite3").exists()
    held.stdin.close()
    await held.wait()
