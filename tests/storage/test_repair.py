"""Derived records and indexes: differences are named by the check, and a repair makes it anew."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import orjson
import pytest

from events.batch import digest_of
from events.conformance.records import append, record, records
from events.event import EventFlag, StoredEvent
from events.stores.opening import storage_problems
from events.transfer.contents import open_stores
from events.transfer.repair import repair
from events.usage import UsageLedger
from server.cli import main
from storage.config import LocalStorage, SqliteStorage
from storage.conversations.files.documents import Document
from storage.conversations.metadata import ConversationMetadata
from storage.files.format import with_checksum

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
KINDS = {"sqlite": SqliteStorage, "local": LocalStorage}
COUNT = 250
KEYED = 7
"""An event with an idempotency key, far enough back to be sealed."""


def config_of(kind, folder):
    return KINDS[kind](data_dir=folder)


def keyed(event_id):
    payload = orjson.loads(record(event_id, "keyed").body) | {"client_id": "k"}
    return StoredEvent(event_id, EventFlag.PLAIN, orjson.dumps(payload))


def measured(event_id):
    metrics = {
        "accumulated_cost": 0.5,
        "accumulated_token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "model": "m"},
    }
    payload = orjson.loads(record(event_id).body) | {"llm_metrics": metrics}
    return StoredEvent(event_id, EventFlag.PLAIN, orjson.dumps(payload))


async def fill(kind, folder):
    async with open_stores(config_of(kind, folder)) as stores:
        for name in ("b", "c"):
            saved = ConversationMetadata(
                conversation_id=name, created_at=NOON, title=f"Title {name}"
            )
            await stores.storage.conversations.for_user("ann").save_metadata(saved)
            await append(stores.events, name, records(0, KEYED))
            await append(stores.events, name, [keyed(KEYED)], keys={0: digest_of("k")})
            await append(stores.events, name, [measured(KEYED + 1)])
            await append(stores.events, name, records(KEYED + 2, COUNT))
        await UsageLedger(stores.events, stores.storage.usage).catch_up(60)


async def repaired(kind, folder):
    async with open_stores(config_of(kind, folder)) as stores:
        return await repair(stores)


async def said_of(kind, folder, name="c"):
    async with open_stores(config_of(kind, folder)) as stores:
        view = stores.storage.conversations.for_user("ann")
        kept = await view.get_metadata(name)
        found = await stores.events.find(name, digest_of("k"))
        await UsageLedger(stores.events, stores.storage.usage).catch_up(60)
        usage = await stores.storage.usage.load(name)
        listed = (await view.search()).results
        lines = () if usage is None else usage.lines
        return kept, found, lines, [one.conversation_id for one in listed]


def change(folder, statement):
    with closing(sqlite3.connect(folder / "parley.sqlite3", isolation_level=None)) as connection:
        connection.execute(statement)


def rewrite_record(folder, **fold):
    path = folder / "files" / "records" / "c"
    document = Document.decode("records/c", path.read_bytes())
    document.fold = (document.fold or {}) | fold
    path.write_bytes(document.encode())


def rewrite_list(folder):
    path = folder / "files" / "lists" / "00000000"
    body = path.read_bytes().split(b"\n", 1)[1].replace(b'"title c"', b'"another"')
    path.write_bytes(with_checksum("list", body))


def lose_list_entry(folder):
    path = folder / "files" / "lists" / "00000000"
    lines = path.read_bytes().split(b"\n")[1:]
    body = b"\n".join(line for line in lines if b'"c"' not in line)
    path.write_bytes(with_checksum("list", body))


NOT_THE_FOLD = "the record of conversation c is not the fold of its log: "
DIFFERENCES = {
    "cost": (
        "sqlite",
        lambda folder: change(
            folder, "UPDATE conversations SET accumulated_cost = 9 WHERE conversation_id = 'c'"
        ),
        NOT_THE_FOLD + "accumulated_cost",
    ),
    "a moment": (
        "sqlite",
        lambda folder: change(
            folder,
            "UPDATE conversations SET last_updated_at = '2030-01-01T00:00:00.000000Z'"
            " WHERE conversation_id = 'c'",
        ),
        NOT_THE_FOLD + "last_updated_at",
    ),
    "the newest state": (
        "sqlite",
        lambda folder: change(
            folder, "UPDATE conversations SET last_state_id = 3 WHERE conversation_id = 'c'"
        ),
        "the head of conversation c has a damaged last_state_id",
    ),
    "a key": (
        "sqlite",
        lambda folder: change(folder, "DELETE FROM client_ids WHERE conversation = 2"),
        "damaged records 7-7 in conversation c: their idempotency keys are not in the index",
    ),
    "the fold of a file": (
        "local",
        lambda folder: rewrite_record(folder, total_tokens=1, accumulated_cost=0.0),
        NOT_THE_FOLD + "accumulated_cost, total_tokens",
    ),
    "a title in a list": (
        "local",
        rewrite_list,
        "the lists do not say of conversation c what its record says",
    ),
    "an entry of a list": (
        "local",
        lose_list_entry,
        "the lists do not say of conversation c what its record says",
    ),
    "a table of keys": (
        "local",
        lambda folder: (folder / "files" / "logs" / "c" / "keys" / "00000000").unlink(),
        "damaged records 7-7 in conversation c: their idempotency keys are not in the index",
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
async def test_what_differs_from_its_log_is_named_and_a_repair_makes_it_anew(difference, tmp_path):
    kind, damage, told = DIFFERENCES[difference]
    await fill(kind, tmp_path)
    assert storage_problems(config_of(kind, tmp_path)) == []
    sound = await said_of(kind, tmp_path)
    damage(tmp_path)

    assert told in "; ".join(storage_problems(config_of(kind, tmp_path)))
    done = await repaired(kind, tmp_path)

    assert done
    assert storage_problems(config_of(kind, tmp_path)) == []
    assert await said_of(kind, tmp_path) == sound


@pytest.mark.parametrize("kind", KINDS)
async def test_a_repair_of_what_is_sound_changes_no_record_and_no_log(kind, tmp_path):
    await fill(kind, tmp_path)
    before = await said_of(kind, tmp_path)

    done = await repaired(kind, tmp_path)

    assert done == ["the lists of conversations and titles were made anew"]
    assert await said_of(kind, tmp_path) == before


async def test_usage_that_is_not_what_the_log_says_is_counted_anew(tmp_path):
    await fill("sqlite", tmp_path)
    before = await said_of("sqlite", tmp_path)
    change(tmp_path, "UPDATE usage_lines SET cost = 77 WHERE conversation_id = 'c'")

    done = await repaired("sqlite", tmp_path)

    assert "the usage of conversation c is counted anew" in done
    assert await said_of("sqlite", tmp_path) == before


async def test_titles_are_found_again_whose_index_was_lost(tmp_path):
    await fill("sqlite", tmp_path)
    change(tmp_path, "INSERT INTO titles (titles) VALUES ('delete-all')")

    await repaired("sqlite", tmp_path)

    with closing(sqlite3.connect(tmp_path / "parley.sqlite3")) as connection:
        found = connection.execute("SELECT rowid FROM titles WHERE titles MATCH '\"itl\"'")
        assert len(found.fetchall()) == 2


async def test_a_damaged_log_is_left_as_it_is_by_a_repair(tmp_path):
    await fill("sqlite", tmp_path)
    change(tmp_path, "UPDATE events SET crc = 0 WHERE key = 2 << 32 | 4")
    change(tmp_path, "UPDATE arrivals SET crc = 0 WHERE key = 2 << 32 | 4")
    change(tmp_path, "UPDATE conversations SET accumulated_cost = 9 WHERE conversation_id = 'c'")
    before = storage_problems(config_of("sqlite", tmp_path))

    done = await repaired("sqlite", tmp_path)

    assert any("conversation c was left as it is: damaged records" in one for one in done)
    assert storage_problems(config_of("sqlite", tmp_path)) == before


async def test_an_event_that_names_another_id_than_its_own_is_told(tmp_path):
    async with open_stores(config_of("sqlite", tmp_path)) as stores:
        odd = StoredEvent(1, EventFlag.PLAIN, record(5).body)
        await append(stores.events, "c", [record(0), odd, record(2)])

    (problem,) = storage_problems(config_of("sqlite", tmp_path))

    assert problem == "damaged records 1-1 in conversation c: not as a server writes them"


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_repairs_and_then_checks_and_makes_nothing_of_nothing(kind, tmp_path, capsys):
    folder = tmp_path / "nothing"

    code = main(["check", "--repair", "--storage", kind, "--data-dir", str(folder)])

    assert code == 0
    assert "storage: no data in" in capsys.readouterr().out
    assert not folder.exists()
