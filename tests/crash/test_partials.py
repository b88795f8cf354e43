"""SIGKILL at random moments in the middle of texts: what was checkpointed is in the log, once."""

import asyncio

import pytest

from tests.support.partial_kills import run_partial_kills
from tests.support.seeds import chosen_seed

KILLS = 20


@pytest.mark.parametrize("storage", ["sqlite", "local"])
async def test_what_a_checkpoint_held_before_a_kill_is_in_the_log_once(
    storage, tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    # A server that starts or is watched leaves the processor to another one.
    async with asyncio.TaskGroup() as tasks:
        runs = [
            tasks.create_task(run_partial_kills(tmp_path / str(n), seed + n, KILLS // 2, storage))
            for n in range(2)
        ]

    both = [run.result() for run in runs]
    record_property("figures", "; ".join(map(str, both)))
    assert all(figures.kills >= KILLS // 2 for figures in both)
    assert sum(figures.recovered for figures in both) > 0
    assert sum(figures.held_more for figures in both) > 0
