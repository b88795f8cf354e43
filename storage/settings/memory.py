"""Settings in memory: the reference back-end; nothing outlives the process."""

from storage.settings.base import SettingsChange, SettingsStore, SettingsStores
from storage.settings.model import Settings


class MemorySettings(SettingsStores):
    """The medium: the settings of all owners."""

    def __init__(self) -> None:
        self.by_owner: dict[str | None, Settings] = {}

    def for_user(self, user_id: str | None) -> "MemorySettingsStore":
        """See SettingsStores."""
        return MemorySettingsStore(self, user_id)


class MemorySettingsStore(SettingsStore):
    """One owner's view of a MemorySettings. No method awaits, so each is atomic."""

    def __init__(self, medium: MemorySettings, user_id: str | None) -> None:
        super().__init__(user_id)
        self._medium = medium

    async def load(self) -> Settings | None:
        """See SettingsStore."""
        return self._medium.by_owner.get(self.user_id)

    async def store(self, settings: Settings) -> None:
        """See SettingsStore."""
        self._medium.by_owner[self.user_id] = settings

    async def update(self, change: SettingsChange) -> Settings:
        """See SettingsStore."""
        changed = change(self._medium.by_owner.get(self.user_id))
        self._medium.by_owner[self.user_id] = changed
        return changed
