"""The keeper of one conversation's processes: a program of its own, started by `processes`.

It runs shells, bounds what they and their descendants use, and ends all of them when they use too
much, when it is told to, or when its socket ends, which it does as well when the server is killed.
As a child subreaper it is the parent of every descendant whose own parent has gone, so that none
leaves its tree. It needs nothing but the standard library of Linux, imports nothing of the
server and holds nothing of it: neither its environment nor a descriptor of it.

A frame, in both directions: the lengths of both parts, an object as JSON, bytes.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import resource
import selectors
import signal
import socket
import stat
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from typing import Any, NamedTuple, NoReturn

LENGTHS = struct.Struct(">II")
WATCH_SECONDS = 0.25
"""Seconds between two looks at the processes, while there are any."""
DISK_SHARE = 20
"""The directory is looked at as often, if that takes at most one part of so many of the time."""
MOST_BEYOND = 10_000
"""Entries beyond twice the bound with which no command is started any more."""
TERM_SECONDS = 0.3
"""Seconds a process may take to end after SIGTERM."""
KILL_SECONDS = 3.0
"""Seconds in which what was killed must be gone."""
END_SECONDS = 30.0
"""Seconds in which that must be so at the end of the keeper itself, after which nobody else sees to it."""
LOCK_SECONDS = 10.0
"""Seconds to wait for a lock: of a user whose earlier keeper is about to end, of directories in use."""
ROUND_SECONDS = 0.002
DEEPEST = 100
"""Folders within each other that are looked into."""
UNCOUNTABLE_SECONDS = 2.0
"""Seconds for which a part of the directory may be uncountable, as tests make folders that cannot be read."""
CHUNK = 64 * 1024
FOLDER_FD = 198
"""The descriptor to which a shell writes where it ends; a script seldom uses it."""
LONGEST_FOLDER = 8192
CLAIMS = "/run/parley-users"
"""Holds a file for each user of a workspace, locked by the keeper that has it."""
LEAST_UID = 1000
"""Users below this are the system's, and commands never run as one."""
OOM_SCORE = 500
NICENESS = 5
NOT_STARTED = 126
KILLED = 128 + signal.SIGKILL
IGNORED_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
"""Those that a command could end or stop this program by, if it has the same user."""
RESTORED_SIGNALS = (IGNORED_SIGNALS | {signal.SIGCHLD}) - {signal.SIGXFSZ}
"""Those that a shell has as a new program expects them.

SIGXFSZ it ignores, as Python does: what writes too much gets an error, and goes on.
"""
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
IPC_RMID = 0

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process. Raises OSError."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Limits(NamedTuple):
    """The bounds of one conversation's processes; `check` names the ones that are exceeded."""

    processes: int
    """Processes and threads together."""
    memory_bytes: int
    """Of one process, and of all together."""
    cpu_seconds: int
    """Of one process."""
    file_bytes: int
    open_files: int
    disk_bytes: int
    disk_entries: int
    output_bytes: int
    """Of one command."""


class Process(NamedTuple):
    """A process as it was looked at; `pid` and `start` together are never used again."""

    pid: int
    start: int
    parent: int
    session: int
    state: str
    threads: int
    memory_bytes: int

    @property
    def identity(self) -> tuple[int, int]:
        """What tells it from a later process with its number."""
        return self.pid, self.start


class Usage(NamedTuple):
    """What a directory takes; `uncountable` says why not all of it could be counted."""

    size: int = 0
    entries: int = 0
    uncountable: str = ""


PAGE = os.sysconf("SC_PAGE_SIZE")
PROPORTIONAL = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)


def read_process(pid: int) -> Process | None:
    """Look at a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - many of them, often
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    if len(fields) < 22:  # noqa: PLR2004 - as many as are read below
        return None
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        threads=int(fields[17]),
        start=int(fields[19]),
        memory_bytes=int(fields[21]) * PAGE,
    )


def own_memory(process: Process) -> int:
    """Return the memory of a process, of what it shares with others its share only."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            found = PROPORTIONAL.search(file.read())
    except OSError:
        found = None
    return process.memory_bytes if found is None else int(found[1]) * 1024


