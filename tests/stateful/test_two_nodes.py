"""Two nodes over one store: whatever is rung or not, everybody is handed everything once, in order."""

import pytest

from tests.support.backends import EVENT_STORES
from tests.support.report import counted
from tests.support.stream_machine import run_histories
from tests.support.two_nodes import TwoNodesMachine


@pytest.mark.parametrize("kind", EVENT_STORES)
def test_two_nodes_hand_everything_to_everybody_once_and_in_order(kind, record_property):
    figures = run_histories(TwoNodesMachine, kind, examples=200, steps=40)

    record_property("figures", counted(figures))
    assert figures["appends"] > 1_000
    assert figures["delivered"] > 1_000
    assert figures["moves"] > 100
    assert figures["ahead"] > 20
    assert figures["fenced"] > 50
