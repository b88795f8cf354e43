"""Arrivals: the newest events of every log, consecutive whatever was told of their commits."""

import pytest

from events.conformance.records import records
from events.stores.database.arrivals import OVERHEAD_BYTES, Arrivals


@pytest.fixture
def arrivals():
    return Arrivals()


def test_what_arrived_is_there_in_order(arrivals):
    arrivals.add("c", records(5, 2))
    arrivals.add("d", records(0, 1))
    arrivals.add("c", records(7, 1))

    assert arrivals.of("c") == records(5, 3)
    assert arrivals.of("d") == records(0, 1)
    assert arrivals.of("e") == []
    assert arrivals.count == 4
    assert arrivals.size == sum(len(event.body) + OVERHEAD_BYTES for event in records(5, 3)) + (
        len(records(0, 1)[0].body) + OVERHEAD_BYTES
    )


def test_while_some_are_being_placed_all_are_there(arrivals):
    arrivals.add("c", records(0, 2))
    arrivals.begin()
    arrivals.add("c", records(2, 1))

    assert arrivals.of("c") == records(0, 3)
    assert arrivals.count == 1

    arrivals.placed()
    assert arrivals.of("c") == records(2, 1)


def test_what_could_not_be_placed_is_there_and_counted_again(arrivals):
    arrivals.add("c", records(0, 2))
    arrivals.add("d", records(0, 2))
    arrivals.begin()
    arrivals.add("c", records(2, 1))
    arrivals.failed()

    assert arrivals.of("c") == records(0, 3)
    assert arrivals.of("d") == records(0, 2)
    assert arrivals.count == 5

    arrivals.begin()
    arrivals.placed()
    assert arrivals.of("c") == arrivals.of("d") == []


@pytest.mark.parametrize("placing", [False, True])
def test_behind_a_commit_that_nobody_was_told_of_older_ones_are_given_up(arrivals, placing):
    arrivals.add("c", records(0, 2))
    if placing:
        arrivals.begin()
    arrivals.add("c", records(3, 1))

    assert arrivals.of("c") == records(3, 1)

    arrivals.failed()
    assert arrivals.of("c") == records(3, 1)


def test_a_deleted_log_is_forgotten_in_both_generations(arrivals):
    arrivals.add("c", records(0, 2))
    arrivals.begin()
    arrivals.add("c", records(2, 1))

    arrivals.forget("c")

    assert arrivals.of("c") == []
