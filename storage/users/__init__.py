"""Records of users: their settings and secrets, sealed, on every medium. The public contract."""

from storage.users.base import (
    SecretsChange,
    SecretsStore,
    SecretsStores,
    SettingsChange,
    SettingsStore,
    SettingsStores,
)
from storage.users.mcp import McpConfig
from storage.users.secrets import CustomSecret, ProviderToken, Secrets
from storage.users.settings import Settings

__all__ = [
    "CustomSecret",
    "McpConfig",
    "ProviderToken",
    "Secrets",
    "SecretsChange",
    "SecretsStore",
    "SecretsStores",
    "Settings",
    "SettingsChange",
    "SettingsStore",
    "SettingsStores",
]
