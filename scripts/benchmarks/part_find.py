"""Full-text search of events, in SQLite and PostgreSQL: what is looked for may be in half of them or hardly any."""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import TypeAlias
from urllib.parse import quote

import orjson
from pydantic import SecretStr

from benchmarks import servers
from benchmarks.clients import BenchError
from benchmarks.part_postgres import database_in
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender
from events.event import StoredEvent
from events.search.opening import index_in, make_anew
from events.summary import SummaryChange
from events.transfer.contents import open_stores
from storage.config import PostgresStorage, SqliteStorage
from storage.conversations.metadata import ConversationMetadata

Storage: TypeAlias = SqliteStorage | PostgresStorage

MANY, FEW = 1_000_000, 100_000
MANY_QUICK, FEW_QUICK = 50_000, 5_000
EVENTS = 1_000
"""Events of a conversation."""
KINDS = ("SQLite", "PostgreSQL")
KEY = "a key of sixteen letters"
REQUESTS = 50
PAGE = 20
VOCABULARY = 20_000
HALF, RARE = "everysecond", "needle"
RARE_IN_ALL = 5
"""Events with the rare word, whatever the number of all."""
BEGINNING = datetime(2026, 3, 2, tzinfo=UTC)
ASKED = {
    "rare word": (RARE, RARE_IN_ALL, Target(50, 20, on_ratio=False)),
    "word in half of all": (HALF, PAGE, Target(100, 20, on_ratio=False)),
    "both": (f"{HALF} {RARE}", 0, Target(100, 50, on_ratio=False)),
    "word of none": ("nowhere", 0, Target(50, 20, on_ratio=False)),
}


def find(context: Context) -> None:
    """A page of 20 by a word in one database of each kind, against a tenth of the events."""
    count, tenth = (MANY_QUICK, FEW_QUICK) if context.quick else (MANY, FEW)
    with ExitStack() as stack:
        url = stack.enter_context(database_in(context.folder))
        servers_of = {
            (kind, number): stack.enter_context(servers.parley(_stored(context, number, storage)))[
                0
            ]
            for number in (count, tenth)
            for kind, storage in _storages(context.folder, number, url).items()
        }
        context.say(f"search of {count:,} events and of {tenth:,}: ms at p50")
        found = context.interleave(
            {f"{kind} {number}": partial(_ask, one) for (kind, number), one in servers_of.items()}
        )
    for kind in KINDS:
        for name, (_, _, target) in ASKED.items():
            context.add(
                f"search of {count:,} events, {kind}, {name}",
                "ms p50",
                pick(found[f"{kind} {count}"], name),
                pick(found[f"{kind} {tenth}"], name),
                against=f"of {tenth:,}",
                target=target,
            )


def _ask(contender: Contender) -> Figures:
    connection = http.client.HTTPConnection("127.0.0.1", contender.port, timeout=30)
    figures = {}
    for name, (text, least, _) in ASKED.items():
        delays = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            connection.request("GET", f"/api/search?limit={PAGE}&q={quote(text)}")
            body = connection.getresponse().read()
            delays.append(time.perf_counter() - began)
            results = json.loads(body)["results"]
            if len(results) != least:
                raise BenchError(f"a search for {text} found {len(results)} of {least}")
        figures[name] = median(delays) * 1e3
    connection.close()
    return figures


def _storages(folder: Path, count: int, url: str) -> dict[str, Storage]:
    postgres = PostgresStorage(
        url=SecretStr(url), secret_key=SecretStr(KEY), schema_name=f"find_{count}"
    )
    return dict(
        zip(KINDS, (SqliteStorage(data_dir=folder / f"find-{count}"), postgres), strict=True)
    )


def _stored(context: Context, count: int, storage: Storage) -> Path:
    """Fill a storage, and return the directory of a server over it."""
    context.say(f"{storage.kind}: storing and indexing {count:,} events")
    folder = context.folder / f"find-{count}"
    if isinstance(storage, PostgresStorage):
        folder = context.folder / f"find-{count}-postgres"
        folder.mkdir()
        # The settings file in the server's working directory.
        (folder / "parley.toml").write_text(
            f'storage = "postgres"\ndatabase_url = "{storage.url.get_secret_value()}"\n'
            f'database_schema = "{storage.schema_name}"\nsecret_key = "{KEY}"\n'
        )
    began = time.perf_counter()
    asyncio.run(_fill(folder, count, storage))
    context.say(f"{storage.kind}: done in {time.perf_counter() - began:.0f} s")
    return folder


async def _fill(folder: Path, count: int, storage: Storage) -> None:
    async with open_stores(storage) as stores, AsyncExitStack() as stack:
        records = stores.storage.conversations
        async for conversation_id, events in _conversations(count):
            record = ConversationMetadata(conversation_id=conversation_id, created_at=BEGINNING)
            await records.for_user(None).save_metadata(record)
            summary = SummaryChange(last_event_id=events[-1].id)
            await stores.events.append(conversation_id, 0, events, summary=summary)
        index = await (stores.storage.open_index or await index_in(folder, stack))()
        stack.push_async_callback(index.close)
        async for _ in make_anew(index, stores.events, records):
            pass


async def _conversations(count: int) -> AsyncIterator[tuple[str, list[StoredEvent]]]:
    """Yield conversations whose events come by turns, each of 15 to 60 words."""
    random = Random(23)  # noqa: S311 - the same texts each time
    words = [f"word{number:x}" for number in range(VOCABULARY)]
    weights = [1 / (rank + 3) for rank in range(VOCABULARY)]
    text = random.choices(words, weights, k=200_000)
    of_all = count // EVENTS
    for conversation in range(of_all):
        events = []
        for number in range(EVENTS):
            place = number * of_all + conversation
            start = random.randrange(len(text) - 60)
            said = text[start : start + random.randint(15, 60)]
            said += [HALF] if place % 2 else []
            said += [RARE] if place % (count // RARE_IN_ALL) == 0 else []
            moment = BEGINNING + timedelta(milliseconds=37 * place)
            payload = {
                "id": number,
                "timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "source": "user",
                "action": "message",
                "args": {"content": " ".join(said)},
            }
            events.append(StoredEvent(number, 0, orjson.dumps(payload)))
        yield f"c{conversation}", events
