"""Restores of an archive, against writing the same bytes with a flush."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import orjson
from pydantic import SecretStr

from benchmarks.part_postgres import database_in
from benchmarks.rows import Context, Figures, pick
from events.event import EventFlag, StoredEvent
from events.transfer.archive import ArchiveWriter, Done, Kind, Manifest, encode_events
from events.transfer.backup import verify
from events.transfer.contents import open_stores
from events.transfer.digest import LogDigest
from events.transfer.restore import Restore
from storage.config import LocalStorage, PostgresStorage, SqliteStorage, StorageConfig
from storage.conversations.metadata import ConversationMetadata

MANY_BYTES, FEW_BYTES = 1_000_000_000, 100_000_000
"""Bytes of the events, of all together."""
EVENTS = 2_000
"""Events of a conversation."""
FRAME = 500
"""Events of a frame, as a backup writes them."""
VOCABULARY = 20_000
METRICS_EVERY, KEY_EVERY = 10, 20
"""Events of which one has metrics of a model, or an idempotency key."""
BEGINNING = datetime(2026, 3, 2, tzinfo=UTC)
WRITE_BYTES = 1024 * 1024


def restore(context: Context) -> None:
    """An archive of 1 GB into each kind of storage that keeps its data on the disk here."""
    path = context.folder / "archive"
    size = make_archive(path, FEW_BYTES if context.quick else MANY_BYTES)
    context.say(f"an archive of {size / 1e6:,.0f} MB of events, {path.stat().st_size:,} bytes: s")
    numbers = count()

    def folder() -> Path:
        return context.folder / f"restored-{next(numbers)}"

    with database_in(context.folder) as url:
        kinds: dict[str, Callable[[int], StorageConfig]] = {
            "sqlite": lambda _: SqliteStorage(data_dir=folder()),
            "local": lambda _: LocalStorage(data_dir=folder()),
            "postgres": lambda number: PostgresStorage(
                url=SecretStr(url), secret_key=SecretStr("a key"), schema_name=f"restored_{number}"
            ),
        }
        contenders = {kind: partial(restored, path, open_) for kind, open_ in kinds.items()}
        found = context.interleave(
            {
                **contenders,
                "written": partial(written, size, folder),
                "verified": partial(verified, path),
            }
        )
    for name in (*kinds, "verified"):
        told = "verify" if name == "verified" else f"restore into {name}"
        context.add(
            f"{told}, {size / 1e6:,.0f} MB of events",
            "s",
            pick(found[name], "seconds"),
            pick(found["written"], "seconds"),
            against="the same bytes written and flushed",
        )


def restored(path: Path, open_: Callable[[int], StorageConfig]) -> Figures:
    """Seconds of a restore as the command makes it, the verification and the closing with it."""
    config = open_(time.monotonic_ns())
    began = time.perf_counter()
    verify(path)
    asyncio.run(_restored(path, config))
    seconds = time.perf_counter() - began
    if isinstance(config, SqliteStorage | LocalStorage):
        shutil.rmtree(config.data_dir)
    return {"seconds": seconds}


async def _restored(path: Path, config: StorageConfig) -> None:
    async with open_stores(config) as stores:
        work = Restore(path, stores)
        async for _ in work.outcomes():
            pass
        if not work.report.is_complete:
            raise RuntimeError(", ".join(work.report.lines()))


def written(size: int, folder: Callable[[], Path]) -> Figures:
    """Seconds to write so many bytes into one file, and to flush it."""
    path = folder()
    block = Random(1).randbytes(WRITE_BYTES)  # noqa: S311 - no secret
    began = time.perf_counter()
    with path.open("wb") as file:
        for begin in range(0, size, WRITE_BYTES):
            file.write(block[: size - begin])
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return {"seconds": seconds}


def verified(path: Path) -> Figures:
    """Seconds to verify an archive."""
    began = time.perf_counter()
    verify(path)
    return {"seconds": time.perf_counter() - began}


def make_archive(path: Path, size: int) -> int:
    """Write an archive with that many bytes of events or some more; return how many."""
    writer, total = ArchiveWriter(), 0
    random = Random(29)  # noqa: S311 - the same texts each time
    words = [f"word{number:x}" for number in range(VOCABULARY)]
    with path.open("wb") as file:
        file.write(writer.begin(Manifest(created_at=BEGINNING, medium="sqlite", key_id=None)))
        for number in count():
            if total >= size:
                break
            record = ConversationMetadata(
                conversation_id=f"c{number:06}", created_at=BEGINNING + timedelta(seconds=number)
            )
            file.write(writer.frame(Kind.CONVERSATION, record.model_dump_json().encode()))
            digest = LogDigest()
            for events in _frames(random, words):
                total += sum(len(one.body) for one in events)
                digest.add(events)
                file.write(writer.frame(Kind.EVENTS, encode_events(events)))
            done = Done(
                conversation_id=record.conversation_id, events=digest.count, digest=digest.value()
            )
            file.write(writer.done(done))
        file.write(writer.end())
    return total


def _frames(random: Random, words: Sequence[str]) -> Iterator[list[StoredEvent]]:
    """Yield the events of a log, those of a frame at a time."""
    for first in range(0, EVENTS, FRAME):
        yield [_event(number, random, words) for number in range(first, first + FRAME)]


def _event(number: int, random: Random, words: Sequence[str]) -> StoredEvent:
    moment = BEGINNING + timedelta(milliseconds=37 * number)
    payload = {
        "id": number,
        "timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "source": "agent",
        "message": "",
        "action": "message" if number % 3 == 0 else "run",
        "args": {"content": " ".join(random.choices(words, k=random.randrange(20, 120)))},
    }
    if number % METRICS_EVERY == 0:
        usage = {"prompt_tokens": number, "completion_tokens": 7}
        payload["llm_metrics"] = {
            "accumulated_cost": number / 100,
            "accumulated_token_usage": usage,
        }
    if number % KEY_EVERY == 0:
        payload["client_id"] = random.randbytes(16).hex()
    return StoredEvent(number, EventFlag.PLAIN, orjson.dumps(payload))
