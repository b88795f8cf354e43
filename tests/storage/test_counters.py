"""Counters: a histogram's places, and when a storage counts as failing."""

import pytest

from storage.counters import Counters, Histogram


@pytest.mark.parametrize(
    ("value", "place"), [(0, 0), (1, 0), (1.01, 1), (2, 1), (5, 2), (5.01, 3), (1e9, 3)]
)
def test_a_value_counts_for_the_first_bound_it_does_not_exceed(value, place):
    histogram = Histogram((1, 2, 5))

    histogram.observe(value)

    assert [index for index, count in enumerate(histogram.counts) if count] == [place]
    assert histogram.total == value


def test_histograms_share_nothing():
    first, second = Counters(), Counters()

    first.committed(3, 0.004)

    assert sum(first.commit_times.counts) == first.commits == 1
    assert first.last_commit_seconds == first.commit_times.total == 0.004
    assert sum(second.commit_times.counts) == 0


def test_a_commit_that_raises_is_none():
    counters = Counters()

    with pytest.raises(OSError, match="full"), counters.commit():
        raise OSError("full")

    assert counters.commits == 0


def test_a_storage_fails_from_a_failure_to_the_next_append():
    counters = Counters()
    seen = [counters.failing]

    counters.append_failed(2)
    seen.append(counters.failing)
    counters.events += 1
    seen.append(counters.failing)

    assert seen == [False, True, False]
    assert counters.appends_failed == 2
