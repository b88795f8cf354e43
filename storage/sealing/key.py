"""The key that seals a storage: a configured one, or a file created when first needed."""

import asyncio
import os
import secrets
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from storage.errors import Unavailable, WrongKey
from storage.sealing.cipher import KEY_BYTES, Cipher, derive_key, new_key

KEY_NAME = "secret.key"
"""The key file's name in the data directory: 64 hex digits, readable by its owner only."""


class Key(Protocol):
    """The key a storage is sealed with."""

    async def for_reading(self) -> Cipher | None:
        """Return the cipher of what is stored; None if nothing was sealed yet.

        Raises WrongKey, Unavailable.
        """

    async def for_writing(self) -> Cipher:
        """Return the cipher, made if nothing was sealed before. Raises WrongKey, Unavailable."""


class KeyMark(ABC):
    """Stores, beside the sealed records, the id of their key."""

    @abstractmethod
    async def read(self) -> str | None:
        """Return the key's id; None if nothing was sealed yet. Raises Unavailable."""

    @abstractmethod
    async def claim(self, key_id: str) -> str:
        """Store a key's id unless there is one; return the stored one. Durable. Raises Unavailable."""


class SealingKey:
    """Gives the cipher of a storage, and makes its key at first need.

    Without a folder the key must be given.
    """

    def __init__(self, mark: KeyMark, folder: Path | None, given: SecretStr | None = None) -> None:
        self._mark = mark
        self._folder = folder
        self._given = given
        self._cipher: Cipher | None = None
        self._serial = asyncio.Lock()

    async def for_reading(self) -> Cipher | None:
        """Return the cipher of stored values; None if nothing was sealed yet.

        Raises WrongKey if the available key is a different one, or there is none.
        """
        if self._cipher is not None:
            return self._cipher
        async with self._serial:
            marked = await self._mark.read()
            if marked is not None and self._cipher is None:
                self._cipher = await asyncio.to_thread(
                    find_cipher, marked, self._folder, self._given
                )
            return self._cipher

    async def for_writing(self) -> Cipher:
        """Return the cipher, created if nothing was sealed before. Raises WrongKey, Unavailable."""
        cipher = await self.for_reading()
        if cipher is not None:
            return cipher
        async with self._serial:
            # The key is durable before anything says that it is in use.
            made = await asyncio.to_thread(_find_or_make, self._folder, self._given)
            marked = await self._mark.claim(made.key_id)
            self._cipher = _checked(made, marked, self._folder)
            return self._cipher


class EphemeralKey:
    """A key for a storage that ends with the process: made at once and written nowhere."""

    def __init__(self) -> None:
        self._cipher = Cipher(new_key())

    async def for_reading(self) -> Cipher | None:
        """Return the cipher."""
        return self._cipher

    async def for_writing(self) -> Cipher:
        """Return the cipher."""
        return self._cipher


def hand_over_key(source: Path, target: Path) -> bool:
    """Give a directory that has no key file a copy of another's; return whether there is one now.

    Durable. Raises OSError, WrongKey if the source's file holds no key. Blocks.
    """
    try:
        key = _read_key(source / KEY_NAME)
    except FileNotFoundError:
        return (target / KEY_NAME).exists()
    target.mkdir(parents=True, exist_ok=True)
    _keep_key(target / KEY_NAME, key)
    return True


def key_file_in(folder: Path) -> bytes | None:
    """Return the content of a directory's key file; None without one. Raise OSError. Block."""
    try:
        return (folder / KEY_NAME).read_bytes()
    except FileNotFoundError:
        return None


def keep_key_file(folder: Path, content: bytes) -> None:
    """Give a directory without a key file that one. Durable. Raises OSError, ValueError. Blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    _keep_key(folder / KEY_NAME, bytes.fromhex(content.decode("ascii")))


def key_id_of(given: SecretStr) -> str:
    """Return the id of a key that is given as a text; takes some 50 ms."""
    return Cipher(derive_key(given.get_secret_value())).key_id


def find_cipher(marked: str, folder: Path | None, given: SecretStr | None) -> Cipher:
    """Return the cipher with the key that `marked` names. Raises WrongKey, Unavailable. Blocks."""
    found = _find(folder, given)
    if found is None:
        raise WrongKey(f"the key of the stored secrets is missing: {_hint(folder)}")
    return _checked(found, marked, folder)


def _find(folder: Path | None, given: SecretStr | None) -> Cipher | None:
    if given is not None:
        return Cipher(derive_key(given.get_secret_value()))
    if folder is None:
        return None
    try:
        return Cipher(_read_key(folder / KEY_NAME))
    except FileNotFoundError:
        return None


def _find_or_make(folder: Path | None, given: SecretStr | None) -> Cipher:
    found = _find(folder, given)
    if found is not None:
        return found
    if folder is None:
        raise WrongKey("PARLEY_SECRET_KEY is not set, and there is no directory for a key file")
    path = folder / KEY_NAME
    try:
        _make_key(path)
    except OSError as error:
        raise Unavailable(f"cannot make {path.name}: {error.strerror}") from error
    return Cipher(_read_key(path))


def _checked(cipher: Cipher, marked: str, folder: Path | None) -> Cipher:
    if cipher.key_id != marked:
        raise WrongKey(f"the stored secrets were sealed with another key: {_hint(folder)}")
    return cipher


def _hint(folder: Path | None) -> str:
    if folder is None:
        return "PARLEY_SECRET_KEY must be as it was"
    path = folder / KEY_NAME
    return f"PARLEY_SECRET_KEY must be as it was, or unset and {path} the file it was"


def _read_key(path: Path) -> bytes:
    """Return a file's key. Raises FileNotFoundError, Unavailable, WrongKey if it holds none."""
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"cannot read {path.name}: {error.strerror}") from error
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise WrongKey(f"{path} does not hold a key of {2 * KEY_BYTES} hex digits")
    return key


def _make_key(path: Path) -> None:
    _keep_key(path, new_key())


def _keep_key(path: Path, key: bytes) -> None:
    """Create the file completely and durably, readable by its owner only; keep an existing one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
