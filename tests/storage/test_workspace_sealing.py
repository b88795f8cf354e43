"""The stored form of a kept workspace: nothing of it can be read, guessed, altered or moved without the key."""

from datetime import UTC, datetime

import pytest

from storage.errors import Damaged, NewerFormat, WrongKey
from storage.files.format import with_checksum
from storage.sealing.cipher import Cipher, new_key
from storage.workspaces.manifest import BLOB_BYTES, Contents, Loaded, next_manifest
from storage.workspaces.sealing import (
    KIND,
    SEALED,
    SealedForm,
    blobs_of,
    is_sound,
    read_manifest,
)
from storage.workspaces.snapshot import USUAL_LIMITS, Snapshot

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
CIPHER = Cipher(new_key())
SNAPSHOT = Snapshot(
    files={"a planted path": b"a planted value", "long": b"x" * BLOB_BYTES},
    folders=frozenset({"a planted folder"}),
    own={"a planted record": b"another planted value"},
)


def sealed(snapshot=SNAPSHOT, conversation_id="c", cipher=CIPHER):
    """The stored manifest and blobs of a snapshot."""
    form = SealedForm(cipher, conversation_id)
    contents = Contents.of(snapshot, USUAL_LIMITS, form.name_of)
    change = next_manifest(contents, snapshot.folders, NOON, None, frozenset(), form.blob_name)
    assert change is not None
    blobs = {blob.name: form.sealed_blob(blob) for blob in change.blobs}
    return form.sealed_manifest(change.manifest), blobs


def loaded(manifest, blobs, conversation_id="c", cipher=CIPHER):
    stored = read_manifest(manifest, conversation_id, cipher)
    opened = {name: stored.form.opened(name, body) for name, body in blobs.items()}
    return stored.manifest.loaded(opened, stored.form.name_of)


def test_what_is_sealed_is_opened_with_the_same_key():
    manifest, blobs = sealed()

    assert loaded(manifest, blobs) == Loaded(SNAPSHOT)
    assert blobs_of(manifest, "c") == blobs.keys()
    assert all(is_sound(name, body) for name, body in blobs.items())


def test_neither_contents_nor_paths_nor_folders_stand_in_what_is_stored():
    manifest, blobs = sealed()

    stored = b"".join((manifest, *blobs.values(), *(name.encode() for name in blobs)))
    assert b"planted" not in stored


def test_names_confirm_no_guess_and_are_the_same_again_for_the_same_contents():
    _, blobs = sealed()
    _, again = sealed()
    _, elsewhere = sealed(conversation_id="d")
    _, by_another = sealed(cipher=Cipher(new_key()))

    assert blobs.keys() == again.keys()
    assert not blobs.keys() & (elsewhere.keys() | by_another.keys())


def test_another_key_or_none_says_so():
    manifest, blobs = sealed()

    with pytest.raises(WrongKey, match="the workspace of c was sealed with another key"):
        read_manifest(manifest, "c", Cipher(new_key()))
    with pytest.raises(WrongKey, match="the workspace of c is sealed, and there is no key"):
        read_manifest(manifest, "c", None)
    for name, body in blobs.items():
        with pytest.raises(WrongKey):
            SealedForm(Cipher(new_key()), "c").opened(name, body)


def test_nothing_can_be_moved_to_another_conversation_or_another_blob():
    manifest, blobs = sealed()
    (first, body), (second, _) = blobs.items()

    with pytest.raises(Damaged, match="altered or moved"):
        read_manifest(manifest, "d", CIPHER)
    with pytest.raises(Damaged, match="altered or moved"):
        SealedForm(CIPHER, "d").opened(first, body)
    with pytest.raises(Damaged, match="altered or moved"):
        SealedForm(CIPHER, "c").opened(second, body)


def test_the_names_of_blobs_that_stand_readable_in_a_manifest_cannot_be_altered():
    manifest, blobs = sealed()
    body = manifest.partition(b"\n")[2].replace(min(blobs).encode(), max(blobs).encode())

    with pytest.raises(Damaged, match="altered or moved"):
        read_manifest(with_checksum(KIND, body, SEALED), "c", CIPHER)


def test_every_altered_byte_is_noticed_with_the_key_and_without():
    snapshot = Snapshot(files={"a": b"1"})
    manifest, blobs = sealed(snapshot)
    ((name, blob),) = blobs.items()

    for position in range(len(manifest)):
        altered = bytearray(manifest)
        altered[position] ^= 1
        with pytest.raises(Damaged):
            read_manifest(bytes(altered), "c", CIPHER)
        with pytest.raises(Damaged):
            blobs_of(bytes(altered), "c")
    for position in range(len(blob)):
        altered = bytearray(blob)
        altered[position] ^= 1
        with pytest.raises(Damaged):
            SealedForm(CIPHER, "c").opened(name, bytes(altered))
        assert not is_sound(name, bytes(altered))


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"parley-workspace 1 00000000\n{}",
        b"parley-workspace 0 00000000\n",
        with_checksum(KIND, b"no json"),
        with_checksum(KIND, b"no json", SEALED),
        with_checksum(KIND, b"7\n", SEALED),
        with_checksum(KIND, b"[]\nshort", SEALED),
        with_checksum(KIND, b"\xff\n", SEALED),
    ],
)
def test_a_stored_manifest_that_cannot_be_read_is_damaged(stored):
    with pytest.raises(Damaged, match="the workspace of c"):
        read_manifest(stored, "c", CIPHER)


@pytest.mark.parametrize("version", [SEALED + 1, 17])
def test_a_manifest_of_a_newer_version_says_so(version):
    newer = with_checksum(KIND, b"?", version)

    with pytest.raises(NewerFormat, match=f"format {version}, this one reads {SEALED}"):
        read_manifest(newer, "c", CIPHER)
    with pytest.raises(NewerFormat):
        blobs_of(newer, "c")
