"""Random requests after the server's own description, right and wrong ones."""

import logging

import pytest

from tests.support.api_fuzzing import KEY, Outcome, fuzz, fuzzed_server
from tests.support.seeds import VARIABLE, chosen_seed

logger = logging.getLogger(__name__)

EXAMPLES = 4
"""Random requests for each address, beside those that follow from the description alone."""


@pytest.mark.parametrize(("storage", "key"), [("sqlite", KEY), ("local", None)])
async def test_every_answer_is_as_described_and_wrong_requests_are_refused(tmp_path, storage, key):
    seed, outcome = chosen_seed(), Outcome()
    logger.info("%s=%d", VARIABLE, seed)

    async with fuzzed_server(tmp_path, storage, key) as server:
        await fuzz(server.url, key, seed, outcome, examples=EXAMPLES, whole=True)

    logger.info("%s", outcome)
    assert not outcome.problems, "\n\n".join(f"{k}\n{v}" for k, v in outcome.problems.items())
    assert outcome.total > 500
    assert outcome.statuses[200] > 100
