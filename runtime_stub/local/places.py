"""Directories of workspaces on this machine, each with a user of its own where the server is root."""

import errno
import logging
import os
import pwd
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.local.files import User
from runtime_stub.local.keeper import lock

logger = logging.getLogger(__name__)

PRIVATE = 0o700
PASSABLE = 0o711
"""The mode of directories that everybody may pass through, and nobody list."""
LOCK = ".lock"
REMOVED = ".removed-"
"""The beginning of the names of directories that are being removed."""
ASIDE = "aside-"
"""The beginning of the names that earlier files of a workspace get, beside it."""
MOST_ASIDE = 3
REMOVAL_SECONDS = 60.0
"""Seconds for removing directories from the disk; what is left is removed at a later start."""
GIT_SETTINGS = """\
[init]
	defaultBranch = main
[user]
	name = Agent
	email = agent@localhost
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one conversation: its workspace, a home and a folder for temporary files."""

    directory: str
    user: User | None

    @property
    def root(self) -> str:
        """The workspace."""
        return f"{self.directory}/workspace"

    @property
    def home(self) -> str:
        """The home of commands, which is not shown as part of the workspace."""
        return f"{self.directory}/home"

    @property
    def temporary(self) -> str:
        """Where commands and the server put what they need for a while."""
        return f"{self.directory}/tmp"  # noqa: S108 - below a private directory

    @property
    def restoring(self) -> str:
        """The file that is there from when a snapshot is written to the workspace until it is used."""
        return f"{self.directory}/restoring"

    @property
    def lineage(self) -> str:
        """The file that names the snapshots of the workspace."""
        return f"{self.directory}/lineage"


