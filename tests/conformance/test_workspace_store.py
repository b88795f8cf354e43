"""Every back-end of the WorkspaceStore."""

from storage.conformance import WorkspaceStoreRestartSuite, WorkspaceStoreSuite
from tests.support.backends import DURABLE, SHARED_LOGS, WORKSPACE_STORES, open_workspaces
from tests.support.kinds import OverKinds, each_of
from tests.support.postgres import kept_bytes
from tests.support.s3 import stored_bytes


class TestWorkspaceStore(OverKinds, WorkspaceStoreSuite):
    kind = each_of(WORKSPACE_STORES)

    def open(self, folder, limits):
        return open_workspaces(self.chosen, folder, limits)


class TestWorkspaceStoreRestart(OverKinds, WorkspaceStoreRestartSuite):
    kind = each_of(sorted(DURABLE))

    def open(self, folder, limits):
        return open_workspaces(self.chosen, folder, limits)

    async def held_bytes(self, folder):
        if self.chosen in SHARED_LOGS:
            return await kept_bytes(folder)
        if self.chosen == "s3":
            return await stored_bytes(folder)
        return await super().held_bytes(folder)
