"""Every back-end of the SearchIndex."""

from storage.conformance import SearchIndexRestartSuite, SearchIndexSuite
from tests.support.kinds import OverKinds, each_of
from tests.support.search import DURABLE_INDEXES, INDEXES, open_search_index


class TestSearchIndex(OverKinds, SearchIndexSuite):
    kind = each_of(INDEXES)

    def open(self, folder):
        return open_search_index(self.chosen, folder)


class TestSearchIndexRestart(OverKinds, SearchIndexRestartSuite):
    kind = each_of(DURABLE_INDEXES)

    def open(self, folder):
        return open_search_index(self.chosen, folder)
