"""Objects of a bucket by key: the edge to obstore, whose errors and waits end here."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple, cast
from uuid import uuid4

import obstore
from obstore import exceptions as driver
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from storage.errors import (
    Conflict,
    KeyNotFound,
    NotPermitted,
    OutcomeUnknown,
    StorageError,
    Unavailable,
    UnfitMedium,
)

ATTEMPT_SECONDS = 3.0
"""Seconds one request may take, besides those for its bytes."""
SECONDS_PER_BYTE = 1.0 / 2**20
BYTES_PER_KEY = 4_096
"""A deletion of many takes as long as a write of so many bytes for each."""
REQUESTS_AT_ONCE = 64
LIST_CHUNK = 1_000
"""Keys of one request for a list, which no service exceeds."""
CLIENT_OPTIONS = frozenset(
    {"allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate"}
    | {"proxy_excludes", "root_certificate", "user_agent"}
)
"""Options of a bucket that concern the connection instead of the service."""
_STATUS = re.compile(r"status(?: code)?:? ?\"?(\d{3})\b", re.IGNORECASE)

Bucket = S3Store | GCSStore | AzureStore


class Found(NamedTuple):
    """An object's bytes, and the tag of that version of it."""

    body: bytes
    e_tag: str


def open_bucket(url: str, options: Mapping[str, str | bool], folder: str) -> Bucket:
    """Return the objects below `folder` of a bucket's URL. Ask nobody.

    Nothing is repeated by the driver: of a write that was sent twice nobody could say which one
    met its condition. Raises NotPermitted for a URL or an option that the driver does not know.
    """
    client: dict[str, Any] = {
        name: value for name, value in options.items() if name in CLIENT_OPTIONS
    }
    config = {name: value for name, value in options.items() if name not in CLIENT_OPTIONS}
    if str(config.get("endpoint", "")).startswith("http://"):
        client.setdefault("allow_http", True)
    # The waits of this module come first; these end what was given up.
    client |= {
        "timeout": timedelta(minutes=5),
        "connect_timeout": timedelta(seconds=ATTEMPT_SECONDS),
    }
    try:
        opened = from_url(
            f"{url.rstrip('/')}/{folder}",
            config=cast(Any, config),
            client_options=cast(Any, client),
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=ATTEMPT_SECONDS)},
        )
    except (driver.BaseError, ValueError, TypeError) as error:
        kind = type(error).__name__
    else:
        if isinstance(opened, S3Store | GCSStore | AzureStore):
            return opened
        kind = "no bucket of S3, Google Cloud Storage or Azure"
    # Outside the handler: what the driver says may quote the options.
    names = ", ".join(sorted(options)) or "none"
    raise NotPermitted(f"cannot use cloud_url with the cloud_options {names}: {kind}")


