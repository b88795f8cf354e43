"""Every back-end of the UsageStore and of the AuditLog."""

from contextlib import asynccontextmanager

import pytest

from storage.conformance.audit_log import AuditLogRestartSuite, AuditLogSuite
from storage.conformance.usage_store import UsageStoreRestartSuite, UsageStoreSuite
from tests.support.admin_backends import DURABLE_KINDS, KINDS, open_admin_stores


class TestUsageStore(UsageStoreSuite):
    @pytest.fixture(autouse=True, params=KINDS)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_admin_stores(self.chosen, folder) as opened:
            yield opened.usage


class TestUsageStoreRestart(UsageStoreRestartSuite):
    @pytest.fixture(autouse=True, params=DURABLE_KINDS)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_admin_stores(self.chosen, folder) as opened:
            yield opened.usage


class TestAuditLog(AuditLogSuite):
    @pytest.fixture(autouse=True, params=KINDS)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_admin_stores(self.chosen, folder) as opened:
            yield opened.audit


class TestAuditLogRestart(AuditLogRestartSuite):
    @pytest.fixture(autouse=True, params=DURABLE_KINDS)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_admin_stores(self.chosen, folder) as opened:
            yield opened.audit
