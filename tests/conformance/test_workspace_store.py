"""Every back-end of the WorkspaceStore."""

from storage.conformance import WorkspaceStoreRestartSuite, WorkspaceStoreSuite
from tests.support.backends import DURABLE, WORKSPACE_STORES, open_workspaces
from tests.support.kinds import OverKinds, each_of


class TestWorkspaceStore(OverKinds, WorkspaceStoreSuite):
    kind = each_of(WORKSPACE_STORES)

    def open(self, folder, limits):
        return open_workspaces(self.chosen, folder, limits)


class TestWorkspaceStoreRestart(OverKinds, WorkspaceStoreRestartSuite):
    kind = each_of(sorted(DURABLE))

    def open(self, folder, limits):
        return open_workspaces(self.chosen, folder, limits)
