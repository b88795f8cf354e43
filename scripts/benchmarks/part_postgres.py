"""Appends to PostgreSQL against SQLite and by statement, and replays of pages against those of rows."""

import json
import os
import pwd
import shutil
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
PROCESS_SECONDS = 120.0
GROUP_TARGET = Target(1 / 3.3, 1 / 2.9)
"""Processor time of PostgreSQL: 3.3 of a bare insert's at most."""
SINGLE_TARGET = Target(6, 7)
"""An event in a group of fifty logs against one by itself."""
POOLER_TARGET = Target(1 / 1.4, 1 / 1.2)
"""Through a pooler 1.4 of what it takes without at most."""
WALL = "wall_us"
END_SECONDS = 30.0


def postgres(context: Context) -> None:
    """1, 20 and 200 producers in process and replays, over a PostgreSQL of this machine."""
    with database_in(context.folder) as url:
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
        _statements(context, url)


def _replays(context: Context, url: str) -> None:
    context.say("replay in process: ms, ms of PostgreSQL's CPU, bytes/event")
    base = ("replays", "--database-url", url)
    sealed, rows = _printed(*base, "--sealed"), _printed(*base)
    found = context.interleave(
        {
            "sealed": partial(_figures, *base, "--schema", sealed.strip(), "--sealed"),
            "rows": partial(_figures, *base, "--schema", rows.strip()),
        }
    )
    for name, unit, figure, target in REPLAYS:
        ours, yardstick = pick(found["sealed"], figure), pick(found["rows"], figure)
        context.add(name, unit, ours, yardstick, against="rows", target=target)


def _figures(module: str, *options: str) -> Figures:
    figures: Figures = json.loads(_printed(module, *options))
    return figures


def _printed(module: str, *options: str) -> str:
    """Return what a fresh process prints."""
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *options],
        env=servers.environment(),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=PROCESS_SECONDS,
    ).stdout


def _statements(context: Context, url: str) -> None:
    """The statements that append, by one connection that does nothing else."""
    context.say("statements that append: us of PostgreSQL's processor time an event, us")
    base = ("statements", "--url", url, "--seconds", str(context.seconds(SECONDS)))
    contenders = {way: partial(_figures, *base, "--way", way) for way in ("one", "logs", "rows")}
    with _pooler(context, url) as pooler_url:
        if pooler_url is not None:
            pooled = (*base, "--pooler-url", pooler_url)
            for way in ("one", "logs"):
                contenders[f"pooled {way}"] = partial(_figures, *pooled, "--way", way)
        found = context.interleave(contenders)
    unit = "us CPU/event"
    logs, one = pick(found["logs"], CPU), pick(found["one"], CPU)
    rows = pick(found["rows"], CPU)
    name = "append_logs, 50 logs, PostgreSQL's processor time"
    context.add(name, unit, logs, rows, against="bare insert of 50 rows", target=GROUP_TARGET)
    context.add(name, unit, logs, one, against="append_one", target=SINGLE_TARGET)
    if pooler_url is None:
        return
    for way, name, goal in (
        ("logs", "append_logs, 50 logs", POOLER_TARGET),
        ("one", "append_one", None),
    ):
        for figure, text, target in (
            (CPU, unit, goal),
            (WALL, "us/event", None),
        ):
            context.add(
                f"{name}, through pgbouncer",
                text,
                pick(found[f"pooled {way}"], figure),
                pick(found[way], figure),
                against="without",
                target=target,
            )


@contextmanager
def _pooler(context: Context, url: str) -> Iterator[str | None]:
    """The address of pgbouncer in transaction mode before that database; None where there is none."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        context.warnings.append("pgbouncer is not installed: there are no rows for it")
        yield None
        return
    place = context.folder / "postgres"
    user = pwd.getpwuid(place.stat().st_uid).pw_name
    settings = {
        "listen_port": "6432",
        "unix_socket_dir": str(place),
        "auth_type": "any",
        "pool_mode": "transaction",
        "log_connections": "0",
        "log_disconnections": "0",
    } | ({"user": user} if os.getuid() == 0 else {})
    lines = [f"{name} = {value}" for name, value in settings.items()]
    target = f"[databases]\nparley = host={place} user=parley\n[pgbouncer]\n"
    file = context.folder / "pgbouncer.ini"
    file.write_text(target + "\n".join(lines))
    process = subprocess.Popen([program, file], stderr=subprocess.PIPE, text=True)
    try:
        if process.stderr is None or not any("process up" in line for line in process.stderr):
            raise RuntimeError("pgbouncer does not start")
        yield f"{url}&port=6432"
    finally:
        process.terminate()
        process.wait(END_SECONDS)


@contextmanager
def database_in(folder: Path) -> Iterator[str]:
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
        process.terminate()
        process.wait(END_SECONDS)
