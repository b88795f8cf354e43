"""Full-text search of events: what is looked for may be in half of them, or in hardly any."""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from urllib.parse import quote

import orjson

from benchmarks import servers
from benchmarks.clients import BenchError
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender
from events.event import StoredEvent
from events.search.opening import make_anew
from events.summary import SummaryChange
from events.transfer.contents import open_stores
from storage.config import SqliteStorage
from storage.conversations.metadata import ConversationMetadata

MANY, FEW = 1_000_000, 100_000
MANY_QUICK, FEW_QUICK = 50_000, 5_000
EVENTS = 1_000
"""Events of a conversation."""
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
    """A page of 20 by a word in one database, against a tenth of the events."""
    count, tenth = (MANY_QUICK, FEW_QUICK) if context.quick else (MANY, FEW)
    with ExitStack() as stack:
        many, few = (
            stack.enter_context(servers.parley(_stored(context, number)))[0]
            for number in (count, tenth)
        )
        context.say(f"search of {count:,} events and of {tenth:,}: ms at p50")
        found = context.interleave({"many": lambda: _ask(many), "few": lambda: _ask(few)})
    for name, (_, _, target) in ASKED.items():
        ours, yardstick = pick(found["many"], name), pick(found["few"], name)
        context.add(
            f"search of {count:,} events, {name}",
            "ms p50",
            ours,
            yardstick,
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


def _stored(context: Context, count: int) -> Path:
    folder = context.folder / f"find-{count}"
    context.say(f"storing and indexing {count:,} events")
    asyncio.run(_fill(folder, count))
    return folder


async def _fill(folder: Path, count: int) -> None:
    async with (
        open_stores(SqliteStorage(data_dir=folder)) as stores,
        AsyncExitStack() as stack,
    ):
        records = stores.storage.conversations
        async for conversation_id, events in _conversations(count):
            record = ConversationMetadata(conversation_id=conversation_id, created_at=BEGINNING)
            await records.for_user(None).save_metadata(record)
            summary = SummaryChange(last_event_id=events[-1].id)
            await stores.events.append(conversation_id, 0, events, summary=summary)
        async for _ in make_anew(folder, stores.events, records, stack):
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
