"""The plots of docs/performance.md: each a sweep over one size, ours beside the yardsticks."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

from benchmarks import part_connections, part_fanout, part_storage, part_writing
from benchmarks.machine import describe
from benchmarks.rows import Context

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "parley"

from matplotlib import pyplot as plt, ticker  # noqa: E402 - after the choice of what it draws with

PLAIN = ticker.FuncFormatter(lambda value, _: f"{value:,g}")


class Plot(NamedTuple):
    """One picture: the series whose names begin with `key/`.

    `flat`: what it shows is that a value does not grow, so its axis begins at zero.
    """

    key: str
    title: str
    across: str
    up: str
    flat: bool = False


SWEEPS: tuple[Callable[[Context], None], ...] = (
    part_fanout.sweep,
    part_writing.sweep,
    part_storage.sweep,
    part_connections.sweep,
)
PLOTS = (
    Plot("fanout", "Fan-out, window 8", "clients", "server CPU per message, us"),
    Plot("append", "Durable append in process", "producers", "events per second"),
    Plot("list", "List of 20 conversations", "stored conversations", "p50, ms", flat=True),
    Plot("start", "Start to ready", "stored conversations", "seconds", flat=True),
    Plot(
        "connect", "Connect near the log's tail", "events in the log", "first event, ms", flat=True
    ),
)


def plot(context: Context, folder: Path) -> None:
    """Measure the sweeps and draw them as SVG."""
    for sweep in SWEEPS:
        sweep(context)
    folder.mkdir(parents=True, exist_ok=True)
    found = describe()
    versions = f"Python {found['python']}, Node {found['node'].removeprefix('v')}"
    machine = f"{found['processor']}, {found['cores']} cores, {versions}; scripts/bench --plot"
    for one in PLOTS:
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        for name, points in context.series.items():
            key, _, label = name.partition("/")
            if key == one.key:
                axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set(xlabel=one.across, ylabel=one.up, title=one.title, xscale="log")
        axes.xaxis.set_major_formatter(PLAIN)
        if one.flat:
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(PLAIN)
        axes.grid(visible=True, alpha=0.25)
        axes.legend()
        figure.supxlabel(machine, x=0.99, ha="right", fontsize=7, color="0.4")
        figure.savefig(folder / f"{one.key}.svg", metadata={"Date": None})
        plt.close(figure)
