"""Every back-end of the SettingsStore."""

from contextlib import asynccontextmanager

import pytest

from storage.conformance import SettingsStoreRestartSuite, SettingsStoreSuite
from tests.support.user_backends import DURABLE_USER_STORES, USER_STORES, open_user_stores


class TestSettingsStore(SettingsStoreSuite):
    @pytest.fixture(autouse=True, params=USER_STORES)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_user_stores(self.chosen, folder) as opened:
            yield opened.settings


class TestSettingsStoreRestart(SettingsStoreRestartSuite):
    @pytest.fixture(autouse=True, params=DURABLE_USER_STORES)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_user_stores(self.chosen, folder) as opened:
            yield opened.settings
