"""Seals values and bodies with AES-256-GCM, bound to their locations; sans-IO."""

import hashlib
import hmac
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import Damaged, WrongKey

KEY_BYTES = 32
KEY_ID_BYTES = 8
NONCE_BYTES = 12
FORMAT = b"\x01"

_HEAD = len(FORMAT) + KEY_ID_BYTES
_SALT = b"parley secret key 1"


class SecretLocation(NamedTuple):
    """The location of a sealed value; it can be decrypted only for this location."""

    user_id: str | None
    record: str
    name: str

    def associated_data(self) -> bytes:
        """Return the location as bytes, different for every other location."""
        return json.dumps(self).encode()


class Cipher:
    """Seals and opens values with one key. It never shows the key.

    A sealed body is a format byte, 8 bytes that name the key, 12 bytes of nonce, ciphertext and tag; a
    sealed value is that in base64url. Nonces are random: a key is good for 2**32 of them.
    """

    def __init__(self, key: bytes, key_id: str | None = None) -> None:
        self._aead = AESGCM(key)
        self._mac = hmac.new(key, digestmod="sha256")
        digest = hashlib.sha256(b"parley key id 1" + key).digest()
        self.key_id = key_id or digest[:KEY_ID_BYTES].hex()

    def __repr__(self) -> str:
        return f"Cipher(key_id={self.key_id!r})"

    def derived(self, purpose: str) -> "Cipher":
        """Return a cipher of its own for a purpose; it names the key that it is derived from."""
        return Cipher(self._secret(f"cipher {purpose}"), self.key_id)

    def keyed_hash(self, purpose: str) -> hmac.HMAC:
        """Return a new keyed hash for a purpose: its digests tell nothing to those without the key."""
        return hmac.new(self._secret(f"hash {purpose}"), digestmod="sha256")

    def seal(self, value: str, place: SecretLocation) -> str:
        """Encrypt a value for its location; the result differs each time."""
        sealed = self.seal_bytes(value.encode(), place.associated_data())
        return urlsafe_b64encode(sealed).decode()

    def open(self, sealed: str, place: SecretLocation) -> str:
        """Decrypt a result of `seal` for the same location.

        Raises WrongKey if another key sealed it, Damaged if it was altered or belongs to another
        location.
        """
        name = f"the sealed value {place.name}"
        try:
            raw = urlsafe_b64decode(sealed.encode("ascii"))
        except ValueError as error:
            raise Damaged(f"{name} cannot be read") from error
        return self.open_bytes(raw, place.associated_data(), name).decode()

    def seal_bytes(self, body: bytes, place: bytes) -> bytes:
        """Encrypt a body for a location; the result differs each time."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, body, place)
        return b"".join((FORMAT, bytes.fromhex(self.key_id), nonce, sealed))

    def open_bytes(self, sealed: bytes, place: bytes, name: str) -> bytes:
        """Decrypt a result of `seal_bytes` for the same location.

        Raises WrongKey and Damaged as `open` does, in words that begin with `name`.
        """
        if sealed[: len(FORMAT)] != FORMAT or len(sealed) < _HEAD + NONCE_BYTES:
            raise Damaged(f"{name} has an unknown format")
        if sealed[len(FORMAT) : _HEAD].hex() != self.key_id:
            raise WrongKey(f"{name} was sealed with another key")
        nonce, body = sealed[_HEAD : _HEAD + NONCE_BYTES], sealed[_HEAD + NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, place)
        except InvalidTag as error:
            raise Damaged(f"{name} was altered or moved") from error

    def _secret(self, label: str) -> bytes:
        mac = self._mac.copy()
        mac.update(b"parley derived key 1 " + label.encode("utf-8", "surrogatepass"))
        return mac.digest()


def new_key() -> bytes:
    """Return a random key."""
    return AESGCM.generate_key(8 * KEY_BYTES)


def derive_key(text: str) -> bytes:
    """Return the key for a passphrase; takes some 50 ms, so that guessing is slow."""
    return hashlib.scrypt(text.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=KEY_BYTES)
