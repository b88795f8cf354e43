"""The table: what was measured, beside its yardstick and what is asked for."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Figures = Mapping[str, float]
"""The results of one measurement, by name."""


@dataclass(frozen=True, slots=True)
class Target:
    """The goal that must be reached, and the stretch; of the ratio, else of the value itself."""

    must: float
    stretch: float
    on_ratio: bool = True

    def is_met(self, row: "Row") -> bool:
        """Whether the row reaches what it must."""
        if self.on_ratio:
            return row.ratio is not None and row.ratio >= self.must
        return row.value <= self.must

    def is_stretched(self, row: "Row") -> bool:
        """Whether the row reaches the stretch, too."""
        return Target(self.stretch, self.stretch, self.on_ratio).is_met(row)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio` is larger when ours is better; `spread` is the rounds' least and most."""

    name: str
    value: float
    unit: str
    yardstick: float | None = None
    against: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: Target | None = None

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.target is None:
            return ""
        if self.target.is_stretched(self):
            return "stretch"
        return "met" if self.target.is_met(self) else "NOT MET"

    def as_json(self) -> dict[str, Any]:
        """The row for other programs."""
        target = self.target
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "yardstick": self.yardstick,
            "against": self.against,
            "ratio": self.ratio,
            "target": target.must if target else None,
            "stretch": target.stretch if target else None,
            "target_is_of": ("ratio" if target.on_ratio else "value") if target else None,
            "met": target.is_met(self) if target else None,
            "stretch_met": target.is_stretched(self) if target else None,
            "spread": self.spread,
        }

    def cells(self) -> list[str]:
        """The row for people."""
        target = self.target
        sign = "x" if target and target.on_ratio else ""
        bound = "" if not target or target.on_ratio else "<= "
        return [
            self.name,
            f"{shown(self.value)} {self.unit}",
            f"{'' if self.yardstick is None else shown(self.yardstick)} {self.against}".strip(),
            "" if self.ratio is None else f"{shown(self.ratio)}x",
            "" if self.spread is None else f"{shown(self.spread[0])}..{shown(self.spread[1])}",
            f"{bound}{shown(target.must)}{sign}" if target else "",
            f"{bound}{shown(target.stretch)}{sign}" if target else "",
            self.verdict,
        ]


HEADER = ["what", "ours", "yardstick", "ratio", "spread", "must", "stretch", "verdict"]


@dataclass
class Context:
    """The options of a run, and its results."""

    folder: Path
    rounds: int
    quick: bool
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        print(f"  {text}", file=sys.stderr, flush=True)

    def seconds(self, seconds: float) -> float:
        """A stretch of measuring."""
        return seconds / 3 if self.quick else seconds

    def interleave(
        self, contenders: Mapping[str, Callable[[], Figures]], rounds: int | None = None
    ) -> dict[str, list[Figures]]:
        """Measure all of them in every round, in turns from either end."""
        samples: dict[str, list[Figures]] = {name: [] for name in contenders}
        for number in range(rounds or self.rounds):
            names = list(contenders)
            for name in names if number % 2 == 0 else reversed(names):
                samples[name].append(contenders[name]())
            self.say(", ".join(f"{name} {_brief(samples[name][-1])}" for name in names))
        return samples

    def checked(self, what: str, result: dict[str, Any]) -> dict[str, Any]:
        """A load generator's result; warns when the generator was the limit."""
        if result["own_share"] > GENERATOR_LIMIT:
            self.warnings.append(f"{what}: the load generator used {result['own_share']:.0%}")
        return result

    def add(
        self,
        name: str,
        unit: str,
        ours: Sequence[float],
        yardstick: Sequence[float] | None = None,
        *,
        against: str = "",
        target: Target | None = None,
        more_is_better: bool = False,
    ) -> None:
        """Enter a row: medians; the ratio is the median of the ratios of every round.

        Without a yardstick `against` is what stands in its place, and a target of the ratio is none.
        """
        value = statistics.median(ours)
        if yardstick is None:
            if target is not None and target.on_ratio:
                target = None
            self.rows.append(
                Row(name, value, unit, against=against, spread=bounds(ours), target=target)
            )
            return
        pairs = [(a / b if more_is_better else b / a) for a, b in zip(ours, yardstick, strict=True)]
        row = Row(
            name,
            value,
            unit,
            statistics.median(yardstick),
            against,
            statistics.median(pairs),
            bounds(pairs) if target is None or target.on_ratio else bounds(ours),
            target,
        )
        self.rows.append(row)


GENERATOR_LIMIT = 0.8


def pick(samples: Sequence[Figures], figure: str) -> list[float]:
    """One figure of every round."""
    return [one[figure] for one in samples]


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The least and the most."""
    return min(values), max(values)


def _brief(figures: Figures) -> str:
    return "/".join(shown(value) for name, value in figures.items() if name != "own_share")


def shown(value: float) -> str:
    """Three digits, thousands apart."""
    if abs(value) >= 1000:  # noqa: PLR2004 - from here on decimals say nothing
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Columns for a terminal."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def markdown(rows: Sequence[Row]) -> str:
    """The same for a page."""
    lines = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
