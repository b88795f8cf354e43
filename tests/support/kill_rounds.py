"""Rounds of: write, SIGKILL, start again, compare."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random

import orjson

from events.event import AgentState
from events.stores.files.store import FileEventStore
from events.summary import SummaryChange, fold
from storage.backends.base import OpenedFiles
from storage.config import LocalStorage, StorageConfig
from storage.conversations.base import ConversationStore
from storage.conversations.database import DatabaseConversationStores
from storage.database.postgres_database import PostgresDatabase
from storage.database.sqlite import SqliteDatabase
from storage.keys import DATABASE_NAME
from storage.opening import open_storage
from tests.support.clients import joined
from tests.support.crash_run import CrashFigures, unlimited_server
from tests.support.payloads import Payload, is_state, recalls
from tests.support.postgres import open_postgres
from tests.support.remote import Remote, remote
from tests.support.s3 import cloud_environment, storage_of
from tests.support.seeds import choices
from tests.support.servers import ServerProcess
from tests.support.waiting import WAIT_SECONDS
from tests.support.writers import Writers

CONVERSATIONS = 8
KILL_SECONDS = (0.005, 0.2)


@dataclass(slots=True)
class KillFigures(CrashFigures):
    """Figures of a run of rounds."""

    rounds: int = 0
    acknowledged_before: int = 0
    acknowledged: int = 0
    fewest_acknowledged: int = 2**31
    repeated: int = 0
    known: int = 0
    appended: int = 0

    def summary(self) -> str:
        """See CrashFigures."""
        return (
            f"rounds {self.rounds}, acknowledged {self.acknowledged} ({self.acknowledged_before}"
            f" before the kill, at least {self.fewest_acknowledged} a round), sent again"
            f" {self.repeated}, of these known {self.known}, appended {self.appended}, 0 lost, 0 twice"
        )


async def run_kill_rounds(
    data_dir: Path, seed: int, rounds: int, storage: str = "sqlite"
) -> KillFigures:
    """Kill and compare so often over one data directory. Raises AssertionError."""
    random = choices(seed)
    figures = KillFigures(seed, storage)
    variables = cloud_environment(data_dir, lease_seconds=1.0) if storage == "cloud" else None
    async with unlimited_server(data_dir, storage, variables) as server:
        for _ in range(rounds):
            async with remote(server.url) as api:
                await _round(server, api, random, figures)
            figures.rounds += 1
        if storage in CHECKED:
            await server.kill()
            await _check_files(CHECKED[storage](data_dir))
    return figures


def _local(data_dir: Path) -> StorageConfig:
    return LocalStorage(data_dir=data_dir)


CHECKED: Mapping[str, Callable[[Path], StorageConfig]] = {"local": _local, "cloud": storage_of}
"""By the kind of storage, what opens the files that a killed server has left."""


async def _check_files(config: StorageConfig) -> None:
    """Every record of a killed server's files is the fold of its log, once that is repaired."""
    async with open_storage(config) as storage:
        assert isinstance(storage, OpenedFiles)
        events = FileEventStore(storage.files, storage.folded)
        assert await events.repair() > 0
        records = storage.conversations.for_user(None)
        page_id: str | None = None
        while page_id != "":
            page = await records.search(page_id, 100)
            for record in page.results:
                log = await events.read(record.conversation_id, 0, 2**31)
                payloads = [orjson.loads(event.body) for event in log]
                await _check_record(records, record.conversation_id, payloads)
                assert record == await records.get_metadata(record.conversation_id)
            page_id = page.next_page_id or ""
        await events.close()


