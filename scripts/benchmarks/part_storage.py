"""List and start: nothing may grow with what is stored."""

import asyncio
import http.client
import itertools
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import servers
from benchmarks.clients import BenchError
from benchmarks.machine import cpu_seconds
from benchmarks.prefill import COMMON, COMMON_EVERY, RARE, RARE_EVERY, prefill
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender

MANY, MANY_QUICK, FEW = 100_000, 20_000, 1_000
PAGE = 20
REQUESTS = 60
BEFORE_STREAMING = "9427bd8"
"""The last commit before agents worked in turns, and before texts were shown while they are written."""
STARTS = 3
"""Of which the cheapest counts."""


def list_(context: Context) -> None:
    """A page of 20 out of many conversations against the same out of 1,000."""
    count = _many(context)
    with ExitStack() as stack:
        many, _ = stack.enter_context(servers.parley(stored(context, count)))
        few, _ = stack.enter_context(servers.parley(stored(context, FEW)))
        context.say(f"list of {PAGE} out of {count:,} and of {FEW:,}: ms at p50, by filter")
        found = context.interleave(
            {"many": lambda: pages(many, count), "few": lambda: pages(few, FEW)}
        )
    near = Target(5, 2, on_ratio=False)
    for kind in FILTERS:
        text = f"list of {PAGE} of {count:,}, " + FILTERS[kind][0]
        ours, yardstick = pick(found["many"], kind), pick(found["few"], kind)
        context.add(text, "ms p50", ours, yardstick, against=f"of {FEW:,}", target=near)
    context.add(
        f"list of {PAGE} of {count:,}, no slower than 2x",
        "ms p50",
        pick(found["many"], "all"),
        pick(found["few"], "all"),
        against=f"of {FEW:,}",
        target=Target(0.5, 0.8),
    )


FILTERS = {
    "all": ("no filter", ""),
    "common": ("filter that 1 in 10 passes", f"&selected_repository={COMMON}"),
    "rare": (f"filter that 1 in {RARE_EVERY:,} passes", f"&selected_repository={RARE}"),
    "late": ("updated since a moment that one reaches", "&updated_since=2999-01-01T00:00:00Z"),
}


def pages(contender: Contender, count: int) -> Figures:
    """Milliseconds of a request at p50, by filter; every answer is checked."""
    passing = {
        "all": count,
        "common": -(-count // COMMON_EVERY),
        "rare": -(-(count - 1) // RARE_EVERY),
        "late": 1,
    }
    asked = {kind: (query, passing[kind]) for kind, (_, query) in FILTERS.items()}
    return request_pages(contender, asked)


def request_pages(contender: Contender, asked: Mapping[str, tuple[str, int]]) -> Figures:
    """The same for other filters: given are what is asked and how many conversations pass."""
    connection = http.client.HTTPConnection("127.0.0.1", contender.port, timeout=30)
    figures = {}
    for kind, (query, passing) in asked.items():
        delays = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            connection.request("GET", f"/api/conversations?limit={PAGE}{query}")
            body = connection.getresponse().read()
            delays.append(time.perf_counter() - began)
            found = len(json.loads(body)["results"])
            if found != min(PAGE, passing):
                raise BenchError(f"a page of {query} had {found} conversations of {passing}")
        figures[kind] = median(delays) * 1e3
    connection.close()
    return figures


def start(context: Context) -> None:
    """From the command to readiness, with many stored conversations and with none."""
    count = _many(context)
    context.say(f"start with {count:,} stored conversations: s, CPU s")
    full, empty = stored(context, count), context.folder / "empty"

    def once(folder: Path) -> Figures:
        with servers.parley(folder) as (contender, seconds):
            return {"seconds": seconds, "cpu": cpu_seconds(contender.pid)}

    found = context.interleave({"full": lambda: once(full), "empty": lambda: once(empty)})
    _start_against_before(context)
    for name, figure, target in (
        (f"start to ready, {count:,} conversations", "seconds", Target(2, 1, on_ratio=False)),
        ("  the same by processor time", "cpu", None),
    ):
        ours, yardstick = pick(found["full"], figure), pick(found["empty"], figure)
        context.add(name, "s", ours, yardstick, against="empty store", target=target)


def _start_against_before(context: Context) -> None:
    """A start without extras, beside the same of the version before texts were streamed."""
    before = servers.exported(BEFORE_STREAMING, context.folder)
    projects = {"now": servers.ROOT} | ({} if before is None else {"before": before})
    numbers = itertools.count()

    def once(project: Path) -> Figures:
        starts = []
        for _ in range(STARTS):
            folder = context.folder / f"start-{next(numbers)}"
            with servers.parley(folder, project=project) as (contender, _):
                starts.append(cpu_seconds(contender.pid))
        return {"cpu": min(starts)}

    for project in projects.values():
        once(project)  # the bytecode is written
    found = context.interleave({name: partial(once, one) for name, one in projects.items()})
    context.add(
        "import and start to ready, by processor time",
        "s",
        pick(found["now"], "cpu"),
        None if before is None else pick(found["before"], "cpu"),
        against="no history here" if before is None else "before texts were streamed",
        target=Target(1 / 1.02, 1.0),
    )


def sweep(context: Context) -> None:
    """For the plots: list and connect against stored size."""
    for count in (100, 1_000, 10_000, _many(context)):
        context.say(f"list and start with {count:,} conversations")
        with servers.parley(stored(context, count)) as (contender, seconds):
            figures = pages(contender, count)
            for kind, value in figures.items():
                name = f"list/list, {FILTERS[kind][0]}"
                context.series.setdefault(name, []).append((count, value))
            context.series.setdefault("start/start to ready", []).append((count, seconds))


def stored(context: Context, count: int) -> Path:
    """A data directory with so many conversations, made once in a run."""
    folder = context.folder / f"stored-{count}"
    if not folder.exists():
        context.say(f"storing {count:,} conversations")
        asyncio.run(prefill(folder, count))
    return folder


def _many(context: Context) -> int:
    return MANY_QUICK if context.quick else MANY
