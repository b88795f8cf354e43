"""What users have chosen: the public contract."""

from storage.settings.base import SettingsChange, SettingsStore, SettingsStores
from storage.settings.mcp import McpConfig
from storage.settings.model import Settings

__all__ = ["McpConfig", "Settings", "SettingsChange", "SettingsStore", "SettingsStores"]
