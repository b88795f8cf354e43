"""The stored form of a kept workspace: sealed, or as versions wrote it that sealed nothing; sans-IO.

Everything here may take long: it belongs in a thread.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from storage.errors import Damaged, WrongKey
from storage.files.format import checked_body, versioned_body, with_checksum
from storage.sealing.cipher import Cipher
from storage.workspaces.manifest import Blob, Bytes, Manifest, digest_of

KIND, BLOB_KIND = "workspace", "blob"
UNSEALED, SEALED = 1, 2
"""Versions of a stored manifest."""
PREFIX = "sealed-"
"""The first letters of a sealed blob's name; others are named by the SHA-256 of what they hold."""


class Form(Protocol):
    """The way in which the contents of one workspace are named and stored."""

    def name_of(self, parts: Iterable[Bytes]) -> str:
        """Return the name of what the parts are together."""

    def opened(self, name: str, stored: bytes) -> bytes:
        """Return a blob of that name as it was before it was stored. Raises Damaged, WrongKey."""


class UnsealedForm:
    """See Form. It is only read: the next save writes the sealed one."""

    def name_of(self, parts: Iterable[Bytes]) -> str:
        """See Form."""
        return digest_of(parts)

    def opened(self, name: str, stored: bytes) -> bytes:  # noqa: ARG002 - as it was
        """See Form. Damage shows by the names of contents."""
        return stored


class SealedForm:
    """See Form. Names and blobs depend on the key and the conversation, so that they confirm no guess."""

    def __init__(self, cipher: Cipher, conversation_id: str) -> None:
        self._cipher = cipher.derived(f"workspace {conversation_id}")
        self._hash = cipher.keyed_hash(f"contents {conversation_id}")
        self._key = _key(conversation_id)

    def name_of(self, parts: Iterable[Bytes]) -> str:
        """See Form."""
        digest = self._hash.copy()
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    def blob_name(self, parts: Iterable[Bytes]) -> str:
        """Return the name of a blob of these parts."""
        return PREFIX + self.name_of(parts)

    def sealed_blob(self, blob: Blob) -> bytes:
        """Return a blob as it is stored."""
        sealed = self._cipher.seal_bytes(b"".join(blob.parts), _place(BLOB_KIND, blob.name))
        return with_checksum(BLOB_KIND, sealed)

    def opened(self, name: str, stored: bytes) -> bytes:
        """See Form."""
        key = f"a blob of {self._key}"
        sealed = checked_body(BLOB_KIND, stored, key)
        return self._cipher.open_bytes(sealed, _place(BLOB_KIND, name), key)

    def sealed_manifest(self, manifest: Manifest) -> bytes:
        """Return a manifest as it is stored: the names of the blobs, then all of it, sealed."""
        blobs = json.dumps([*manifest.blobs])
        sealed = self._cipher.seal_bytes(manifest.encode(), _place(KIND, blobs))
        return with_checksum(KIND, blobs.encode() + b"\n" + sealed, SEALED)

    def opened_manifest(self, body: bytes) -> Manifest:
        """Return a manifest from a stored body. Raises Damaged, WrongKey."""
        blobs, _, sealed = body.partition(b"\n")
        place = _place(KIND, blobs.decode("utf-8", "replace"))
        return Manifest.decode(self._cipher.open_bytes(sealed, place, self._key), self._key)


class Stored(NamedTuple):
    """A manifest, and the form in which its contents are stored."""

    manifest: Manifest
    form: Form

    @property
    def is_sealed(self) -> bool:
        """Return whether nothing of it can be read without the key."""
        return isinstance(self.form, SealedForm)


def read_manifest(stored: bytes, conversation_id: str, cipher: Cipher | None) -> Stored:
    """Return a stored manifest; `cipher` is the storage's, None where nothing was sealed yet.

    Raises Damaged, NewerFormat, and WrongKey if the cipher is not the one it was sealed with.
    """
    key = _key(conversation_id)
    version, body = versioned_body(KIND, stored, key, SEALED)
    if version == UNSEALED:
        return Stored(Manifest.decode(body, key), UnsealedForm())
    if cipher is None:
        raise WrongKey(f"{key} is sealed, and there is no key")
    form = SealedForm(cipher, conversation_id)
    return Stored(form.opened_manifest(body), form)


def blobs_of(stored: bytes, conversation_id: str) -> frozenset[str]:
    """Return the names of a stored manifest's blobs, without a key. Raises Damaged, NewerFormat."""
    key = _key(conversation_id)
    version, body = versioned_body(KIND, stored, key, SEALED)
    if version == UNSEALED:
        return frozenset(Manifest.decode(body, key).blobs)
    try:
        names: Any = json.loads(body.partition(b"\n")[0])
        return frozenset(map(str, names))
    except (TypeError, ValueError) as error:
        raise Damaged(f"{key} cannot be read") from error


def is_sound(name: str, stored: bytes) -> bool:
    """Return whether a stored blob of that name is undamaged, as far as can be told without a key."""
    if not name.startswith(PREFIX):
        return digest_of([stored]) == name
    try:
        checked_body(BLOB_KIND, stored, name)
    except Damaged:
        return False
    return True


def _key(conversation_id: str) -> str:
    return f"the workspace of {conversation_id}"


def _place(kind: str, name: str) -> bytes:
    return json.dumps([kind, name]).encode()
