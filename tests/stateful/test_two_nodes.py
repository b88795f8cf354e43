"""Two nodes over one store: whatever is rung or not, everybody is handed everything once, in order."""

import pytest

from tests.support.backends import EVENT_STORES, HISTORIES
from tests.support.histories import short_of, try_histories
from tests.support.report import counted
from tests.support.two_nodes import TwoNodesMachine


@pytest.mark.parametrize("kind", EVENT_STORES)
def test_two_nodes_hand_everything_to_everybody_once_and_in_order(kind, record_property):
    histories = HISTORIES.get(kind, 200)
    floors = {
        "appends": 5 * histories,
        "delivered": 5 * histories,
        "moves": histories / 2,
        # Rare where an answer takes time of its own.
        "ahead": 0 if kind in HISTORIES else histories / 10,
        "fenced": histories / 4,
    }

    figures = try_histories(TwoNodesMachine, floors, histories=histories, steps=40, kind=kind)

    record_property("figures", counted(figures))
    assert short_of(floors, figures) == {}