class Places:
    """The directories below one folder. Every method blocks and raises RuntimeUnavailable."""

    def __init__(self, folder: Path, uids: range) -> None:
        self._folder = folder
        self._uids = uids if os.geteuid() == 0 else None

    def check(self) -> None:
        """Raise RuntimeUnavailable if users of workspaces cannot pass through to their directories."""
        if self._uids is None:
            return
        for path in (self._folder.absolute(), *self._folder.absolute().parents):
            if path.exists() and not path.stat().st_mode & stat.S_IXOTH:
                raise RuntimeUnavailable(
                    f"the users of workspaces cannot pass through {path}: set local_dir to another"
                    " directory, or let everybody pass (chmod o+x)"
                )

    def prepare(self, name: str) -> Place:
        """Return the directory of a conversation, made where it is missing, its user with it."""
        _check_name(name)
        try:
            with self._locked() as folder:
                return self._prepared(folder, name)
        except OSError as error:
            hint = ""
            if self._uids is not None and error.errno in (errno.EPERM, errno.EINVAL):
                hint = "; the users of local_uids may not exist here"
            raise RuntimeUnavailable(
                f"the directory of the workspace cannot be made: {error.strerror}{hint}"
            ) from error

    def remove(self, name: str) -> None:
        """Remove a conversation's directory, if there is one; what is left is removed at a start."""
        _check_name(name)
        try:
            # Its user is not given to another one before all of it is gone. Where all have the
            # server's, a command may hold the lock, and it is not needed.
            with self._locked() if self._uids is not None else nullcontext(self._folder) as folder:
                removed = folder / f"{REMOVED}{secrets.token_hex(8)}"
                (folder / name).rename(removed)
            self._erase([removed])
        except FileNotFoundError:
            return
        except OSError as error:
            raise RuntimeUnavailable(
                f"the directory of the workspace cannot be removed: {error.strerror}"
            ) from error

    def set_aside(self, place: Place, name: str) -> None:
        """Give the workspace's folder another name, and make a new one; drop the oldest beyond a few.

        A kill in between leaves no workspace: `prepare` makes one.
        """
        try:
            aside = Path(place.root).rename(f"{place.directory}/{name}")
            _make_root(place)
            # By their names; the new one stays whatever the clock says.
            earlier = sorted(set(Path(place.directory).glob(f"{ASIDE}*")) - {aside})
            self._drop(earlier[: 1 - MOST_ASIDE])
        except OSError as error:
            raise RuntimeUnavailable(
                f"the workspace cannot be set aside: {error.strerror}"
            ) from error

    def clear(self, place: Place) -> None:
        """Have the workspace be empty, as it was before a snapshot was written to it."""
        try:
            self._drop([Path(place.root)])
            _make_root(place)
        except OSError as error:
            raise RuntimeUnavailable(
                f"the workspace cannot be emptied: {error.strerror}"
            ) from error

    def _drop(self, paths: Sequence[Path]) -> None:
        removed = [self._folder / f"{REMOVED}{secrets.token_hex(8)}" for _ in paths]
        for path, target in zip(paths, removed, strict=True):
            path.rename(target)
        self._erase(removed)

    def sweep(self) -> None:
        """Remove what earlier removals have left; a failure is logged."""
        try:
            with self._locked() as folder:  # in which nobody is about to make one
                left = [*folder.glob(f"{REMOVED}*")]
        except OSError:
            logger.warning("workspaces that were removed may still be on the disk")
            return
        self._erase(left)

    def _erase(self, removed: Sequence[Path]) -> None:
        """Remove directories from the disk, each whatever becomes of the others; log what is left."""
        due = time.monotonic() + REMOVAL_SECONDS
        for path in removed:
            # Not by Python: these go to any depth, and no link that appears meanwhile leads them away.
            if self._uids is None:  # commands may have closed it to their user
                _run(due, "/bin/chmod", "-R", "u+rwX", "--", str(path))
            _run(due, "/bin/rm", "-rf", "--", str(path))
        left = sum(os.path.lexists(path) for path in removed)
        if left:
            logger.warning("%d removed workspaces are still on the disk", left)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """Hold the folder alone, also among processes; made where it is missing."""
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
            self._folder.chmod(PASSABLE)
            self.check()
        descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(descriptor)
            # What is a link on the way is one no more in what commands are told.
            yield self._folder.resolve()
        finally:
            os.close(descriptor)

    def _prepared(self, folder: Path, name: str) -> Place:
        place = Place(str(folder / name), None)
        if not Path(place.directory).exists():
            self._make(folder, place)
        if self._uids is None:
            for path in (place.root, place.home, place.temporary):
                # Its commands are this user's, and may have removed it.
                Path(path).mkdir(mode=PRIVATE, exist_ok=True)
            found = os.lstat(place.root)
            if found.st_uid != os.geteuid():
                raise RuntimeUnavailable(
                    f"the workspace belongs to the user {found.st_uid}, not to the server's"
                )
            _open_all(place)
            return place
        found = os.lstat(place.home)
        if found.st_uid not in self._uids:
            raise RuntimeUnavailable(
                f"the workspace belongs to the user {found.st_uid}, which is not among the"
                " users for workspaces (local_uids)"
            )
        place = Place(place.directory, User(found.st_uid, found.st_gid))
        if not os.path.lexists(place.root):  # the server was killed while it set that aside
            _make_root(place)
        _open_all(place)
        return place

    def _make(self, folder: Path, place: Place) -> None:
        """Make a directory with all that belongs to it, or nothing.

        The directory itself stays the server's: commands cannot put another one in its place, nor
        remove what is directly in it.
        """
        draft = Place(str(folder / f"{REMOVED}{secrets.token_hex(8)}"), None)
        Path(draft.directory).mkdir(mode=PRIVATE)
        inside = [Path(path) for path in (draft.root, draft.home, draft.temporary)]
        for path in inside:
            path.mkdir(mode=PRIVATE)
        settings = Path(draft.home, ".gitconfig")
        settings.write_text(GIT_SETTINGS)
        if self._uids is not None:
            uid = self._free_uid(folder)
            for path in (settings, *inside):
                os.chown(path, uid, uid)
            Path(draft.directory).chmod(PASSABLE)
        Path(draft.directory).rename(place.directory)

    def _free_uid(self, folder: Path) -> int:
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        for path in folder.iterdir():
            with suppress(OSError):
                taken.add(os.lstat(path).st_uid)
                if os.lstat(path).st_uid == os.geteuid():
                    taken.update(os.lstat(inside).st_uid for inside in path.iterdir())
        uids = self._uids or range(0)
        # Servers of one machine begin at different ones, so that they seldom meet.
        first = int.from_bytes(sha256(os.fsencode(folder)).digest()[:4]) % max(1, len(uids))
        for uid in chain(uids[first:], uids[:first]):
            if uid not in taken:
                return uid
        raise RuntimeUnavailable("every user for workspaces is taken (local_uids)")


def _check_name(name: str) -> None:
    """Raise RuntimeUnavailable for a conversation's id that names no directory of its own."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise RuntimeUnavailable("no directory can have the name of this conversation")


def _run(due: float, *command: str) -> None:
    """Run a program on a path of our own until then; the path tells what it has not done."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - the paths are our own
            command,
            check=False,
            timeout=max(0.0, due - time.monotonic()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={},
        )


def _make_root(place: Place) -> None:
    """Make the folder of a workspace, whole, where there is none. Raises OSError."""
    draft = Path(place.directory, "workspace.draft")
    draft.mkdir(mode=PRIVATE, exist_ok=True)
    if place.user is not None:
        os.chown(draft, *place.user)
    draft.rename(place.root)


def _open_all(place: Place) -> None:
    """Let the user of a place into its folders, which a command may have closed. Raises OSError."""
    for path in (place.root, place.home, place.temporary):
        folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            mode = stat.S_IMODE(os.fstat(folder).st_mode)
            if mode & PRIVATE != PRIVATE:
                Path(f"/proc/self/fd/{folder}").chmod(mode | PRIVATE)
        finally:
            os.close(folder)
