"""Servers of a cluster that are killed under load: another one goes on with all they were at."""

from tests.support.cluster_rounds import run_cluster_rounds
from tests.support.seeds import chosen_seed

ROUNDS = 1


async def test_whichever_server_is_killed_nothing_is_lost_or_doubled_and_its_agents_go_on(
    tmp_path, record_property
):
    figures = await run_cluster_rounds(tmp_path, chosen_seed(), ROUNDS)

    record_property("figures", str(figures))
    assert figures.rounds == ROUNDS
    assert figures.acknowledged >= 20 * ROUNDS
    assert figures.counts is not None
    assert figures.counts.delivered > figures.acknowledged
