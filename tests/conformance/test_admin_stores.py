"""Every back-end of the UsageStore and of the AuditLog."""

from collections.abc import Sequence
from contextlib import asynccontextmanager

import pytest

from storage.conformance.audit_log import AuditLogRestartSuite, AuditLogSuite
from storage.conformance.usage_store import UsageStoreRestartSuite, UsageStoreSuite
from tests.support.admin_backends import DURABLE_KINDS, KINDS, open_admin_stores


def pytest_generate_tests(metafunc):
    metafunc.parametrize("kind", metafunc.cls.kinds, indirect=True)


class Opened:
    """Opens the store of that name, by each of these back-ends."""

    kinds: Sequence[str] = KINDS
    opens: str

    @pytest.fixture(autouse=True)
    def kind(self, request):
        self.chosen = request.param

    @asynccontextmanager
    async def open(self, folder):
        async with open_admin_stores(self.chosen, folder) as opened:
            yield getattr(opened, self.opens)


class TestUsageStore(Opened, UsageStoreSuite):
    opens = "usage"


class TestUsageStoreRestart(Opened, UsageStoreRestartSuite):
    kinds = DURABLE_KINDS
    opens = "usage"


class TestAuditLog(Opened, AuditLogSuite):
    opens = "audit"


class TestAuditLogRestart(Opened, AuditLogRestartSuite):
    kinds = DURABLE_KINDS
    opens = "audit"