def every_process() -> list[Process]:
    """Look at all processes of the machine that can be seen."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    return [found for found in map(read_process, pids) if found is not None]


def descendants(
    root: int, among: Iterable[Process], spared: frozenset[tuple[int, int]] = frozenset()
) -> list[Process]:
    """Return the living descendants of `root`, but for those spared and their descendants."""
    children: dict[int, list[Process]] = {}
    for process in among:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.identity not in spared:
                found.append(child)
                waiting.append(child.pid)
    return [process for process in found if process.state not in "ZX"]


def of_sessions(among: Iterable[Process], leaders: AbstractSet[int]) -> list[Process]:
    """Return the processes of these sessions and their descendants; parents come before children."""
    found: dict[int, Process] = {}
    for process in among:
        if {process.pid, process.session} & leaders or process.parent in found:
            found[process.pid] = process
    return [*found.values()]


def send(process: Process, number: signal.Signals) -> None:
    """Signal the process that was looked at, and never another one that has its number now."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        now = read_process(process.pid)
        if now is not None and now.identity == process.identity:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(descriptor)


def end_user(uid: int, gid: int) -> None:
    """Kill every process of a user at once, descendants of the keeper or not, and remove what they shared.

    A child does it that has become that user, so that it can reach nobody else. Raises OSError where
    nobody can become that user.
    """
    if uid < LEAST_UID:
        raise OSError(errno.EPERM, f"the user {uid} is one of the system's (local_uids)")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            become(uid, gid)
            if os.getresuid() == (uid, uid, uid) and uid >= LEAST_UID:
                with contextlib.suppress(ProcessLookupError):  # the user has no process
                    os.kill(-1, signal.SIGKILL)
                remove_shared(uid)
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise OSError(errno.EPERM, f"nothing can be run as the user {uid} (local_uids)")


def remove_shared(uid: int) -> None:
    """Remove the shared memory, queues and semaphores of a user, which outlive processes."""
    for kind, remove, arguments in (
        ("shm", _libc.shmctl, (IPC_RMID, None)),
        ("msg", _libc.msgctl, (IPC_RMID, None)),
        ("sem", _libc.semctl, (0, IPC_RMID)),
    ):
        try:
            # As bytes: this user may not read the modules that decode them.
            with open(f"/proc/sysvipc/{kind}", "rb") as table:  # noqa: PTH123
                names, *rows = (line.split() for line in table)
        except OSError:
            continue  # a system without them
        for row in rows:
            if int(row[names.index(b"uid")]) == uid:
                remove(int(row[1]), *arguments)


def claim_user(uid: int) -> None:
    """Be the only keeper on the machine that has this user, until this program ends. Raises OSError.

    Whoever ends all processes of a user must not end those of another server's workspace.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(CLAIMS, 0o700)  # noqa: PTH102
    claim = os.open(f"{CLAIMS}/{uid}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        lock(claim)
    except BlockingIOError:
        text = f"the user {uid} has a workspace of another server (local_uids)"
        raise OSError(errno.EBUSY, text) from None


def lock(file: int) -> None:
    """Lock a file that is open here; blocks. Raises BlockingIOError after LOCK_SECONDS."""
    due = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > due:
                raise
            time.sleep(ROUND_SECONDS)
        else:
            return


def become(uid: int, gid: int) -> None:
    """Become a user for good. Raises OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def measure(folder: int, depth: int = 0) -> Usage:
    """Return what the folder that is open as `folder` takes, following no link."""
    size = entries = 0
    why = ""
    with os.scandir(folder) as inside:
        for entry in inside:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            size += found.st_blocks * 512
            entries += 1
            if not stat.S_ISDIR(found.st_mode):
                continue
            if depth == DEEPEST:
                return Usage(size, entries, f"has more than {DEEPEST} folders within each other")
            try:
                below = os.open(entry.name, os.O_RDONLY | FOLDER, dir_fd=folder)
            except PermissionError:
                if found.st_uid == os.geteuid():  # into those of others nobody here can write
                    why = "has a folder that cannot be read"
                continue
            except OSError:
                continue
            try:
                sub = measure(below, depth + 1)
            finally:
                os.close(below)
            size, entries, why = size + sub.size, entries + sub.entries, why or sub.uncountable
    return Usage(size, entries, why)


def measure_unlinked(processes: Iterable[Process]) -> int:
    """Return the bytes of files that only the processes hold: removed ones, and those of memory."""
    sizes: dict[tuple[int, int], int] = {}
    for process in processes:
        folder = f"/proc/{process.pid}/fd"
        try:
            names = os.listdir(folder)  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            try:
                found = os.stat(f"{folder}/{name}")  # noqa: PTH116
            except OSError:
                continue  # closed meanwhile, as the others need not be
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())


