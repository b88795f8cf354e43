"""Appends to PostgreSQL against those to SQLite, through the same stream."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.part_writing import CPU, RATE, SECONDS, appends
from benchmarks.rows import Context, Target, pick

SCRIPT = servers.ROOT / "scripts" / "postgres"
TARGETS = {1: Target(0.85, 1.0), 20: Target(0.75, 1.0), 200: Target(1.0, 1.15)}
"""Events a second against SQLite's, by the number of producers."""
CPU_TARGET = Target(1.43, 1.6)
"""Processor time of the server process against SQLite's: 0.7 of it at most."""
END_SECONDS = 30.0


def postgres(context: Context) -> None:
    """1, 20 and 200 producers in process, over a PostgreSQL of this machine."""
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
