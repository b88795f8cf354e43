"""Search in titles: what is looked for may not be looked for in everything."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote_plus

from benchmarks import servers
from benchmarks.part_storage import PAGE, request_pages
from benchmarks.prefill import COMMON, COMMON_EVERY, STORAGE, prefill, title_of
from benchmarks.rows import Context, Target, pick

MANY, FEW = 100_000, 10_000
MANY_QUICK, FEW_QUICK = 20_000, 2_000

TEXTS = {
    "title that 1 in 9 has": "number 1",
    "title that 1 in 9,000 has": "number 7777",
    "title that none has": "number of",
    "two letters of 1 in 27": "77",
    "two letters that none has": "zq",
}
BOTH = "1 in 9 by title, of these 1 in 10 by repository"


def search(context: Context) -> None:
    """A page of 20 by a text in the title, in the database and over files, against a tenth."""
    count, tenth = (MANY_QUICK, FEW_QUICK) if context.quick else (MANY, FEW)
    for kind in STORAGE:
        with ExitStack() as stack:
            many, few = (
                stack.enter_context(
                    servers.parley(_stored(context, kind, number), "--storage", kind)
                )[0]
                for number in (count, tenth)
            )
            context.say(f"list of {PAGE} out of {count:,} and of {tenth:,}, {kind}: ms at p50")
            found = context.interleave(
                {
                    "many": lambda many=many: request_pages(many, _asked(count)),
                    "few": lambda few=few: request_pages(few, _asked(tenth)),
                }
            )
        for name in (*TEXTS, BOTH):
            ours, yardstick = pick(found["many"], name), pick(found["few"], name)
            context.add(
                f"list of {PAGE} of {count:,}, {kind}, {name}",
                "ms p50",
                ours,
                yardstick,
                against=f"of {tenth:,}",
                target=Target(5, 2, on_ratio=False),
            )


def _asked(count: int) -> Mapping[str, tuple[str, int]]:
    """By name: what is asked, and how many of so many conversations pass."""
    asked = {
        name: (
            f"&title={quote_plus(text)}",
            sum(text in title_of(number) for number in range(count)),
        )
        for name, text in TEXTS.items()
    }
    query, _ = next(iter(asked.values()))
    text = next(iter(TEXTS.values()))
    passing = sum(text in title_of(number) for number in range(0, count, COMMON_EVERY))
    return asked | {BOTH: (f"{query}&selected_repository={COMMON}", passing)}


def _stored(context: Context, kind: str, count: int) -> Path:
    folder = context.folder / f"search-{kind}-{count}"
    context.say(f"storing {count:,} conversations, {kind}")
    asyncio.run(prefill(folder, count, kind))
    return folder