class Output:
    """Both ends of what a command writes, and how much it was."""

    def __init__(self, kept_bytes: int) -> None:
        self._kept = kept_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def take(self, chunk: bytes) -> None:
        """Keep the chunk, as far as it belongs to either end."""
        self.total += len(chunk)
        room = self._kept - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:] if room > 0 else chunk
        if len(self._tail) > 2 * self._kept + CHUNK:
            self._shorten()

    def ends(self) -> bytes:
        """Return what is kept."""
        self._shorten()
        return bytes(self._head + self._tail)

    def _shorten(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._kept)]


class Command:
    """A shell and what it was asked for; `spared` are the processes that were there before it.

    One with a negative number is a question of the pages, which runs beside the agent's command.
    """

    def __init__(
        self,
        number: int,
        pid: int,
        output: Output,
        files: tuple[int, int],
        spared: frozenset[tuple[int, int]],
    ) -> None:
        self.number = number
        self.pid = pid
        self.output = output
        self.output_file, self.folder_file = files
        self.spared = spared
        self.writes = True
        """Whether it may write files."""
        self.over = False
        self.kill_at: float | None = None
        self.why = ""
        """Why it was ended."""


class Keeper:
    """Runs commands below one directory. Everything happens in one thread, woken by one selector."""

    def __init__(self, link: socket.socket, opened: Mapping[str, Any]) -> None:
        self._link = link
        self._received = bytearray()
        self._limits = Limits(**opened["limits"])
        self._user: tuple[int, int] | None = tuple(opened["user"]) if opened["user"] else None
        self._shell: str = opened["shell"]
        self._root = os.open(opened["root"], os.O_RDONLY | FOLDER)
        self._directory = os.open(opened["directory"], os.O_RDONLY | FOLDER)
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._commands: dict[int, Command] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._unsent = bytearray()
        self._notes: list[str] = []
        """What is to be said with the next command's outcome."""
        self._usage = Usage()
        self._counts = 0
        """How often the directory was counted, by which the server knows a new count from an old one."""
        self._uncountable_since: float | None = None
        self._look_at_disk = 0.0
        self._look_at_processes = 0.0
        self._over = False
        self._selector = selectors.DefaultSelector()
        woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._woken(woken))
        link.setblocking(False)  # noqa: FBT003 - the socket API
        self._selector.register(link, selectors.EVENT_READ, self._exchange)

    def serve(self) -> None:
        """Do what the frames ask for until the socket ends; then end every process."""
        if self._user is not None:
            claim_user(self._user[0])
            end_user(*self._user)  # what an earlier keeper that was killed left behind
        try:
            self._usage = measure(self._directory)
            self._counts += 1
            self._say({"say": "ready", **self._used()})
            while not self._over:
                for key, _ in self._selector.select(self._seconds()):
                    key.data()
                self._reap()
                self._look()
                self._begin()
        finally:
            self._end_all()
            if self._user is not None:
                end_user(*self._user)

    # What is asked for

    def _exchange(self) -> None:
        """Send what waits to be sent, and take what has come."""
        self._flush()
        try:
            chunk = self._link.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._over = True
            return
        self._received += chunk
        for request in taken_frames(self._received):
            if request["do"] == "run":
                self._waiting.append(request)
            elif request["do"] == "end":
                self._end(request["id"])

    def _end(self, number: int) -> None:
        self._waiting = [one for one in self._waiting if one["id"] != number]
        command = self._commands.get(number)
        if command is not None and command.kill_at is None:
            for process in self._processes_of(command):
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)
            command.kill_at = time.monotonic() + TERM_SECONDS

    def _begin(self) -> None:
        """Start what waits; a command of the agent waits for the one before it, which may be ending."""
        busy = any(number >= 0 for number in self._commands)
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            if busy and request["id"] >= 0:
                self._waiting.append(request)
                continue
            if time.monotonic() >= self._look_at_disk:
                self._check_disk()
            why = "there are far too many files"
            try:
                if self._usage.entries < 2 * self._limits.disk_entries + MOST_BEYOND:
                    self._start(request)
                    busy = busy or request["id"] >= 0
                    continue
            except OSError as error:
                why = str(error.strerror)
            text = f"bash: the command cannot be started: {why}\n".encode()
            self._answer(request["id"], NOT_STARTED, text, len(text), None)

    def _start(self, request: Mapping[str, Any]) -> None:
        used, limits = self._usage, self._limits
        writes = used.size <= limits.disk_bytes and used.entries <= limits.disk_entries
        spared = frozenset(process.identity for process in self._processes())
        self._open_root()
        folder = self._opened(request["folder"])
        output, into = os.pipe2(os.O_CLOEXEC)
        ended, where = os.pipe2(os.O_CLOEXEC)
        keeper = os.getpid()
        most = self._task_limit(), limits.file_bytes if writes else 0
        try:
            pid = os.fork()
            if pid == 0:
                self._become_shell(request, (folder, into, where), keeper, most)
        except OSError:
            os.close(output)
            os.close(ended)
            raise
        finally:
            for descriptor in (folder, into, where):
                os.close(descriptor)
        os.set_blocking(output, False)
        os.set_blocking(ended, False)
        command = Command(
            request["id"], pid, Output(request["kept_bytes"]), (output, ended), spared
        )
        command.writes = writes
        self._commands[command.number] = command
        self._selector.register(output, selectors.EVENT_READ, lambda: self._drain(command))
        self._look_at_processes = time.monotonic() + WATCH_SECONDS

    def _open_root(self) -> None:
        """Let the user of the commands into the root again, if a command has closed it."""
        mode = stat.S_IMODE(os.fstat(self._root).st_mode)
        needed = stat.S_IRUSR | stat.S_IXUSR
        if mode & needed != needed:
            os.fchmod(self._root, mode | stat.S_IRWXU)

    def _opened(self, folder: Sequence[str]) -> int:
        """Open a folder below the root, a link being none; the root where it is gone."""
        opened = os.dup(self._root)
        for part in folder:
            try:
                below = os.open(part, os.O_PATH | FOLDER, dir_fd=opened)
            except OSError:
                os.close(opened)
                return os.dup(self._root)
            os.close(opened)
            opened = below
        return opened

    def _task_limit(self) -> int:
        """Return the number of tasks that the user may have: others than these have theirs already."""
        if self._user is not None:
            return self._limits.processes
        mine = os.geteuid()
        others = 0
        for process in every_process():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{process.pid}").st_uid == mine:  # noqa: PTH116
                    others += process.threads
        inside = sum(process.threads for process in self._processes())
        return others - inside + self._limits.processes

    def _become_shell(
        self,
        request: Mapping[str, Any],
        files: tuple[int, int, int],
        keeper: int,
        most: tuple[int, int],
    ) -> NoReturn:
        """Turn a forked child into the shell of a command."""
        folder, into, where = files
        try:
            signal.set_wakeup_fd(-1)
            for number in RESTORED_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            prctl(PR_SET_DUMPABLE, 1)
            os.setsid()
            os.fchdir(folder)  # before the user's rights are taken on: the folder was found by them
            os.dup2(self._nothing, 0)
            os.dup2(into, 1)
            os.dup2(into, 2)
            os.dup2(where, FOLDER_FD)
            self._limit_itself(*most)
            if self._user is not None:
                become(*self._user)
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.closerange(3, FOLDER_FD)
            os.closerange(FOLDER_FD + 1, FOLDER_FD + 1000)
            if os.getppid() == keeper:
                # The folder is told however the script ends, unless it sets a trap of its own.
                script = f"trap 'pwd -P >&{FOLDER_FD}' EXIT; {request['command']}"
                command = [self._shell, "--noprofile", "--norc", "-c", script, "bash"]
                os.execve(self._shell, command, request["environment"])  # noqa: S606
        except OSError as error:
            os.write(2, f"bash: {error.strerror}\n".encode())
        except ValueError as error:
            os.write(2, f"bash: {error}\n".encode())
        finally:
            os._exit(NOT_STARTED)

    def _limit_itself(self, tasks: int, file_bytes: int) -> None:
        limits = self._limits
        for kind, value in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_CPU, limits.cpu_seconds),
            (resource.RLIMIT_DATA, limits.memory_bytes),
            (resource.RLIMIT_FSIZE, file_bytes),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_NPROC, tasks),
        ):
            hard = resource.getrlimit(kind)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (least, least))
        os.nice(NICENESS)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write(str(OOM_SCORE))

    # What happens

    def _seconds(self) -> float | None:
        """Return how long nothing needs to be looked at; None while there is no process."""
        if not self._has_children():
            return None
        due = [self._look_at_processes, self._look_at_disk]
        due += [one.kill_at for one in self._commands.values() if one.kill_at is not None]
        return max(0.0, min(due) - time.monotonic())

    @staticmethod
    def _woken(woken: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, CHUNK)

    @staticmethod
    def _has_children() -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _drain(self, command: Command) -> None:
        """Read what a command has written, also when it is over and others hold its output."""
        try:
            chunk = os.read(command.output_file, CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        if not chunk:
            self._close_output(command)
            return
        if command.over:
            return  # of processes in the background nothing is kept, and nothing counted
        command.output.take(chunk)
        if command.output.total > self._limits.output_bytes and not command.why:
            why = f"a command wrote more than {self._limits.output_bytes} bytes of output"
            if command.number >= 0:
                self._kill_all(why)
            else:
                command.why = why
                self._end_now(command)

    def _close_output(self, command: Command) -> None:
        if command.output_file >= 0:
            self._selector.unregister(command.output_file)
            os.close(command.output_file)
            command.output_file = -1

    def _reap(self) -> None:
        """Take the exit codes of all that have ended, adopted descendants included."""
        shells = {command.pid: command for command in self._commands.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in shells:
                code = os.waitstatus_to_exitcode(status)
                self._finish(shells[pid], code if code >= 0 else 128 - code)

    def _finish(self, command: Command, code: int) -> None:
        """Answer a command whose shell has ended; what it left running goes on, and is drained."""
        if command.kill_at is not None:
            self._end_now(command)
        if time.monotonic() >= self._look_at_disk or not command.writes:
            self._check_disk()
        del self._commands[command.number]
        self._drain_rest(command)
        command.over = True
        kept = command.output.ends()
        folder = self._folder_of(command)
        if not command.writes and command.number >= 0:
            self._notes.append("The directory has too much in it: commands can remove, not write.")
        if command.why:
            code = KILLED
            if command.number >= 0:
                self._notes.append(command.why)
        self._answer(command.number, code, kept, command.output.total, folder)
        command.output = Output(0)

    def _drain_rest(self, command: Command) -> None:
        """Read what a command wrote before its shell ended, and no more than it may write."""
        while command.output_file >= 0 and command.output.total <= self._limits.output_bytes:
            try:
                chunk = os.read(command.output_file, CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                self._close_output(command)
                return
            command.output.take(chunk)

    def _folder_of(self, command: Command) -> str | None:
        try:
            said = os.read(command.folder_file, LONGEST_FOLDER)
        except OSError:
            said = b""
        os.close(command.folder_file)
        return os.fsdecode(said.removesuffix(b"\n")) or None

    def _answer(
        self, number: int, code: int, output: bytes, total: int, folder: str | None
    ) -> None:
        notes, self._notes = (self._notes, []) if number >= 0 else ([], self._notes)
        self._say(
            {
                "say": "done",
                "id": number,
                "code": code,
                "total": total,
                "folder": folder,
                "notes": notes,
                **self._used(),
            },
            output,
        )

    def _used(self) -> dict[str, int]:
        usage = self._usage
        return {"size": usage.size, "entries": usage.entries, "counts": self._counts}

    # What is watched

    def _look(self) -> None:
        now = time.monotonic()
        for command in list(self._commands.values()):
            if command.kill_at is not None and now >= command.kill_at:
                self._end_now(command)
                command.kill_at = now + KILL_SECONDS
        if now >= self._look_at_processes and self._has_children():
            self._look_at_processes = now + WATCH_SECONDS
            self._check_processes()
        if now >= self._look_at_disk and self._has_children():
            self._check_disk()

    def _check_processes(self) -> None:
        found = self._processes()
        tasks = sum(process.threads for process in found)
        memory = sum(process.memory_bytes for process in found)
        if tasks > self._limits.processes:
            self._kill_all(f"they were more than {self._limits.processes} processes and threads")
        elif memory > self._limits.memory_bytes < sum(map(own_memory, found)):
            self._kill_all(f"they took more than {self._limits.memory_bytes} bytes of memory")

    def _check_disk(self) -> None:
        """End everything if more is on the disk than may be, and more than there was."""
        begun = time.monotonic()
        found, before = measure(self._directory), self._usage
        found = found._replace(size=found.size + measure_unlinked(self._processes()))
        self._usage = found
        self._counts += 1
        now = time.monotonic()
        self._look_at_disk = now + max(WATCH_SECONDS, DISK_SHARE * (now - begun))
        if not found.uncountable:
            self._uncountable_since = None
        elif self._uncountable_since is None:
            self._uncountable_since = now
        since = self._uncountable_since
        if since is not None and now >= since + UNCOUNTABLE_SECONDS:
            self._kill_all(f"the directory {found.uncountable}")
        elif found.size > max(self._limits.disk_bytes, before.size):
            self._kill_all(f"the directory took more than {self._limits.disk_bytes} bytes")
        elif found.entries > max(self._limits.disk_entries, before.entries):
            self._kill_all(f"the directory had more than {self._limits.disk_entries} entries")

    def _kill_all(self, why: str) -> None:
        """End every process of the conversation; the outcome of its command says why."""
        if not self._processes():
            return
        said = f"The processes of this workspace were ended: {why}."
        running = [command for command in self._commands.values() if command.number >= 0]
        for command in self._commands.values():
            command.why = said
        if not running:
            self._notes.append(said)
            del self._notes[:-3]
        self._kill(self._processes)

    def _processes(self, spared: frozenset[tuple[int, int]] = frozenset()) -> list[Process]:
        return descendants(os.getpid(), every_process(), spared)

    def _processes_of(self, command: Command) -> list[Process]:
        """Return the processes that end with a command.

        With one of the agent, all that began after it, but for the pages' questions. With a question
        only those of its shell's session: the agent's command beside it is none of its business.
        """
        every = every_process()
        if command.number < 0:
            return of_sessions(descendants(os.getpid(), every), {command.pid})
        began = descendants(os.getpid(), every, command.spared)
        asked = of_sessions(began, {one.pid for one in self._commands.values() if one.number < 0})
        return [process for process in began if process not in asked]

    def _end_now(self, command: Command) -> None:
        self._kill(lambda: self._processes_of(command))

    def _end_all(self) -> None:
        """End all descendants: let them end by themselves for TERM_SECONDS, then kill them."""
        for process in self._processes():
            send(process, signal.SIGTERM)
            send(process, signal.SIGCONT)
        due = time.monotonic() + TERM_SECONDS
        while self._processes() and time.monotonic() < due:
            time.sleep(TERM_SECONDS / 20)
        self._kill(self._processes, END_SECONDS)

    @staticmethod
    def _kill(find: Callable[[], Sequence[Process]], seconds: float = KILL_SECONDS) -> None:
        """Stop and then kill what is found, until nothing is; within these seconds."""
        stopped: set[tuple[int, int]] = set()
        due = time.monotonic() + seconds
        while time.monotonic() < due:
            found = find()
            fresh = [process for process in found if process.identity not in stopped]
            # What is stopped begins nothing, so that in the end nothing is begun.
            for process in fresh:
                send(process, signal.SIGSTOP)
                stopped.add(process.identity)
            if fresh:
                continue
            for process in found:
                send(process, signal.SIGKILL)
            if not found:
                return
            time.sleep(ROUND_SECONDS)

    def _say(self, what: Mapping[str, Any], content: bytes = b"") -> None:
        self._unsent += frame(what, content)
        self._flush()

    def _flush(self) -> None:
        """Send as much as the socket takes: a server that is busy must not keep this from watching."""
        try:
            sent = self._link.send(self._unsent) if self._unsent else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # the server has gone, as the next reading shows
            sent = len(self._unsent)
        del self._unsent[:sent]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._link, wanted, self._exchange)


def frame(what: Mapping[str, Any], content: bytes = b"") -> bytes:
    """Return an object and bytes as one frame."""
    said = json.dumps(what).encode()
    return LENGTHS.pack(len(said), len(content)) + said + content


def taken_frames(received: bytearray) -> Iterator[dict[str, Any]]:
    """Take the objects of all whole frames from the bytes received."""
    while len(received) >= LENGTHS.size:
        said, content = LENGTHS.unpack_from(received)
        end = LENGTHS.size + said + content
        if len(received) < end:
            return
        yield json.loads(received[LENGTHS.size : LENGTHS.size + said])
        del received[:end]


def first_frame(link: socket.socket) -> dict[str, Any] | None:
    """Return the object of the first frame, which nothing follows until it is answered."""
    received = bytearray()
    while chunk := link.recv(CHUNK):
        received += chunk
        for opened in taken_frames(received):
            return opened
    return None


def main() -> None:
    """Keep the processes of one conversation; the socket is the standard input."""
    link = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_DUMPABLE, 0)
        opened = first_frame(link)
        if opened is not None:
            Keeper(link, opened).serve()
    except Exception as error:  # noqa: BLE001 - told to the server, whatever it was
        link.settimeout(KILL_SECONDS)
        with contextlib.suppress(OSError):
            link.sendall(frame({"say": "failed", "why": str(error), "at": traceback.format_exc()}))
        sys.exit(1)


if __name__ == "__main__":
    main()
