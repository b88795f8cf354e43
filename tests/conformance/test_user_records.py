"""Every back-end of the UserRecords."""

from storage.conformance import UserRecordsRestartSuite, UserRecordsSuite
from tests.support.kinds import OverKinds, each_of
from tests.support.user_backends import DURABLE_USER_STORES, USER_STORES, open_user_records


class TestUserRecords(OverKinds, UserRecordsSuite):
    kind = each_of(USER_STORES)

    def open(self, folder):
        return open_user_records(self.chosen, folder)


class TestUserRecordsRestart(OverKinds, UserRecordsRestartSuite):
    kind = each_of(DURABLE_USER_STORES)

    def open(self, folder):
        return open_user_records(self.chosen, folder)
