"""Secrets in memory: the reference back-end; nothing outlives the process."""

from storage.secrets.base import SecretsChange, SecretsStore, SecretsStores
from storage.secrets.model import Secrets


class MemorySecrets(SecretsStores):
    """The medium: the secrets of all owners."""

    def __init__(self) -> None:
        self.by_owner: dict[str | None, Secrets] = {}

    def for_user(self, user_id: str | None) -> "MemorySecretsStore":
        """See SecretsStores."""
        return MemorySecretsStore(self, user_id)


class MemorySecretsStore(SecretsStore):
    """One owner's view of a MemorySecrets. No method awaits, so each is atomic."""

    def __init__(self, medium: MemorySecrets, user_id: str | None) -> None:
        super().__init__(user_id)
        self._medium = medium

    async def load(self) -> Secrets:
        """See SecretsStore."""
        return self._medium.by_owner.get(self.user_id, Secrets())

    async def store(self, secrets: Secrets) -> None:
        """See SecretsStore."""
        self._medium.by_owner[self.user_id] = secrets

    async def update(self, change: SecretsChange) -> Secrets:
        """See SecretsStore."""
        changed = change(self._medium.by_owner.get(self.user_id, Secrets()))
        self._medium.by_owner[self.user_id] = changed
        return changed
