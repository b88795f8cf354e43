"""The command line of scripts/bench."""

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.part_connections import connect, echo, memory, slow
from benchmarks.part_deltas import deltas
from benchmarks.part_fanout import fanout
from benchmarks.part_find import find
from benchmarks.part_postgres import postgres
from benchmarks.part_replay import replay
from benchmarks.part_restore import restore
from benchmarks.part_search import search
from benchmarks.part_storage import list_, start
from benchmarks.part_writing import append, receive
from benchmarks.rows import Context, markdown, table
from benchmarks.servers import bun_version

PARTS: dict[str, Callable[[Context], None]] = {
    "fanout": fanout,
    "deltas": deltas,
    "append": append,
    "postgres": postgres,
    "receive": receive,
    "replay": replay,
    "connect": connect,
    "echo": echo,
    "list": list_,
    "search": search,
    "find": find,
    "restore": restore,
    "memory": memory,
    "start": start,
    "slow": slow,
}
ROUNDS, QUICK_ROUNDS = 5, 3


def main() -> int:
    """Measure and print the table; 1 when a part failed. A must that is not met is no failure."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="parley-bench-", dir=options.work_dir))
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    context = Context(folder, rounds, options.quick)
    machine = describe()
    failed = []
    parts = {name: PARTS[name] for name in options.parts or PARTS}
    if options.plot:
        from benchmarks.plots import plot  # noqa: PLC0415 - matplotlib takes a second to load

        parts["plots"] = partial(plot, folder=options.plot)
    try:
        for name, part in parts.items():
            print(f"== {name}", file=sys.stderr)
            began = time.monotonic()
            try:
                part(context)
            except Exception as error:  # noqa: BLE001 - the other parts are still worth their time
                failed.append(f"{name}: {type(error).__name__}: {error}")
                traceback.print_exc()
            context.say(f"{time.monotonic() - began:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    machine["bun"] = bun_version()
    machine["load_after"] = describe()["load_1m_5m_15m"]
    print(json.dumps(machine))
    print(f"{rounds} rounds{', quick' if options.quick else ''}, medians; spread: least..most\n")
    print(markdown(context.rows) if options.markdown else table(context.rows))
    for warning in dict.fromkeys(context.warnings):
        print(f"warning: {warning}")
    for failure in failed:
        print(f"FAILED {failure}")
    if options.json:
        rows = [row.as_json() for row in context.rows]
        report = {"machine": machine, "rounds": rounds, "quick": options.quick, "rows": rows}
        options.json.write_text(json.dumps(report | {"failed": failed}, indent=2) + "\n")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure the server, interleaved with reference programs."
    )
    parser.add_argument(
        "parts",
        nargs="*",
        choices=[*PARTS, []],
        metavar="PART",
        help=f"what to measure: {', '.join(PARTS)}; everything by default",
    )
    parser.add_argument("--rounds", type=int, help=f"rounds of each part ({ROUNDS})")
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds, small stores"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument(
        "--plot", type=Path, metavar="DIR", help="measure, and draw the plots into DIR"
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="directory for the stores, on the disk to measure",
    )
    return parser.parse_args()
