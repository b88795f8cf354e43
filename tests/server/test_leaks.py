"""Clients and conversations that are gone leave nothing behind; scripts/soak leaks does it at length."""

import pytest

from tests.support.leak_run import WAYS, run_leaks

CONNECTS = 60
CONVERSATIONS = 40
MOST_MEBIBYTES = 8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
async def test_whoever_comes_and_goes_leaves_nothing_behind(tmp_path, record_property, way):
    async for found in run_leaks(tmp_path, CONNECTS, CONVERSATIONS, ways=[way]):
        record_property(f"figures, {found.what}", str(found))
        assert found.kept <= 0, str(found)
        assert found.kept_mebibytes < MOST_MEBIBYTES, str(found)
