"""Suites that hold every store to its contract, and the search index.

Each is a class of tests; a test module of one's own subclasses it under a name that begins with
`Test` and says how a back-end is opened. Needs pytest and pytest-asyncio, which are not installed
with the server, and assertions: run it without `-O`.
"""

from storage.conformance.audit_log import AuditLogRestartSuite, AuditLogSuite
from storage.conformance.conversation_search import ConversationSearchSuite
from storage.conformance.conversation_store import ConversationStoreSuite
from storage.conformance.search_index import SearchIndexRestartSuite, SearchIndexSuite
from storage.conformance.secrets_store import SecretsStoreRestartSuite, SecretsStoreSuite
from storage.conformance.settings_store import SettingsStoreRestartSuite, SettingsStoreSuite
from storage.conformance.usage_store import UsageStoreRestartSuite, UsageStoreSuite
from storage.conformance.user_records import UserRecordsRestartSuite, UserRecordsSuite
from storage.conformance.workspace_store import (
    OpenedWorkspaces,
    WorkspaceStoreRestartSuite,
    WorkspaceStoreSuite,
)

__all__ = [
    "AuditLogRestartSuite",
    "AuditLogSuite",
    "ConversationSearchSuite",
    "ConversationStoreSuite",
    "OpenedWorkspaces",
    "SearchIndexRestartSuite",
    "SearchIndexSuite",
    "SecretsStoreRestartSuite",
    "SecretsStoreSuite",
    "SettingsStoreRestartSuite",
    "SettingsStoreSuite",
    "UsageStoreRestartSuite",
    "UsageStoreSuite",
    "UserRecordsRestartSuite",
    "UserRecordsSuite",
    "WorkspaceStoreRestartSuite",
    "WorkspaceStoreSuite",
]
