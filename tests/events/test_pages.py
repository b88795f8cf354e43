"""Page arithmetic and the byte-bounded cache."""

import pytest
from hypothesis import given, strategies as st

from events.pages import PageCache, page_bounds, page_of


@pytest.mark.parametrize(
    ("event_id", "page", "bounds"),
    [(0, 0, (0, 25)), (24, 0, (0, 25)), (25, 1, (25, 50)), (49, 1, (25, 50)), (50, 2, (50, 75))],
)
def test_an_id_lies_in_the_page_whose_bounds_hold_it(event_id, page, bounds):
    assert page_of(event_id, 25) == page
    assert page_bounds(page, 25) == bounds


@given(st.integers(0, 2**40), st.integers(1, 5000))
def test_pages_cover_every_id_once(event_id, page_size):
    first_id, end_id = page_bounds(page_of(event_id, page_size), page_size)

    assert first_id <= event_id < end_id
    assert end_id - first_id == page_size
    assert page_bounds(page_of(event_id, page_size) + 1, page_size)[0] == end_id


def test_a_value_that_was_put_is_given_until_it_is_discarded():
    cache: PageCache[str, str] = PageCache(100)
    cache.put("a", "value", 10)

    assert cache.get("a") == "value"
    assert cache.size_bytes == 10
    cache.discard("a")
    cache.discard("a")
    assert cache.get("a") is None
    assert cache.size_bytes == len(cache) == 0


def test_beyond_the_bound_the_least_recently_used_goes_first():
    cache: PageCache[str, str] = PageCache(30)
    for name in "abc":
        cache.put(name, name, 10)
    cache.get("a")

    cache.put("d", "d", 10)

    assert [cache.get(name) for name in "abcd"] == ["a", None, "c", "d"]


def test_putting_again_replaces_the_value_and_its_size():
    cache: PageCache[str, str] = PageCache(30)
    cache.put("a", "old", 25)
    cache.put("a", "new", 5)

    assert cache.get("a") == "new"
    assert cache.size_bytes == 5


def test_a_value_larger_than_the_whole_bound_is_not_kept_and_drops_nothing_else():
    cache: PageCache[str, str] = PageCache(30)
    cache.put("a", "a", 30)
    cache.put("b", "b", 31)

    assert (cache.get("a"), cache.get("b")) == ("a", None)


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40), st.booleans())),
)
def test_the_bound_holds_and_the_sum_is_right_after_any_history(limit, history):
    cache: PageCache[str, int] = PageCache(limit)
    sizes: dict[str, int] = {}
    for name, size, discards in history:
        if discards:
            cache.discard(name)
        else:
            cache.put(name, size, size)
            sizes[name] = size

        kept = [cache.get(one) for one in sorted(sizes)]
        assert cache.size_bytes == sum(size for size in kept if size is not None) <= limit
