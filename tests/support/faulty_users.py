"""Stores of settings and secrets that fail, or stop at a point a test chooses."""

import asyncio

from storage.errors import OutcomeUnknown, StorageError
from storage.users.base import (
    SecretsChange,
    SecretsStore,
    SecretsStores,
    SettingsStore,
    SettingsStores,
)
from storage.users.secrets import Secrets
from storage.users.settings import Settings
from tests.support.user_backends import memory_user_stores


class FailingSettings(SettingsStores):
    """Every call fails with one error."""

    def __init__(self, error: StorageError) -> None:
        self.error = error

    def for_user(self, user_id: str | None) -> SettingsStore:
        """See SettingsStores."""
        return _FailingSettingsStore(user_id, self.error)


class _FailingSettingsStore(SettingsStore):
    def __init__(self, user_id: str | None, error: StorageError) -> None:
        super().__init__(user_id)
        self._error = error

    async def load(self) -> Settings | None:
        raise self._error

    async def store(self, settings: Settings) -> None:
        raise self._error


class GatedSecrets(SecretsStores):
    """Secrets in memory whose reads and writes give their answer only while a gate is open.

    What is read is what was there when the call came. With `unknown` updates are carried out and
    their outcome is not told. `reads` counts what was read.
    """

    unknown = False
    reads = 0

    def __init__(self) -> None:
        self.inner = memory_user_stores().secrets
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    def for_user(self, user_id: str | None) -> SecretsStore:
        """See SecretsStores."""
        return _GatedStore(self, user_id)

    async def pass_gate(self) -> None:
        """Wait for the gate, and tell that somebody does."""
        if not self.gate.is_set():
            self.waiting.set()
        await self.gate.wait()


class _GatedStore(SecretsStore):
    def __init__(self, medium: GatedSecrets, user_id: str | None) -> None:
        super().__init__(user_id)
        self._medium = medium
        self._inner = medium.inner.for_user(user_id)

    async def load(self) -> Secrets:
        self._medium.reads += 1
        secrets = await self._inner.load()
        await self._medium.pass_gate()
        return secrets

    async def store(self, secrets: Secrets) -> None:
        await self._inner.store(secrets)

    async def update(self, change: SecretsChange) -> Secrets:
        changed = await self._inner.update(change)
        if self._medium.unknown:
            raise OutcomeUnknown("the answer was lost")
        return changed
