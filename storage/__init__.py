"""Storage: files, rows and records. The public contract."""

from storage.conversations.base import ConversationStore
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    ProviderType,
)
from storage.opening import open_storage

__all__ = [
    "ConversationMetadata",
    "ConversationMetadataResultSet",
    "ConversationStore",
    "ProviderType",
    "open_storage",
]
