"""Seals single values with AES-256-GCM, bound to their user, record and name; sans-IO."""

import hashlib
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

    A sealed value is base64url of format byte, 8 bytes that name the key, 12 bytes of nonce,
    ciphertext and tag. Nonces are random: a key is good for 2**32 values.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        digest = hashlib.sha256(b"parley key id 1" + key).digest()
        self.key_id = digest[:KEY_ID_BYTES].hex()

    def __repr__(self) -> str:
        return f"Cipher(key_id={self.key_id!r})"

    def seal(self, value: str, place: SecretLocation) -> str:
        """Encrypt a value for its location; the result differs each time."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, value.encode(), place.associated_data())
        return urlsafe_b64encode(FORMAT + bytes.fromhex(self.key_id) + nonce + sealed).decode()

    def open(self, sealed: str, place: SecretLocation) -> str:
        """Decrypt a result of `seal` for the same location.

        Raises WrongKey if another key sealed it, Damaged if it was altered or belongs to another
        location.
        """
        try:
            raw = urlsafe_b64decode(sealed.encode("ascii"))
        except ValueError as error:
            raise Damaged(f"the sealed value {place.name} cannot be read") from error
        if raw[: len(FORMAT)] != FORMAT or len(raw) < _HEAD + NONCE_BYTES:
            raise Damaged(f"the sealed value {place.name} has an unknown format")
        if raw[len(FORMAT) : _HEAD].hex() != self.key_id:
            raise WrongKey(f"the value {place.name} was sealed with another key")
        nonce, body = raw[_HEAD : _HEAD + NONCE_BYTES], raw[_HEAD + NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, place.associated_data()).decode()
        except InvalidTag as error:
            raise Damaged(f"the sealed value {place.name} was altered or moved") from error


def new_key() -> bytes:
    """Return a random key."""
    return AESGCM.generate_key(8 * KEY_BYTES)


def derive_key(text: str) -> bytes:
    """Return the key for a passphrase; takes some 50 ms, so that guessing is slow."""
    return hashlib.scrypt(text.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=KEY_BYTES)
