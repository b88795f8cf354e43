"""Every back-end of the UsageStore and of the AuditLog."""

from collections.abc import Sequence
from contextlib import asynccontextmanager

import pytest

from storage.conformance.audit_log import AuditLogRestartSuite, AuditLogSuite
from storage.conformance.usage_store import UsageStoreRestartSuite, UsageStoreSuite
from tests.support.admin_backends import DURABLE_KINDS, KINDS, open_admin_stores


def opened_by(kinds: Sequence[str], name: str) -> type:
    """Return a base class that opens the store of that name, by each of these back-ends."""

    class Opened:
        @pytest.fixture(autouse=True, params=kinds)
        def kind(self, request):
            self.chosen = request.param

        @asynccontextmanager
        async def open(self, folder):
            async with open_admin_stores(self.chosen, folder) as opened:
                yield getattr(opened, name)

    return Opened


class TestUsageStore(opened_by(KINDS, "usage"), UsageStoreSuite):
    pass


class TestUsageStoreRestart(opened_by(DURABLE_KINDS, "usage"), UsageStoreRestartSuite):
    pass


class TestAuditLog(opened_by(KINDS, "audit"), AuditLogSuite):
    pass


class TestAuditLogRestart(opened_by(DURABLE_KINDS, "audit"), AuditLogRestartSuite):
    pass
