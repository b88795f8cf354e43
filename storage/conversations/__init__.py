"""Conversation records: the public contract."""

from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    ConversationTrigger,
    MetadataChange,
    ProviderType,
)
from storage.conversations.paging import ConversationFilter

__all__ = [
    "ConversationFilter",
    "ConversationMetadata",
    "ConversationMetadataResultSet",
    "ConversationStore",
    "ConversationStores",
    "ConversationTrigger",
    "MetadataChange",
    "ProviderType",
]
