"""Every back-end of the ConversationStore."""

from storage.conformance import ConversationSearchSuite, ConversationStoreSuite
from tests.support.backends import CONVERSATION_STORES, open_conversation_stores
from tests.support.kinds import OverKinds, each_of


class TestConversationStore(OverKinds, ConversationStoreSuite):
    kind = each_of(CONVERSATION_STORES)

    def open(self, folder):
        return open_conversation_stores(self.chosen, folder)


class TestConversationSearch(OverKinds, ConversationSearchSuite):
    kind = each_of(CONVERSATION_STORES)

    def open(self, folder):
        return open_conversation_stores(self.chosen, folder)
