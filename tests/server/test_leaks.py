"""Clients and conversations that are gone leave nothing behind; scripts/soak leaks does it at length."""

import pytest

from tests.support.leak_run import leaks_together

NUMBER = 30
MOST_MEBIBYTES = 16
"""More than before the first of them: what is made at first use is in it."""
ROUNDS = {
    "direct": [
        ("direct", "clean"),
        ("direct", "cut"),
        ("direct", "unfinished"),
        ("polling", "clean"),
        ("polling", "unfinished"),
        ("upgrade", "clean"),
        ("upgrade", "cut"),
    ],
    "engine": [("library websocket", "clean"), ("library websocket", "cut")],
}


@pytest.mark.parametrize("delivery", ROUNDS)
async def test_whoever_comes_and_goes_leaves_nothing_behind(tmp_path, record_property, delivery):
    found = await leaks_together(tmp_path, delivery, ROUNDS[delivery], NUMBER)

    record_property("figures", str(found))
    assert found.kept <= 0, str(found)
    assert found.kept_mebibytes < MOST_MEBIBYTES, str(found)
