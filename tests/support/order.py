"""The order of a run: the modules of quick folders last, so that all workers end together.

A worker takes a module at a time. By itself xdist begins with those of most tests, which leaves the
few long tests that kill servers and open pages to the end, where one worker waits for another.
"""

from collections import Counter

import pytest

from tests.support.report import folder_of

QUICK = ("conformance", "events", "runtime_stub")
"""Folders of short tests, in the order in which they end a run."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort modules by their folder, then by their number of tests; the rest stays shuffled."""
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        folder = folder_of(item.nodeid)
        return QUICK.index(folder) + 1 if folder in QUICK else 0, -tests[item.path]

    items.sort(key=place)
