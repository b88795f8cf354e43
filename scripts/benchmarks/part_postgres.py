"""Appends to PostgreSQL against those to SQLite, and replays of sealed pages against those of rows."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.part_writing import CPU, RATE, SECONDS, appends
from benchmarks.rows import Context, Figures, Target, pick

SCRIPT = servers.ROOT / "scripts" / "postgres"
TARGETS = {1: Target(0.85, 1.0), 20: Target(0.75, 1.0), 200: Target(1.0, 1.15)}
"""Events a second against SQLite's, by the number of producers."""
CPU_TARGET = Target(1.43, 1.6)
"""Processor time of the server process against SQLite's: 0.7 of it at most."""
REPLAYS = (
    ("replay of 10,000 sealed events, PostgreSQL", "ms", "ms", Target(1.67, 2.0)),
    ("  the same by PostgreSQL's processor time", "ms CPU", "server_ms", Target(2.5, 3.0)),
    ("  the same by bytes on the disk", "bytes/event", "bytes", Target(2.86, 3.8)),
)
"""Of rows 0.6 of the time, 0.4 of the processor time and 0.35 of the bytes at most."""
REPLAY_SECONDS = 120.0
END_SECONDS = 30.0


def postgres(context: Context) -> None:
    """1, 20 and 200 producers in process and replays, over a PostgreSQL of this machine."""
    with _database(context.folder) as url:
        for producers, target in TARGETS.items():
            context.say(f"append in process, {producers} producers: events/s")
            seconds = context.seconds(SECONDS)
            found = context.interleave(
                {
                    "PostgreSQL": partial(appends, context, producers, seconds, url),
                    "SQLite": partial(appends, context, producers, seconds),
                }
            )
            name = f"append in process, PostgreSQL, {producers} producers"
            ours, yardstick = found["PostgreSQL"], found["SQLite"]
            context.add(
                name,
                "events/s",
                pick(ours, RATE),
                pick(yardstick, RATE),
                against="SQLite",
                target=target,
                more_is_better=True,
            )
            context.add(
                "  the same by processor time of the server",
                "us CPU/event",
                pick(ours, CPU),
                pick(yardstick, CPU),
                against="SQLite",
                target=CPU_TARGET if producers == max(TARGETS) else None,
            )
        _replays(context, url)


def _replays(context: Context, url: str) -> None:
    context.say("replay in process: ms, ms of PostgreSQL's CPU, bytes/event")
    sealed, rows = _replay(url, "--sealed"), _replay(url)
    found = context.interleave(
        {
            "sealed": partial(_figures, url, "--schema", sealed.strip(), "--sealed"),
            "rows": partial(_figures, url, "--schema", rows.strip()),
        }
    )
    for name, unit, figure, target in REPLAYS:
        ours, yardstick = pick(found["sealed"], figure), pick(found["rows"], figure)
        context.add(name, unit, ours, yardstick, against="rows", target=target)


def _figures(url: str, *options: str) -> Figures:
    figures: Figures = json.loads(_replay(url, *options))
    return figures


def _replay(url: str, *options: str) -> str:
    """Return what a fresh process prints."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.replays", "--database-url", url, *options],
        env=servers.environment(),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=REPLAY_SECONDS,
    ).stdout


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL on the disk that is measured."""
    folder.chmod(0o711)  # PostgreSQL's own user has to reach what is below
    place = folder / "postgres"
    process = subprocess.Popen(
        [SCRIPT, place], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("PostgreSQL does not start: run scripts/postgres to see why")
        (line, *_) = (place / "parley.env").read_text().splitlines()
        yield line.partition("=")[2].strip("'")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(END_SECONDS)
