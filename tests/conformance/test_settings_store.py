"""Every back-end of the SettingsStore."""

from storage.conformance import SettingsStoreRestartSuite, SettingsStoreSuite
from tests.support.kinds import OverKinds, each_of
from tests.support.user_backends import DURABLE_USER_STORES, USER_STORES, open_settings_stores


class TestSettingsStore(OverKinds, SettingsStoreSuite):
    kind = each_of(USER_STORES)

    def open(self, folder):
        return open_settings_stores(self.chosen, folder)


class TestSettingsStoreRestart(OverKinds, SettingsStoreRestartSuite):
    kind = each_of(DURABLE_USER_STORES)

    def open(self, folder):
        return open_settings_stores(self.chosen, folder)
