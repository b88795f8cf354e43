"""The plots of docs/performance.md: each a sweep over one size, ours beside the yardsticks."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

from benchmarks import part_connections, part_fanout, part_storage, part_writing
from benchmarks.rows import Context

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "parley"

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of what it draws with


class Plot(NamedTuple):
    """One picture: the series whose names begin with `key/`."""

    key: str
    title: str
    across: str
    up: str


SWEEPS: tuple[Callable[[Context], None], ...] = (
    part_fanout.sweep,
    part_writing.sweep,
    part_storage.sweep,
    part_connections.sweep,
)
PLOTS = (
    Plot("fanout", "Fan-out, window 8", "clients", "server CPU per message, us"),
    Plot("append", "Durable append in process", "producers", "events per second"),
    Plot("list", "List of 20 conversations", "stored conversations", "p50, ms"),
    Plot("start", "Start to ready", "stored conversations", "seconds"),
    Plot("connect", "Connect near the log's tail", "events in the log", "first event, ms"),
)


def plot(context: Context, folder: Path) -> None:
    """Measure the sweeps and draw them as SVG."""
    for sweep in SWEEPS:
        sweep(context)
    folder.mkdir(parents=True, exist_ok=True)
    for one in PLOTS:
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        for name, points in context.series.items():
            key, _, label = name.partition("/")
            if key == one.key:
                axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set(xlabel=one.across, ylabel=one.up, title=one.title, xscale="log", yscale="log")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend()
        figure.savefig(folder / f"{one.key}.svg", metadata={"Date": None})
        plt.close(figure)
