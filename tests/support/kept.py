"""The records a server keeps for administration, in memory."""

from server.routes.admin.table import AdminStores
from storage.audit.base import AuditLog
from storage.audit.memory import MemoryAudit
from storage.backends.memory import MemoryInventory
from storage.conversations.base import ConversationStores
from storage.conversations.memory import MemoryConversations
from storage.usage.memory import MemoryUsage


def kept_in_memory(stores: ConversationStores, audit: AuditLog | None = None) -> AdminStores:
    """Usage of these records, where they are in memory; an audit of its own if none is given."""
    records = stores if isinstance(stores, MemoryConversations) else MemoryConversations()
    return AdminStores(
        MemoryUsage(records.all_owners), audit or MemoryAudit(), MemoryInventory(records)
    )
