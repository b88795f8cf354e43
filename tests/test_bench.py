"""The table of scripts/bench: ratios of paired rounds, and what stands where there is none."""

from pathlib import Path

from scripts.benchmarks.rows import Context, Target

NO_BUN = "no Bun that runs here"


def rows_of(context):
    return [row.cells() for row in context.rows]


def test_a_ratio_is_the_median_of_those_of_the_rounds_and_above_1_where_ours_is_better():
    context = Context(Path(), rounds=3, quick=True)
    context.add("less", "us", [1.0, 2.0, 4.0], [4.0, 4.0, 4.0], against="Bun", target=Target(1, 3))
    context.add("more", "/s", [6.0, 2.0, 4.0], [2.0, 2.0, 2.0], against="Bun", more_is_better=True)

    assert rows_of(context) == [
        ["less", "2 us", "4 Bun", "2x", "1..4", "1x", "3x", "met"],
        ["more", "4 /s", "2 Bun", "2x", "1..3", "", "", ""],
    ]


def test_a_yardstick_that_does_not_run_here_is_named_and_gives_no_verdict():
    context = Context(Path(), rounds=3, quick=True)
    context.add("fan-out", "us", [2.0, 4.0, 3.0], None, against=NO_BUN, target=Target(0.8, 1))
    context.add("stall", "ms", [2.0, 4.0, 3.0], target=Target(5, 2, on_ratio=False))

    assert rows_of(context) == [
        ["fan-out", "3 us", NO_BUN, "", "2..4", "", "", ""],
        ["stall", "3 ms", "", "", "2..4", "<= 5", "<= 2", "met"],
    ]
    assert [row.as_json()["met"] for row in context.rows] == [None, True]
