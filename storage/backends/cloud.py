"""The back-end of files in a bucket of an object store; needs the extra `cloud`."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr, TypeAdapter, ValidationError

from storage.backends.base import Backend, OpenedFiles, check_format
from storage.backends.local import LocalBackend, open_stores
from storage.config import CloudStorage, LocalStorage
from storage.conversations.listing import Listing
from storage.errors import (
    Damaged,
    ForeignData,
    NotPermitted,
    OutcomeUnknown,
    StorageError,
    Unavailable,
)
from storage.files.cloud import MARK, CloudFileStore, Pauses, content_of
from storage.files.format import FORMAT_KEY
from storage.files.lease import BEATS, Lease
from storage.files.objects import BlockingObjects, Objects, check_conditions, open_bucket
from storage.inventory import Inventory, StorageReport, Track, untracked
from storage.keys import FILES_NAME, RECORDS
from storage.sealing.key import SealingKey
from storage.users.file import FileKeyMark

READS_AT_ONCE = 16
"""Objects that a check reads at the same time."""
LEASE_NAME = "lease"
"""The folder beside the files that holds the lease, and for a moment what a probe writes."""
TRIES = 6
"""Times a start asks a service that does not answer."""
OPTIONS = TypeAdapter(dict[str, str | bool])


class CloudBackend(Backend):
    """See Backend. Two folders lie below the URL: the files, and the lease on them."""

    kind = "cloud"

    def __init__(self, config: CloudStorage) -> None:
        self._config = config
        self.secret_key = config.secret_key

    @property
    def identity(self) -> CloudStorage:
        """See Backend."""
        return CloudStorage(url=self._config.url.rstrip("/"), secret_key=SecretStr(""))

    async def open(self, stack: AsyncExitStack) -> OpenedFiles:
        """See Backend. Raises UnfitMedium, and BucketInUse while another process holds the lease."""
        url, options, seconds = self._config.url, self._options(), self._config.lease_seconds
        beside = open_bucket(url, options, LEASE_NAME)
        try:
            await _with_patience(partial(check_conditions, Objects(beside)))
        except StorageError as error:
            raise type(error)(f"cannot use {url}: {error}") from error
        lease = Lease(Objects(beside, attempt_seconds=seconds / BEATS), seconds=seconds)
        files = CloudFileStore(Objects(open_bucket(url, options, FILES_NAME)), lease)
        stack.push_async_callback(lease.release)
        await lease.take(files.lose)
        stack.push_async_callback(files.close)
        await check_format(files)
        key = SealingKey(FileKeyMark(files), None, self.secret_key)
        return await open_stores(files, key, partial(CloudInventory, url), stack)

    async def open_to_read(self, stack: AsyncExitStack) -> OpenedFiles:
        """See Backend. The lease is left to whoever holds it. Raises ForeignData where nothing is."""
        url = self._config.url
        files = CloudFileStore(Objects(open_bucket(url, self._options(), FILES_NAME)))
        stack.push_async_callback(files.close)
        files.lose("the bucket was opened to be read only")
        if not await files.exists(FORMAT_KEY):
            raise ForeignData(f"there is no data of this server in {url}")
        await check_format(files)
        key = SealingKey(FileKeyMark(files), None, self.secret_key)
        inventory = partial(CloudInventory, url)
        return await open_stores(files, key, inventory, stack, is_read_only=True)

    def describe(self) -> str:
        """See Backend."""
        try:
            keys = self._stored().keys()
        except StorageError as error:
            return str(error)
        if not keys:
            return f"no data in {self._config.url} yet"
        records = sum(key.startswith(RECORDS) for key in keys)
        return f"ok, {records} records of conversations in {self._config.url}"

    def check(self, track: Track = untracked) -> list[str]:
        """See Backend."""
        with self.at_hand(track) as copy:
            return copy.check(track)

    @contextmanager
    def at_hand(self, track: Track = untracked) -> Iterator[Backend]:
        """See Backend. A copy in a temporary folder, of a storage that nobody is working on."""
        stored = self._stored()
        keys = stored.keys()
        with (
            TemporaryDirectory(prefix="parley-check-") as folder,
            ThreadPoolExecutor(READS_AT_ONCE) as readers,
        ):
            contents = readers.map(stored.read, keys)
            for key, content in track(zip(keys, contents, strict=True), "download", len(keys)):
                path = Path(folder, FILES_NAME, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                if content is not None:
                    path.write_bytes(content)
            yield LocalBackend(LocalStorage(data_dir=Path(folder), secret_key=self.secret_key))

    def _options(self) -> Mapping[str, str | bool]:
        options = self._config.options
        if options is None:
            return {}
        try:
            return OPTIONS.validate_json(options.get_secret_value())
        except ValidationError:
            pass
        raise NotPermitted("cloud_options is no JSON object of texts")

    def _stored(self) -> "StoredFiles":
        return StoredFiles(self._config.url, self._options())


async def _with_patience(probe: Callable[[], Awaitable[None]]) -> None:
    """Try a probe again while the service does not answer, as one that is starting too."""
    pauses = Pauses()
    for _ in range(TRIES - 1):
        try:
            return await probe()
        except NotPermitted:
            raise
        except (OutcomeUnknown, Unavailable):
            await pauses.wait()
    return await probe()


class StoredFiles:
    """The files of a bucket for threads that may block. Calls raise NotPermitted, Unavailable."""

    def __init__(self, url: str, options: Mapping[str, str | bool]) -> None:
        self._objects = BlockingObjects(open_bucket(url, options, FILES_NAME))

    def keys(self) -> list[str]:
        """Return the keys of all files, in order."""
        names = [name for name in self._objects.names() if name.endswith(MARK)]
        return sorted(name.removesuffix(MARK) for name in names)

    def read(self, key: str) -> bytes | None:
        """Return a file's content, empty if it is cut short; None if it has gone."""
        body = self._objects.get(key + MARK)
        try:
            return None if body is None else content_of(key, body)
        except Damaged:
            return b""


class CloudInventory(Inventory):
    """Of files in a bucket; counting and reading all of them would be a bill."""

    def __init__(self, url: str, listing: Listing) -> None:
        super().__init__()
        self._url = url
        self._listing = listing

    async def take(self, *, check: bool = False) -> StorageReport:  # noqa: ARG002 - see above
        """See Inventory."""
        return StorageReport(medium="cloud", place=self._url, conversations=len(self._listing))
