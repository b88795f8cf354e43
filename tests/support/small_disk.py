"""A disk of a few megabytes, which can be filled: a file system in a mount namespace of its own."""

import errno
import subprocess
from pathlib import Path

MOUNT = 'mount -t tmpfs -o "$2" tmpfs "$1" && echo mounted && exec cat'
BLOCK_BYTES = 1024 * 1024
PAGE_BYTES = 4096
NEEDED = (
    "a full disk cannot be tried here, since no file system can be mounted: run the tests as root,"
    " with the capability CAP_SYS_ADMIN"
)


class SmallDisk:
    """A file system over a folder, for those who are `within`; it is gone when it is closed."""

    def __init__(self, folder: Path, megabytes: int, owner: int) -> None:
        folder.mkdir()
        options = f"size={megabytes}m,mode=0700,uid={owner}"
        self._keeper = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", MOUNT, "sh", str(folder), options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stderr is not None
        told = self._keeper.stdout.readline()
        assert told == b"mounted\n", f"{NEEDED}: {self._keeper.stderr.read().decode()}"
        self._filler = Path(f"/proc/{self._keeper.pid}/root{folder}/filler")

    @property
    def within(self) -> list[str]:
        """Return the beginning of a command that is to see the file system."""
        return ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt"]

    def fill(self) -> None:
        """Leave not a page of it free."""
        size = BLOCK_BYTES
        with self._filler.open("wb", buffering=0) as filler:
            while size >= PAGE_BYTES:
                try:
                    filler.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def make_room(self) -> None:
        """Free what `fill` took."""
        self._filler.unlink()

    def close(self) -> None:
        """Let go of it, when nobody is within any more."""
        self._keeper.communicate()
