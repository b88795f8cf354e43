"""The conformance suite of a medium's user records, as tests of pytest and pytest-asyncio."""

import asyncio

import pytest
import pytest_asyncio

from storage.conformance.opened import OpenedSuite
from storage.keys import owner_part
from storage.users.base import RecordName, UserRecords

KIND = "notes"
RECORD = b"\x00 any bytes \xff\n"


class UserRecordsSuite(OpenedSuite[UserRecords]):
    """The contract of a UserRecords; a subclass says how a medium is opened."""

    @pytest_asyncio.fixture
    async def records(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    async def test_a_record_that_was_never_written_is_none(self, records):
        assert await records.read("ann", KIND) is None

    @pytest.mark.parametrize(
        "record", [b"", RECORD, b"x" * 1_000_000], ids=["empty", "any", "large"]
    )
    async def test_a_record_comes_back_as_it_was_written(self, records, record):
        await records.write("ann", KIND, record)

        assert await records.read("ann", KIND) == record

    async def test_writing_replaces_the_whole_record(self, records):
        await records.write("ann", KIND, RECORD)
        await records.write("ann", KIND, b"short")

        assert await records.read("ann", KIND) == b"short"

    async def test_all_records_are_named_in_pages_and_found_by_their_names(self, records):
        owners = [f"user {number}" for number in range(7)] + [None]
        for owner in owners:
            await records.write(owner, KIND, repr(owner).encode())
            await records.write(owner, "other", b"")

        found, after = [], None
        while page := await records.names(after, 3):
            assert len(page) <= 3
            found += page
            after = page[-1]

        expected = {(owner_part(owner), kind) for owner in owners for kind in (KIND, "other")}
        assert len(found) == len(expected)
        assert set(found) == expected
        name = RecordName(owner_part("user 3"), KIND)
        assert await records.read_named(name) == b"'user 3'"
        await records.write_named(name, b"new")
        assert await records.read("user 3", KIND) == b"new"
        assert await records.read_named(RecordName(owner_part("bob"), KIND)) is None

    async def test_a_deleted_record_is_none_and_the_others_stay(self, records):
        for owner in ("ann", "bob", None):
            for kind in ("notes", "other"):
                await records.write(owner, kind, f"{owner} {kind}".encode())

        for _ in range(2):
            await records.delete_named(RecordName(owner_part("ann"), "notes"))

        assert await records.read("ann", "notes") is None
        assert await records.names_of("ann") == [RecordName(owner_part("ann"), "other")]
        assert await records.read("bob", "notes") == b"bob notes"
        assert await records.read(None, "other") == b"None other"
        await records.write("ann", "notes", b"again")
        assert await records.read("ann", "notes") == b"again"

    async def test_the_records_of_an_owner_are_named_and_no_others(self, records):
        kinds = [f"k{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
        for kind in kinds:
            await records.write("ann", kind, b"")
        for owner in ("bob", "carl", None):
            await records.write(owner, "ka", b"")

        assert await records.names_of("ann") == [
            RecordName(owner_part("ann"), one) for one in kinds
        ]
        assert await records.names_of(None) == [RecordName(owner_part(None), "ka")]
        assert await records.names_of("dora") == []

    async def test_owners_and_kinds_are_kept_apart(self, records):
        owners = ("ann", "Ann", "", "nobody", "../ann", "a" * 200, None)
        for owner in owners:
            for kind in ("notes", "other"):
                await records.write(owner, kind, f"{owner} {kind}".encode())

        for owner in owners:
            for kind in ("notes", "other"):
                assert await records.read(owner, kind) == f"{owner} {kind}".encode()
        assert await records.read("bob", KIND) is None

    async def test_an_update_is_given_the_record_or_none(self, records):
        seen = []

        def change(record):
            seen.append(record)
            return b"new"

        await records.update("ann", KIND, change)
        await records.update("ann", KIND, change)

        assert seen == [None, b"new"]
        assert await records.read("ann", KIND) == b"new"

    async def test_updates_at_the_same_time_do_not_undo_each_other(self, records):
        def adding(letter):
            return lambda record: (record or b"") + letter

        letters = [bytes([number]) for number in range(65, 85)]
        await asyncio.gather(*(records.update("ann", KIND, adding(one)) for one in letters))

        assert sorted(await records.read("ann", KIND)) == sorted(b"".join(letters))

    async def test_an_error_of_a_change_is_passed_on_and_nothing_is_written(self, records):
        await records.write("ann", KIND, RECORD)

        with pytest.raises(ZeroDivisionError):
            await records.update("ann", KIND, lambda _: 1 // 0)

        assert await records.read("ann", KIND) == RECORD


class UserRecordsRestartSuite(OpenedSuite[UserRecords]):
    """The contract of a UserRecords that outlasts the process."""

    async def test_records_outlast_the_process(self, tmp_path):
        async with self.open(tmp_path) as records:
            await records.write("ann", KIND, RECORD)
            await records.write(None, KIND, b"")

        async with self.open(tmp_path) as records:
            assert await records.read("ann", KIND) == RECORD
            assert await records.read(None, KIND) == b""
