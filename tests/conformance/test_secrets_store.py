"""Every back-end of the SecretsStore."""

from storage.conformance import SecretsStoreRestartSuite, SecretsStoreSuite
from tests.support.kinds import OverKinds, each_of
from tests.support.user_backends import DURABLE_USER_STORES, USER_STORES, open_secrets_stores


class TestSecretsStore(OverKinds, SecretsStoreSuite):
    kind = each_of(USER_STORES)

    def open(self, folder):
        return open_secrets_stores(self.chosen, folder)


class TestSecretsStoreRestart(OverKinds, SecretsStoreRestartSuite):
    kind = each_of(DURABLE_USER_STORES)

    def open(self, folder):
        return open_secrets_stores(self.chosen, folder)
