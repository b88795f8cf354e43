"""Every back-end of the ConversationStore."""

import pytest

from storage.conformance import ConversationSearchSuite, ConversationStoreSuite
from tests.support.backends import CONVERSATION_STORES, open_conversation_stores


class TestConversationStore(ConversationStoreSuite):
    @pytest.fixture(autouse=True, params=CONVERSATION_STORES)
    def kind(self, request):
        self.chosen = request.param

    def open(self, folder):
        return open_conversation_stores(self.chosen, folder)


class TestConversationSearch(ConversationSearchSuite):
    @pytest.fixture(autouse=True, params=CONVERSATION_STORES)
    def kind(self, request):
        self.chosen = request.param

    def open(self, folder):
        return open_conversation_stores(self.chosen, folder)