class Objects:
    """The objects of a bucket. Every call sends its requests once, each within its time.

    A failed call raises NotPermitted when the service refuses this server, and Unavailable when it
    did not answer.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        attempt_seconds: float = ATTEMPT_SECONDS,
        requests_at_once: int = REQUESTS_AT_ONCE,
    ) -> None:
        self._bucket = bucket
        self._seconds = attempt_seconds
        self._slots = asyncio.Semaphore(requests_at_once)

    async def get(self, key: str) -> Found:
        """Return an object. Raises KeyNotFound."""
        async with self._asking(key):
            result = await obstore.get_async(self._bucket, key)
            return Found(bytes(await result.bytes_async()), result.meta["e_tag"] or "")

    async def e_tag(self, key: str) -> str:
        """Return the tag of an object's version. Raises KeyNotFound."""
        async with self._asking(key):
            return (await obstore.head_async(self._bucket, key))["e_tag"] or ""

    async def put(self, key: str, body: bytes, expected: str | None) -> str:
        """Put an object in place of the version with that tag, or where there is none; its new tag.

        Raises Conflict when another version was found, or none; OutcomeUnknown when it is not known
        whether the request arrived, and may do so later.
        """
        mode: Any = "create" if expected is None else {"e_tag": expected}
        async with self._changing(key, len(body)):
            try:
                result = await obstore.put_async(
                    self._bucket, key, body, mode=mode, use_multipart=False
                )
            except FileNotFoundError:
                missing = expected is not None
            else:
                return result["e_tag"] or ""
        if missing:
            raise Conflict(f"{key} is not there any more")
        raise NotPermitted("the bucket does not exist")

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, ignoring absent ones. Raises OutcomeUnknown."""
        try:
            async with self._changing(keys[0], len(keys) * BYTES_PER_KEY):
                try:
                    await obstore.delete_async(self._bucket, list(keys))
                except FileNotFoundError:
                    absent = True
                else:
                    return
        except Conflict:
            # A deletion has no condition: it met another request.
            raise OutcomeUnknown("two requests met") from None
        # Some services call it an error, and leave out the rest.
        if absent and len(keys) > 1:
            await asyncio.gather(*(self.delete([key]) for key in keys))

    async def keys(self, folder: str, *, only_first: bool = False) -> list[str]:
        """Return the keys below a folder, or all for "", in no order; or only some of them."""
        found: list[str] = []
        batches = aiter(obstore.list(self._bucket, folder or None, chunk_size=LIST_CHUNK))
        while True:
            async with self._asking(folder):
                try:
                    batch = await anext(batches)
                except StopAsyncIteration:
                    return found
            found += [one["path"] for one in batch]
            if only_first and found:
                return found

    @asynccontextmanager
    async def _asking(self, key: str) -> AsyncIterator[None]:
        """Translate the errors of a read, which changes nothing and may be repeated."""
        async with self._slots:
            try:
                async with asyncio.timeout(self._seconds):
                    yield
            except FileNotFoundError:
                failure: Exception = KeyNotFound(key)
            except TimeoutError:
                failure = Unavailable("the object store did not answer in time")
            except (driver.BaseError, OSError) as error:
                failure = _refusal(error) or Unavailable(_text_of(error))
            else:
                return
        # Without its cause: the driver quotes addresses, and those may contain credentials.
        raise failure from None

    @asynccontextmanager
    async def _changing(self, key: str, size: int) -> AsyncIterator[None]:
        """Translate the errors of a write, of which some leave open whether it happens."""
        async with self._slots:
            try:
                async with asyncio.timeout(self._seconds + size * SECONDS_PER_BYTE):
                    yield
            except (driver.AlreadyExistsError, driver.PreconditionError):
                failure: Exception = Conflict(f"{key} is not as expected")
            except TimeoutError:
                failure = OutcomeUnknown("the object store did not answer in time")
            except (driver.BaseError, OSError) as error:
                failure = _refusal(error) or OutcomeUnknown(_text_of(error))
            else:
                return
        raise failure from None


async def check_conditions(objects: Objects) -> None:
    """Refuse a service that ignores what writes depend on. It writes an object and deletes it.

    Raises UnfitMedium, and what the calls raise.
    """
    key = f"probe-{uuid4().hex}"
    try:
        e_tag = await objects.put(key, b"first", None)
        await _refused(objects.put(key, b"second", None), "creates an object that is there already")
        newer = await objects.put(key, b"third", e_tag)
        await _refused(objects.put(key, b"fourth", e_tag), "replaces an object by a stale tag")
        if await objects.get(key) != Found(b"third", newer) or key not in await objects.keys(""):
            raise UnfitMedium("the object store does not show what was written last")
    finally:
        with suppress(StorageError):
            await objects.delete([key])


async def _refused(write: Awaitable[str], fault: str) -> None:
    try:
        await write
    except Conflict:
        return
    raise UnfitMedium(f"the object store ignores conditions: it {fault}")


class BlockingObjects:
    """The objects of a bucket for a thread that may block."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def names(self) -> list[str]:
        """Return the names of all objects, in order. Raises Unavailable, NotPermitted."""
        try:
            return sorted(one["path"] for batch in self._batches() for one in batch)
        except (driver.BaseError, OSError) as error:
            failure = _refusal(error) or Unavailable(_text_of(error))
        raise failure

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, None where there is none. Raises Unavailable, NotPermitted."""
        try:
            return bytes(obstore.get(self._bucket, key).bytes())
        except FileNotFoundError:
            return None
        except (driver.BaseError, OSError) as error:
            failure = _refusal(error) or Unavailable(_text_of(error))
        raise failure

    def _batches(self) -> Iterator[Sequence[Any]]:
        return iter(obstore.list(self._bucket, chunk_size=LIST_CHUNK))


def _refusal(error: Exception) -> NotPermitted | None:
    """Return why the service will answer so again, if it will."""
    match error, _status_in(error):
        case (driver.PermissionDeniedError(), _) | (_, "403"):
            return NotPermitted("the object store refuses these credentials this (403)")
        case (driver.UnauthenticatedError(), _) | (_, "401"):
            return NotPermitted("the object store does not accept these credentials (401)")
        case _, "404":
            return NotPermitted("the bucket does not exist (404)")
        case (driver.NotSupportedError() | driver.InvalidPathError(), _):
            return NotPermitted(f"the object store cannot do this: {type(error).__name__}")
        case _:
            return None


def _text_of(error: Exception) -> str:
    """Return the status an error tells; its text may quote addresses and credentials."""
    status = _status_in(error)
    return f"the object store answered {status}" if status else "the object store did not answer"


def _status_in(error: Exception) -> str | None:
    found = _STATUS.search(str(error))
    return found[1] if found else None
