"""Append and receive: how fast events become durable and are acknowledged."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks import servers
from benchmarks.disk_yardsticks import bare_files, files_under_lock, raw_sqlite
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender

CLIENTS = 200
IN_FLIGHT = 4
RATE = "per_s"
CPU = "cpu_us"
SECONDS = 3.0


def append(context: Context) -> None:
    """200 producers in process, against what the disk gives."""
    context.say("append in process, 200 producers: events/s")
    disk = context.folder / "disk"
    seconds = context.seconds(SECONDS)
    found = context.interleave(
        {
            "ours": lambda: appends(context, CLIENTS, seconds),
            "files": lambda: {RATE: files_under_lock(disk, seconds / 2)},
            "bare files": lambda: {RATE: bare_files(disk, seconds / 2)},
            "SQLite g=200": lambda: {RATE: raw_sqlite(disk, 200, seconds / 2)},
            "SQLite g=1": lambda: {RATE: raw_sqlite(disk, 1, seconds / 2)},
        }
    )
    ours = pick(found["ours"], RATE)
    for name, against, target in (
        ("files", "one file per event as V0, no fsync", Target(3, 6)),
        ("bare files", "a bare file per event, no fsync", None),
        ("SQLite g=200", "raw SQLite, g=200", None),
        ("SQLite g=1", "raw SQLite, one per commit", None),
    ):
        context.add(
            "append in process, durable, 200 producers",
            "events/s",
            ours,
            pick(found[name], RATE),
            against=against,
            target=target,
            more_is_better=True,
        )


def appends(
    context: Context, producers: int, seconds: float, database_url: str | None = None
) -> Figures:
    """Events a second of ours, and more, in a fresh directory or schema, and a fresh process."""
    folder = context.folder / uuid.uuid4().hex
    command = [sys.executable, "-m", "benchmarks.appends", "--data-dir", str(folder)]
    if database_url is not None:
        command += ["--database-url", database_url]
    done = subprocess.run(
        [*command, "--producers", str(producers), "--seconds", str(seconds)],
        env=servers.environment(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def receive(context: Context) -> None:
    """Acknowledged messages through real sockets: in memory against Node, durable against disks."""
    with ExitStack() as stack:
        memory = stack.enter_context(servers.ours(context.folder / "receive-memory"))
        node = stack.enter_context(servers.node())
        stock = stack.enter_context(servers.yardstick("stock"))
        context.say("acknowledged receive, 200 clients with 4 in flight: us of CPU, messages/s")
        found = context.interleave(
            {
                "ours": _once(context, memory, echoes=True),
                "node": _once(context, node, echoes=False),
                "node with echo": _once(context, node, echoes=True, echo=True),
                "stock": _once(context, stock, echoes=False),
            }
        )
    name, target = "acked receive, memory, 200 clients x 4", Target(1.0, 1.5)
    ours = pick(found["ours"], CPU)
    for yardstick, against, goal in (
        ("node with echo", "Node, event sent back as ours", target),
        ("node", "Node, ack alone", None),
        ("stock", "python-socketio, ack alone", None),
    ):
        figures = pick(found[yardstick], CPU)
        context.add(name, "us CPU/message", ours, figures, against=against, target=goal)
    _receive_durable(context)


def _receive_durable(context: Context) -> None:
    with ExitStack() as stack:
        durable = stack.enter_context(servers.ours(context.folder / "receive", "sqlite"))
        single = stack.enter_context(
            servers.ours(context.folder / "single", "sqlite", "--one-event-per-commit")
        )
        unsearched = stack.enter_context(
            servers.ours(context.folder / "unsearched", "sqlite", "--without-search")
        )
        context.say("durable acknowledged sends through sockets: us of CPU, messages/s")
        disk, seconds = context.folder / "receive-disk", context.seconds(SECONDS) / 2
        found = context.interleave(
            {
                "ours": _once(context, durable, echoes=True),
                "one per commit": _once(context, single, echoes=True),
                "without search": _once(context, unsearched, echoes=True),
                "SQLite g=200": lambda: {RATE: raw_sqlite(disk, 200, seconds)},
            }
        )
    for yardstick, against, target in (
        ("one per commit", "one event per commit", Target(8, 12)),
        ("SQLite g=200", "raw SQLite, g=200", Target(0.45, 0.6)),
    ):
        context.add(
            "durable acked send, 200 clients x 4",
            "messages/s",
            pick(found["ours"], RATE),
            pick(found[yardstick], RATE),
            against=against,
            target=target,
            more_is_better=True,
        )
    context.add(
        "  the same by processor time",
        "us CPU/message",
        pick(found["ours"], CPU),
        pick(found["one per commit"], CPU),
        against="one event per commit",
    )
    context.add(
        "  with search, by processor time",
        "us CPU/message",
        pick(found["ours"], CPU),
        pick(found["without search"], CPU),
        against="without the search index",
        target=Target(0.97, 1.0),
    )


def _once(context: Context, contender: Contender, **options: Any) -> Callable[[], Figures]:
    def measure() -> Figures:
        seconds = context.seconds(SECONDS)
        result = contender.load(
            "receive", clients=CLIENTS, in_flight=IN_FLIGHT, seconds=seconds, **options
        )
        context.checked("receive", result)
        return {CPU: result["cpu_per_message_us"], RATE: result["messages_per_s"]}

    return measure


def sweep(context: Context) -> None:
    """For the plots: append against producers."""
    disk = context.folder / "sweep-disk"
    seconds = context.seconds(SECONDS) / 2
    files = files_under_lock(disk, seconds)
    for producers in (1, 10, 50, 200, 500):
        context.say(f"append with {producers} producers")
        series = {
            "ours": appends(context, producers, seconds)[RATE],
            "raw SQLite at that group size": raw_sqlite(disk, producers, seconds),
            "one file per event, no fsync": files,
        }
        for name, value in series.items():
            context.series.setdefault(f"append/{name}", []).append((producers, value))