async def _round(server: ServerProcess, api: Remote, random: Random, figures: KillFigures) -> None:
    conversation_ids = await api.create_many(CONVERSATIONS)
    writers = Writers(conversation_ids)
    writing = asyncio.create_task(writers.write(server.url))
    async with asyncio.timeout(WAIT_SECONDS):
        await writers.first_acknowledged.wait()
    await asyncio.sleep(random.uniform(*KILL_SECONDS))
    await server.kill()
    await writing
    before, repeated = writers.acknowledged, writers.open
    lengths: dict[str, int] = {}

    await server.start()
    listed = await api.listed()
    async with _records(server.data_dir, figures.storage) as records:
        for conversation_id in conversation_ids:
            log = await api.log(conversation_id)
            lengths[conversation_id] = len(log)
            writers.check(conversation_id, log)
            if records is not None:
                await _check_record(records, conversation_id, log)
            shown = await api.show(conversation_id)
            assert moment(shown["last_updated_at"]) == moment(log[-1]["timestamp"])
            assert listed[conversation_id] == shown

    await writers.repeat(server.url)
    await asyncio.gather(*(_talk(server.url, one) for one in conversation_ids))
    async with _records(server.data_dir, figures.storage) as records:
        for conversation_id in conversation_ids:
            log = await api.log(conversation_id)
            writers.check(conversation_id, log)
            if records is not None:
                await _check_record(records, conversation_id, log)
            _check_taken_up(log, lengths[conversation_id])
            assert is_state(log[-1])
            assert log[-1]["extras"]["agent_state"] == AgentState.AWAITING_USER_INPUT
            figures.appended += len(log)
    assert writers.open == 0
    figures.acknowledged_before += before
    figures.acknowledged += writers.acknowledged
    figures.fewest_acknowledged = min(figures.fewest_acknowledged, writers.acknowledged)
    figures.repeated += repeated
    figures.known += writers.known


@asynccontextmanager
async def _records(data_dir: Path, storage: str) -> AsyncIterator[ConversationStore | None]:
    """The records as the database holds them, beside the server; files are its own."""
    if storage == "postgres":
        async with open_postgres(data_dir) as pool:
            records = DatabaseConversationStores(PostgresDatabase(pool), indexed=False)
            yield records.for_user(None)
        return
    if storage != "sqlite":
        yield None
        return
    database = await SqliteDatabase.open(data_dir / DATABASE_NAME)
    try:
        yield DatabaseConversationStores(database).for_user(None)
    finally:
        await database.close()


async def _talk(url: str, conversation_id: str) -> None:
    """The conversation opens, takes a message, answers it and waits for the next one."""
    async with joined(url, conversation_id) as client:
        said = await client.say("are you there?")
        answer = await client.event(
            # A notice of the conversation's title has no id.
            lambda one: (
                one.get("id", -1) > said["id"] and one["message"] == "You said: are you there?"
            )
        )
        await client.state(AgentState.AWAITING_USER_INPUT, after=answer["id"])


def _check_taken_up(log: Sequence[Payload], kept: int) -> None:
    """Every message was taken up once; those taken up after the restart were answered once."""
    taken_up = [one["cause"] for one in recalls(log)]
    answers = Counter(one["message"] for one in log if one["source"] == "agent")
    for event in log:
        if event["source"] == "user" and event.get("action") == "message":
            assert taken_up.count(event["id"]) == 1, f"{event['id']} is taken up not just once"
    for event in recalls(log[kept:]):
        if event["args"]["query"].startswith("message "):
            answer = f"You said: {event['args']['query']}"
            assert answers[answer] == 1, f"{answers[answer]} times {answer}"


async def _check_record(
    records: ConversationStore, conversation_id: str, log: Sequence[Payload]
) -> None:
    """The record's folded fields are the fold of the log."""
    change = SummaryChange()
    for event in log:
        change = fold(change, event["id"], event)
    record = await records.get_metadata(conversation_id)
    assert record.last_updated_at == moment(str(change.last_updated_at))
    assert record.accumulated_cost == (change.accumulated_cost or 0)
    assert record.prompt_tokens == (change.prompt_tokens or 0)
    assert record.completion_tokens == (change.completion_tokens or 0)
    assert record.total_tokens == (change.total_tokens or 0)


def moment(text: str) -> datetime:
    """A timestamp, however it is spelled."""
    return datetime.fromisoformat(text)
