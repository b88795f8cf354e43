"""Contents of a workspace are put into blobs: nothing lost, little wasted, nothing written twice."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings, strategies as st

from storage.errors import Damaged, WorkspaceTooLarge
from storage.workspaces.manifest import (
    BLOB_BYTES,
    MOST_SMALL,
    Contents,
    Loaded,
    Manifest,
    digest_of,
    next_manifest,
)
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NO_LIMITS = WorkspaceLimits(2**60, 2**60)
SIZES = st.sampled_from(
    [0, 1, 1000, BLOB_BYTES // 3, BLOB_BYTES - 1, BLOB_BYTES, 2 * BLOB_BYTES + 5]
)
CONTENTS = st.builds(lambda letter, size: letter * size, st.sampled_from([b"a", b"b"]), SIZES)
SNAPSHOTS = st.builds(
    Snapshot,
    files=st.dictionaries(st.sampled_from("abcdef"), CONTENTS, max_size=6),
    folders=st.frozensets(st.sampled_from(["x", "y\udcff"])),
    own=st.dictionaries(st.sampled_from("st"), CONTENTS, max_size=2),
)


SMALL = Snapshot(files={"a": b"a" * 1000})


class Medium:
    """Blobs and a manifest, as a store has them, and what was written of each save."""

    def __init__(self):
        self.manifest: Manifest | None = None
        self.blobs: dict[str, bytes] = {}
        self.written: list[int] = []

    def save(self, snapshot):
        contents = Contents.of(snapshot, NO_LIMITS, digest_of)
        change = next_manifest(
            contents, snapshot.folders, NOON, self.manifest, self.blobs.keys(), digest_of
        )
        if change is None:
            self.written = []
            return False
        new = {blob.name: b"".join(blob.parts) for blob in change.blobs}
        assert not new.keys() & self.blobs.keys()
        self.written = [len(body) for body in new.values()]
        self.blobs |= new
        self.manifest = Manifest.decode(change.manifest.encode(), "key")
        assert self.manifest == change.manifest
        self.blobs = {name: self.blobs[name] for name in self.manifest.blobs}
        return True

    def load(self):
        assert self.manifest is not None
        return self.manifest.loaded(self.blobs, digest_of)

    @property
    def size(self):
        return sum(map(len, self.blobs.values()))


def used(snapshot):
    return sum(map(len, {*snapshot.files.values(), *snapshot.own.values()}))


@given(st.lists(SNAPSHOTS, min_size=1, max_size=6))
@example([Snapshot(files={"a": b"a" * 1000, "b": b"b" * (BLOB_BYTES - 1000)}), SMALL])
@settings(max_examples=60, deadline=None)
def test_any_history_of_snapshots_ends_with_the_last_and_wastes_at_most_half(snapshots):
    medium = Medium()
    for snapshot in snapshots:
        medium.save(snapshot)

        assert medium.load() == Loaded(snapshot)
        assert all(digest_of([body]) == name for name, body in medium.blobs.items())
        assert all(0 < len(body) <= BLOB_BYTES for body in medium.blobs.values())
        assert medium.size <= 2 * used(snapshot)


@given(SNAPSHOTS)
@settings(max_examples=30, deadline=None)
def test_saving_the_same_again_needs_nothing(snapshot):
    medium = Medium()
    assert medium.save(snapshot)

    assert not medium.save(snapshot)


def test_a_small_change_writes_what_has_changed():
    files = {f"f{number:03}": bytes([number]) * 5000 for number in range(200)}
    medium = Medium()
    medium.save(Snapshot(files=files))
    files["f007"] = b"new"
    medium.save(Snapshot(files=files))

    assert medium.written == [3]


def test_a_file_that_grows_writes_its_end():
    line = b"a line of a log\n"
    text = bytes(range(256)) * (3 * BLOB_BYTES // 256) + line
    medium = Medium()
    medium.save(Snapshot(files={"log": text}))
    medium.save(Snapshot(files={"log": text + line}))

    assert medium.written == [2 * len(line)]


def test_many_small_blobs_are_packed_anew():
    medium, files = Medium(), {}
    most = 0
    for number in range(5 * MOST_SMALL):
        files[f"f{number}"] = b"%d" % number * 20
        medium.save(Snapshot(files=dict(files)))
        most = max(most, len(medium.blobs))

    assert most <= MOST_SMALL + 2
    assert medium.load() == Loaded(Snapshot(files=files))


def test_what_little_is_used_of_a_blob_is_written_anew_without_the_rest():
    medium = Medium()
    medium.save(Snapshot(files={"kept": b"1" * 1000, "dropped": b"2" * 5000}))
    medium.save(Snapshot(files={"kept": b"1" * 1000}))

    assert medium.size == 1000
    assert medium.load() == Loaded(Snapshot(files={"kept": b"1" * 1000}))


def test_a_blob_that_the_medium_has_lost_is_written_again():
    snapshot = Snapshot(files={"a": b"1" * 5000, "b": b"2" * BLOB_BYTES})
    medium = Medium()
    medium.save(snapshot)
    lost = max(medium.blobs, key=lambda name: len(medium.blobs[name]))
    del medium.blobs[lost]
    assert medium.load().lost == ("b",)

    assert medium.save(snapshot)
    assert medium.load() == Loaded(snapshot)


def test_of_a_damaged_blob_what_is_whole_in_it_is_returned():
    snapshot = Snapshot(files={"a": b"aaaa", "b": b"bbbb", "c": b"cccc", "same": b"bbbb"})
    medium = Medium()
    medium.save(snapshot)
    ((name, body),) = medium.blobs.items()
    medium.blobs[name] = body.replace(b"bbbb", b"bbbx")

    loaded = medium.load()

    assert (loaded.lost, loaded.own_lost) == (("b", "same"), False)
    assert loaded.snapshot.files == {"a": b"aaaa", "c": b"cccc"}


def test_of_the_runtimes_own_records_all_come_back_or_none():
    snapshot = Snapshot(files={"a": b"aaaa"}, own={"s": b"ssss", "t": b"tttt"})
    medium = Medium()
    medium.save(snapshot)
    ((name, body),) = medium.blobs.items()
    medium.blobs[name] = body.replace(b"ssss", b"sssx")

    loaded = medium.load()

    assert loaded == Loaded(Snapshot(files={"a": b"aaaa"}), (), own_lost=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"kept_at":"2026-05-04T12:00:00+00:00","blobs":[],"contents":[["x",[[3,0,1]]]]}',
    ],
)
def test_a_manifest_that_cannot_be_read_is_damaged(content):
    with pytest.raises(Damaged, match="the key"):
        Manifest.decode(content, "the key")


def test_contents_that_are_the_same_count_once_and_names_count_too():
    snapshot = Snapshot(
        files={"a": b"12345", "bb": b"12345"}, folders=frozenset({"ccc"}), own={"d": b"12345"}
    )

    Contents.of(snapshot, WorkspaceLimits(12, 4), digest_of)
    with pytest.raises(WorkspaceTooLarge, match="more than 11 bytes"):
        Contents.of(snapshot, WorkspaceLimits(11, 4), digest_of)
    with pytest.raises(WorkspaceTooLarge, match="more than 3 files and folders"):
        Contents.of(snapshot, WorkspaceLimits(12, 3), digest_of)
