"""Two nodes over one store: whatever is rung or not, everybody is handed everything once, in order."""

import pytest

from tests.support.backends import EVENT_STORES, HISTORIES
from tests.support.report import counted
from tests.support.stream_machine import run_histories
from tests.support.two_nodes import TwoNodesMachine


@pytest.mark.parametrize("kind", EVENT_STORES)
def test_two_nodes_hand_everything_to_everybody_once_and_in_order(kind, record_property):
    histories = HISTORIES.get(kind, 200)
    figures = run_histories(TwoNodesMachine, kind, examples=histories, steps=40)

    record_property("figures", counted(figures))
    assert figures["appends"] > 5 * histories
    assert figures["delivered"] > 5 * histories
    assert figures["moves"] > histories / 2
    assert figures["ahead"] > histories / 25
    assert figures["fenced"] > histories / 4
