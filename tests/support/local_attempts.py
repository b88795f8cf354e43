"""Attempts to get out of a workspace on this machine, or to use the machine up from within one.

Each returns whether it succeeded. docs/local.md says of each whether it is expected to. As a program
this makes them for a user that the tests' process is not.
"""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from events.actions import FileReadAction, FileWriteAction
from events.observations import CmdOutputObservation, FileReadObservation, FileWriteObservation
from runtime_stub.base import WorkspaceLimits
from runtime_stub.errors import RuntimeUnavailable, WorkspaceError
from tests.support.local_worlds import (
    KEY,
    MIB,
    LocalWorld,
    local_world,
    marked_processes,
    passable_folder,
)
from tests.support.waiting import until


class Attempt(NamedTuple):
    """An attempt, and the limits that are not the usual ones."""

    run: Callable[[LocalWorld], Awaitable[bool]]
    limits: dict[str, int]


ATTEMPTS: dict[str, Attempt] = {}


def attempt(name: str, **limits: int):
    def register(run):
        ATTEMPTS[name] = Attempt(run, limits)
        return run

    return register


async def _reads(world: LocalWorld, path: str) -> bool:
    """Whether a file action, or a request for a file, gives the server's secret."""
    answer = await world.runtime.perform(FileReadAction(path=path))
    if isinstance(answer, FileReadObservation) and KEY in answer.content:
        return True
    try:
        return KEY.encode() in await world.runtime.read_file(path)
    except WorkspaceError:
        return False


def _state(pid: int) -> str:
    """Return the state of a process: a letter; nothing where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    return stat.rpartition(b") ")[2][:1].decode()


async def _python(world: LocalWorld, program: str, after: str = "") -> CmdOutputObservation:
    """Run a program in the interpreter that every user of the machine has."""
    await world.runtime.write_file("program.py", program.encode())
    return await world.run(f"python3 - < program.py {after}")


async def _outlives_its_runtime(world: LocalWorld, processes: int) -> bool:
    """Whether one of so many processes in the background is there after the runtime was closed."""
    await until(lambda: len(world.processes()) >= processes)
    await world.runtime.close()
    return bool(world.processes())


def _name(pid: int) -> str:
    """Return the name of a process's program; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return ""


def _open_folder(world: LocalWorld) -> Path:
    """Make a folder outside in which everybody may read and write, and a secret in it.

    It is the workspace's user's, so that its owner is no reason to refuse it.
    """
    outside = world.folder / "open"
    outside.mkdir()
    outside.chmod(0o777)
    secret = outside / "secret.txt"
    secret.write_text(KEY)
    secret.chmod(0o666)
    owner = Path(world.runtime.root).stat()
    os.chown(secret, owner.st_uid, owner.st_gid)
    return outside


async def _swapping(world: LocalWorld) -> Path:
    """Have a folder `place` and a link to a folder outside change places without end; that folder.

    Whoever finds neither may make a folder there, which goes again.
    """
    outside = _open_folder(world)
    program = f"""
import os, shutil
os.mkdir("place")
while True:
    try:
        os.rename("place", "aside")
        os.symlink("{outside}", "place")
        for _ in range(1000):  # as long as a few looks at the other one take
            os.stat(".")
        os.unlink("place")
        os.rename("aside", "place")
        for _ in range(1000):
            os.stat(".")
    except OSError:
        shutil.rmtree("place", ignore_errors=True)
        shutil.rmtree("aside", ignore_errors=True)
        if os.path.islink("place"):
            os.unlink("place")
        os.makedirs("place", exist_ok=True)
"""
    await _python(world, program, ">/dev/null 2>&1 & while ! [ -L place ]; do :; done")
    return outside


async def _writes(world: LocalWorld, path: str, target: Path) -> bool:
    """Whether a file action changes or makes a file outside."""
    answer = await world.runtime.perform(FileWriteAction(path=path, content="written"))
    return (
        isinstance(answer, FileWriteObservation)
        and target.exists()
        and "written" in (target.read_text())
    )


@attempt("a path with `..` or from the root of the disk")
async def _(world):
    up = "../" * 12
    paths = [str(world.secret), f"{up}{world.secret}", "a/../../../../data/secret.txt"]
    outside = world.folder / "written.txt"
    return any([await _reads(world, path) for path in paths]) or any(
        [await _writes(world, path, outside) for path in (str(outside), "../../../written.txt")]
    )


@attempt("a symbolic link to a file or a folder outside")
async def _(world):
    outside = world.folder / "open"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "secret.txt").write_text(KEY)
    await world.run(f"ln -s {outside}/secret.txt file; ln -s {outside} folder; ln -s / root")
    listed = []
    for path in ("folder", "root"):
        try:
            listed += await world.runtime.list_files(path)
        except WorkspaceError:
            continue
    return (
        await _reads(world, "file")
        or await _reads(world, "folder/secret.txt")
        or await _writes(world, "folder/new.txt", outside / "new.txt")
        or await _writes(world, "file", outside / "secret.txt")
        or bool(listed)
    )


@attempt("a symbolic link put in place while a file is read")
async def _(world):
    await _swapping(world)
    return any([await _reads(world, "place/secret.txt") for _ in range(300)])


@attempt("a symbolic link put in place while a file is written")
async def _(world):
    outside = await _swapping(world)
    for _ in range(100):
        await world.runtime.perform(FileWriteAction(path="place/new.txt", content="written"))
    return (outside / "new.txt").exists()


@attempt("a symbolic link put in place while a folder is listed")
async def _(world):
    await _swapping(world)
    seen: set[str] = set()
    for _ in range(300):
        with suppress(WorkspaceError):
            seen.update(await world.runtime.list_files("place"))
    return "secret.txt" in seen


@attempt("a symbolic link put in place while files are kept")
async def _(world):
    await _swapping(world)
    # Which are looked at after the folder was listed, and before it is opened.
    await world.run("touch {1..20}")
    seen: set[str] = set()
    for _ in range(400):
        with suppress(WorkspaceError):
            snapshot = await world.runtime.snapshot(WorkspaceLimits())
            seen.update(snapshot.files if snapshot else ())
    return "place/secret.txt" in seen


@attempt("a hard link to a file of the server")
async def _(world):
    await world.run(f"ln {world.secret} linked")
    return await _reads(world, "linked")


@attempt("a hard link to a file outside, by which a file action would write")
async def _(world):
    outside = _open_folder(world)
    # Many systems refuse such a link to commands.
    os.link(outside / "secret.txt", world.path("linked"))
    await world.runtime.perform(FileWriteAction(path="linked", content="written"))
    return (outside / "secret.txt").read_text() != KEY


@attempt("a fifo or a device in the place of a file")
async def _(world):
    await world.run("mkfifo fifo; mknod device c 1 5")
    reached = []
    for path in ("fifo", "device"):
        with suppress(WorkspaceError):
            reached.append(await world.runtime.read_file(path))
    written = await world.runtime.perform(FileWriteAction(path="fifo", content="written"))
    return bool(reached) or isinstance(written, FileWriteObservation)


@attempt("a fifo, a socket or a device among files that are kept")
async def _(world):
    await world.run("echo text > file; mkfifo fifo; mknod device c 0 0")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(world.path("socket")))
    names = await world.runtime.list_files()
    snapshot = await world.runtime.snapshot(WorkspaceLimits())
    return not {"fifo", "file", "socket"} <= set(names) or set(snapshot.files) != {"file"}


@attempt("names that are no Unicode, or have newlines in them")
async def _(world):
    await world.run(
        "touch $'a\\nb' $'\\xff\\xfe' 'ünïcode' $'\\e[31m'; mkdir $'folder\\n'; touch -- -rf"
    )
    names = await world.runtime.list_files()
    answers = [await _reads(world, f"{world.secret}\n"), await _reads(world, "a\nb")]
    return len(names) != 6 or any(answers)


@attempt("a current folder whose name is no Unicode, or has newlines in it")
async def _(world):
    found = set()
    for name in (r"$'\xff'", r"$'a\nb'", r"$'\e[2J'"):
        await world.run(f"mkdir {name}; cd {name}")
        answer = await world.run("pwd")
        found |= {answer.content, answer.metadata.working_dir}
    return found != {world.runtime.root}


@attempt("a current folder outside that a command claims to be in")
async def _(world):
    found = set()
    for said in (
        "echo /etc >&198",
        "trap - EXIT; echo /etc >&198",
        "yes /etc | head -n 9000 >&198",
    ):
        await world.run(said)
        answer = await world.run("pwd")
        found |= {answer.content, answer.metadata.working_dir}
    return found != {world.runtime.root}


@attempt("control sequences for terminals, towards the server's log")
async def _(world):
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        answer = await world.run(
            r"printf '\e[2J'; mkdir $'\e[2J'; cd $'\e[2J'; echo >&2 $'\e]0;x\a'"
        )
        await _reads(world, "\x1b[2J")
        await world.runtime.close()
    finally:
        logging.getLogger().removeHandler(handler)
    return "\x1b[2J" not in answer.content or any("\x1b" in line for line in lines)


@attempt("the server's environment, as commands have it")
async def _(world):
    return KEY in (await world.run("env; set; cat /proc/self/environ /proc/$$/environ")).content


@attempt("the environment of the server's process and of the keeper, in /proc")
async def _(world):
    pids = f"{os.getpid()} $PPID"
    answer = await world.run(f"for pid in {pids}; do head -c 1 /proc/$pid/environ && echo; done")
    return answer.metadata.exit_code == 0 or "Permission denied" not in answer.content


@attempt("the environment of the program that started the server")
async def _(world):
    waiting = [sys.executable, "-c", "import signal; signal.pause()"]
    started = subprocess.Popen(waiting, env={**os.environ, "SESSION_API_KEY": KEY})
    with started:
        answer = await world.run(f"cat /proc/{started.pid}/environ")
        started.kill()
    return KEY in answer.content


@attempt("the memory and the descriptors of the server's process, in /proc")
async def _(world):
    server = os.getpid()
    answer = await world.run(f"ls /proc/{server}/fd/ || dd if=/proc/{server}/mem bs=1 count=1")
    return answer.metadata.exit_code == 0


@attempt("the server or the keeper, held as a debugger holds a program")
async def _(world):
    pids = f"{os.getpid()} $PPID"
    # The system decides about this as it does about ptrace.
    answer = await world.run(f"for pid in {pids}; do (: 3<>/proc/$pid/mem) && echo held; done")
    return "held" in answer.content.split()


@attempt("the terminal in which the server was started")
async def _(world):
    shown, terminal = os.openpty()
    try:
        await world.run(f"echo typed > {os.ttyname(terminal)}; echo typed > /dev/tty")
        os.set_blocking(shown, False)
        try:
            return b"typed" in os.read(shown, 100)
        except BlockingIOError:
            return False
    finally:
        os.close(shown)
        os.close(terminal)


@attempt("descriptors inherited from the server")
async def _(world):
    descriptor = os.open(world.secret, os.O_RDONLY)
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - the system's API
    try:
        async with world.another("heir") as heir:
            answer = await heir.run("ls -l /proc/self/fd; cat /proc/self/fd/[3-9] </dev/null")
    finally:
        os.close(descriptor)
    return KEY in answer.content or "secret.txt" in answer.content


@attempt("the server's data directory")
async def _(world):
    return KEY in (await world.run(f"cat {world.secret}")).content


@attempt("a file put into the server's data directory")
async def _(world):
    made = world.secret.with_name("made.txt")
    await world.run(f"echo made > {made}")
    return made.exists()


@attempt("the workspace of another conversation")
async def _(world):
    async with world.another("neighbour") as neighbour:
        await neighbour.run("echo private > note.txt")
        answer = await world.run(f"cat {neighbour.runtime.root}/note.txt")
    return "private" in answer.content


@attempt("a file put into the workspace of another conversation")
async def _(world):
    async with world.another("neighbour") as neighbour:
        await world.run(f"echo made > {neighbour.path('made.txt')}")
        return neighbour.path("made.txt").exists()


@attempt("the command lines of another conversation's processes, in /proc")
async def _(world):
    async with world.another("neighbour") as neighbour:
        await neighbour.run("(exec -a private-note sleep 1000) & : > begun")
        await until(lambda: any("sleep" in _name(pid) for pid in neighbour.processes()))
        answer = await world.run("cat /proc/[0-9]*/cmdline | grep -ac private-not[e]")
    hidden = "hidepid=" in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return answer.content.splitlines()[-1] != "0" or hidden


@attempt("the environment and the current folder of another conversation's processes, in /proc")
async def _(world):
    async with world.another("neighbour") as neighbour:
        await neighbour.run(
            "mkdir private-note; cd private-note; (NOTE=private-note exec sleep 1000) &"
        )
        await until(lambda: any("sleep" in _name(pid) for pid in neighbour.processes()))
        found = [
            await world.run(f"{look} 2>/dev/null | grep -ac private-not[e]")
            for look in ("cat /proc/[0-9]*/environ", "ls -l /proc/[0-9]*/cwd")
        ]
    return [answer.content for answer in found] != ["0", "0"]


@attempt("programs that a repository starts when pages ask for its changes")
async def _(world):
    await world.run(
        "git init -q; echo '* filter=f' > .gitattributes; echo 1 > a; git add a;"
        " git config filter.f.clean 'env > seen; setsid sleep 1000 >/dev/null 2>&1 & cat';"
        " echo 2 > a"
    )
    await world.runtime.changes()
    return KEY in world.path("seen").read_text() or await _outlives_its_runtime(world, 1)


@attempt("a signal to the server or to the keeper")
async def _(world):
    answer = await world.run(f"kill -0 {os.getpid()} && echo server; kill -0 $PPID && echo keeper")
    return "server" in answer.content.split() or "keeper" in answer.content.split()


@attempt("a keeper that is stopped")
async def _(world):
    keeper = int((await world.run("echo $PPID")).content)
    working = asyncio.create_task(world.run("kill -STOP $PPID && : > stopped; : > begun"))
    await until(world.path("begun").exists)
    stopped = world.path("stopped").exists()
    if stopped:
        os.kill(keeper, signal.SIGCONT)
    await working
    return stopped


@attempt("a keeper that is asked to end, by SIGTERM and the like")
async def _(world):
    ending = "HUP INT QUIT ABRT ALRM TERM USR1 USR2 TSTP TTIN PIPE PROF SYS RTMIN RTMAX"
    await world.run("sleep 1000 &")
    await world.run(f"for name in {ending}; do kill -$name $PPID; done")
    answer = await world.run("echo and on")
    return answer.content != "and on" or await _outlives_its_runtime(world, 1)


@attempt("a keeper that is killed, and the processes that it kept")
async def _(world):
    kill = "(setsid sleep 1000 &); kill -KILL $PPID; : > begun; sleep 1000"
    working = asyncio.create_task(world.run(kill))
    await until(lambda: working.done() or world.path("begun").exists())
    await world.runtime.close()
    await asyncio.gather(working, return_exceptions=True)
    left = world.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return bool(left)


@attempt("a lock on the directories of the server")
async def _(world):
    hold = f"flock -n {world.folder}/workspaces/.lock sh -c ': > begun; exec sleep 1000'"
    await world.run(f"({hold} || : > begun) &")
    await until(world.path("begun").exists)
    try:
        async with world.another("neighbour"):
            return False
    except RuntimeUnavailable:
        return True


@attempt("more rights by a program of another user, such as sudo")
async def _(world):
    answer = await world.run("grep NoNewPrivs /proc/self/status")
    return answer.content.split()[-1] != "1"


@attempt("the current directory moved away")
async def _(world):
    await world.run("cd /")
    return (await world.run("pwd")).content != world.runtime.root


@attempt("the workspace's folders closed to their own user")
async def _(world):
    await world.run('chmod 0 "$HOME" "$TMPDIR" .')
    answer = await world.run("echo and on")
    await world.run('chmod 0 "$HOME" "$TMPDIR" .')
    await world.runtime.close()
    async with world.another("conversation") as again:
        await again.runtime.write_file("file", b"and on")
        later = await again.run("cat file")
    return {answer.content, later.content} != {"and on"}


@attempt("the workspace's folder removed")
async def _(world):
    await world.run('rm -rf "$PWD" "$HOME" "$TMPDIR"')
    await world.runtime.close()
    async with world.another("conversation") as again:
        await again.runtime.write_file("file", b"and on")
        return (await again.run("cat file")).content != "and on"


@attempt("the workspace's folder moved, and a symbolic link put in its place")
async def _(world):
    outside = _open_folder(world)
    await world.run(f'mv "$PWD" "$PWD-moved"; ln -sfT {outside} "$PWD"')
    listed: set[str] = set()
    with suppress(WorkspaceError):
        listed.update(await world.runtime.list_files())
    seen = await _reads(world, "secret.txt")
    await world.runtime.close()
    with suppress(RuntimeUnavailable):
        async with world.another("conversation") as again:
            listed.update(await again.runtime.list_files())
            seen = seen or await _reads(again, "secret.txt")
    return seen or "secret.txt" in listed


@attempt("a process left behind in the background")
async def _(world):
    await world.run("sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & disown -a")
    return await _outlives_its_runtime(world, 2)


@attempt("a double fork with setsid")
async def _(world):
    await world.run("(setsid bash -c '(setsid sleep 1000 &); exec sleep 1000' &)")
    return await _outlives_its_runtime(world, 2)


@attempt("a double fork with setsid that closes all descriptors")
async def _(world):
    closing = "exec 0<&- 1>&- 2>&- 198>&-; (setsid sleep 1000 &); exec sleep 1000"
    await world.run(f"(setsid bash -c '{closing}' &)")
    return await _outlives_its_runtime(world, 2)


@attempt("processes in namespaces of their own")
async def _(world):
    # Where the system does not allow them, without.
    await world.run("(unshare -Urpf --mount-proc sleep 1000 || sleep 1000) >/dev/null 2>&1 &")
    await until(lambda: any(_name(pid) == "sleep" for pid in world.processes()))
    await world.runtime.close()
    return bool(world.processes())


@attempt("a folder outside, mounted in a namespace of its own")
async def _(world):
    outside = _open_folder(world)
    mounting = f"mount --bind {outside} place && : > begun && exec sleep 1000"
    await world.run(f"mkdir place; (unshare -Urm sh -c '{mounting}' || : > begun) 2>/dev/null &")
    await until(world.path("begun").exists)
    return await _reads(world, "place/secret.txt")


@attempt("a command under way when the server is killed")
async def _(world):
    folder = world.folder / "killed"
    folder.mkdir(mode=0o755)
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.local_attempts", str(folder)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd="/",
        stdout=PIPE,
    )
    assert program.stdout is not None
    mark = (await program.stdout.readline()).decode().rstrip("\n")
    running = marked_processes(mark)
    program.kill()
    await program.wait()
    try:
        await until(lambda: not marked_processes(mark))
    except TimeoutError:
        return True
    return not mark or not running


@attempt("a process that writes while its conversation is deleted")
async def _(world):
    await world.run("(setsid sh -c 'while :; do : > a; rm a; mkdir -p b/c; rm -r b; done' &) 2>&-")
    await world.runtime.close()
    await world.builder.forget("conversation")
    return bool(world.processes()) or (world.folder / "workspaces" / "conversation").exists()


@attempt("a folder closed to its own user when its conversation is deleted")
async def _(world):
    await world.run("mkdir -p d/e; : > d/e/f; chmod 0 d/e d")
    await world.runtime.close()
    await world.builder.forget("conversation")
    return sorted(path.name for path in (world.folder / "workspaces").iterdir()) != [".lock"]


@attempt("a double fork with setsid, by a command that is given up")
async def _(world):
    await world.give_up("(setsid setsid sh -c ': > begun; exec sleep 1000' &) ; sleep 1000")
    return bool(world.processes())


@attempt("a process that goes on as ever new ones, each of which ends at once")
async def _(world):
    program = """
import os
while True:
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        pass
"""
    await _python(world, program, "&")
    await until(world.processes)
    await world.runtime.close()
    return bool(world.processes())


@attempt("a hang that ignores SIGTERM")
async def _(world):
    await world.give_up("trap '' TERM INT HUP QUIT; : > begun; while :; do sleep 1000; done")
    return bool(world.processes())


@attempt("a process that has stopped itself")
async def _(world):
    await world.give_up(
        "kill -STOP $$", lambda: [_state(pid) for pid in world.processes()] == ["T"]
    )
    return bool(world.processes())


@attempt("a fork bomb")
async def _(world):
    counts = [0]

    def has_grown() -> bool:
        counts.append(len(world.processes()))
        return sum(count > 32 for count in counts) > 100

    # Where the keeper ends the bomb before it has grown, it begins once more.
    bomb = asyncio.create_task(world.run("bomb() { bomb | bomb & }; while :; do bomb; done"))
    await until(lambda: has_grown() or bomb.done())
    bomb.cancel()
    await asyncio.wait((bomb,))
    await world.runtime.close()
    return max(counts) > 64 + 8 or bool(world.processes())


@attempt("processor time without end", cpu_seconds=1)
async def _(world):
    answer = await world.run("while :; do :; done")
    return answer.metadata.exit_code != 137


@attempt("processor time of ever new processes", cpu_seconds=1)
async def _(world):
    answer = await world.run("for i in 1 2; do (while :; do :; done); done; echo and on")
    return "and on" in answer.content


@attempt("memory of one process")
async def _(world):
    answer = await world.run("x=$(head -c 400000000 /dev/zero | tr '\\0' a); echo got ${#x}")
    # None of this is in use yet, so that the keeper has no reason to end it.
    program = "import mmap; print('got', len(mmap.mmap(-1, 400_000_000, mmap.MAP_PRIVATE)))"
    at_once = await _python(world, program)
    return "got 400000000" in answer.content + at_once.content


@attempt("memory of many processes together", file_bytes=64 * MIB)
async def _(world):
    hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); echo held; sleep 1000"
    answer = await world.run(f"for i in {{1..20}}; do ({hold}) & done; wait")
    return "bytes of memory" not in answer.content


@attempt("shared memory that outlives its processes")
async def _(world):
    made = (await world.run("ipcmk -M 4096")).content.split()[-1]
    await world.runtime.close()
    rows = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]
    left = made in [row.split()[1] for row in rows]
    if left:
        subprocess.run([shutil.which("ipcrm") or "", "-m", made], check=True)
    return left


@attempt("shared memory that no process has in use")
async def _(world):
    program = """
import mmap, os
size, part = 384 << 20, 32 << 20
memory = mmap.mmap(-1, size)
for begin in range(0, size, part):
    if os.fork() == 0:
        memory[begin : begin + part] = b"x" * part
        os._exit(0)
    os.wait()
print("held", sum(memory[at] for at in range(0, size, part)) // ord("x"))
"""
    return (await _python(world, program)).content == "held 12"


@attempt("output without end")
async def _(world):
    answer = await world.run("yes")
    return "bytes of output" not in answer.content or bool(world.processes())


@attempt("output without end and without a newline")
async def _(world):
    answer = await world.run("tr '\\0' x < /dev/zero")
    return "bytes of output" not in answer.content or bool(world.processes())


@attempt("output without end, in the background")
async def _(world):
    await world.run("yes & disown")
    answer = await world.run("echo and on")
    await world.runtime.close()
    return answer.content != "and on" or bool(world.processes())


@attempt("a file without end")
async def _(world):
    await world.run("cat /dev/zero > file")
    answer = await world.run("stat -c %s file")
    return int(answer.content) > 8 * MIB


@attempt("a sparse file")
async def _(world):
    answer = await world.run("truncate -s 1T sparse; stat -c %s sparse")
    size = int(answer.content.split()[-1])
    return size > 8 * MIB


@attempt("large files without end")
async def _(world):
    answer = await world.run("i=0; while :; do i=$((i+1)); head -c 4M /dev/zero > f$i; done")
    return "the directory took more than" not in answer.content


@attempt("large files by many short commands")
async def _(world):
    for number in range(400):
        answer = await world.run(f"head -c 1M /dev/zero > f{number}")
        if "commands can remove, not write" in answer.content:
            break
    else:
        return True
    await world.run("rm f*")
    return (await world.run("echo again > file; cat file")).content != "again"


@attempt("large files by many file actions")
async def _(world):
    content = "x" * MIB
    for number in range(64):
        action = FileWriteAction(path=f"f{number}", content=content)
        if not isinstance(await world.runtime.perform(action), FileWriteObservation):
            return False
    return True


@attempt("small files without end")
async def _(world):
    answer = await world.run("i=0; while :; do i=$((i+1)); : > f$i; done")
    return "entries" not in answer.content


@attempt("folders within each other without end")
async def _(world):
    answer = await world.run("while mkdir d && cd d; do :; done")
    await world.runtime.close()
    await world.builder.forget("conversation")
    left = (world.folder / "workspaces" / "conversation").exists()
    return "folders within each other" not in answer.content or left


@attempt("files that are removed but still open", file_bytes=256 * MIB)
async def _(world):
    answer = await world.run("exec 3>f; rm f; while :; do cat /dev/zero >&3; done")
    return "the directory took more than" not in answer.content


@attempt("files that are removed but still mapped")
async def _(world):
    program = """
import ctypes, os, time
system = ctypes.CDLL(None)
system.mmap.restype = ctypes.c_void_p
held = []
for _ in range(16):
    with open("f", "wb+") as file:
        file.write(b"x" * (8 << 20))
        file.flush()
        # One page, readable and shared, is enough, and needs no descriptor.
        held.append(system.mmap(None, 4096, 1, 1, file.fileno(), ctypes.c_long(0)))
    os.unlink("f")
# Longer than it takes to count what is there.
time.sleep(2)
print("held", len(set(held)))
"""
    return (await _python(world, program)).content == "held 16"


@attempt("files in a folder that cannot be read", file_bytes=256 * MIB)
async def _(world):
    answer = await world.run("mkdir d; exec 3>d/f; chmod 0 d; while :; do cat /dev/zero >&3; done")
    return "the directory" not in answer.content


@attempt("input that never comes")
async def _(world):
    answer = await world.run("read line; cat; echo over")
    return answer.content != "over"


@attempt("a very long argument")
async def _(world):
    long = await world.run(f": {'x' * 3_000_000}")
    made = await world.run("/bin/true $(head -c 300000 /dev/zero | tr '\\0' x)")
    on = await world.run("echo and on")
    texts = long.content + made.content
    return texts.count("Argument list too long") != 2 or on.content != "and on"


@attempt("memory as files outside, such as in /dev/shm")
async def _(world):
    path = f"/dev/shm/{world.mark}"  # noqa: S108 - it is what is tried
    try:
        answer = await world.run(f"echo kept > {path}; cat {path}")
    finally:
        Path(path).unlink(missing_ok=True)
    return "kept" in answer.content


@attempt("files outside, such as in /tmp")
async def _(world):
    path = f"/tmp/{world.mark}"  # noqa: S108 - it is what is tried
    try:
        answer = await world.run(f"echo kept > {path}; cat {path}")
    finally:
        Path(path).unlink(missing_ok=True)
    return "kept" in answer.content


@attempt("a connection to the server's port, or to any other one")
async def _(world):
    reached = asyncio.Event()

    async def serve(_reader, writer):
        reached.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await world.run(f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3")
    return reached.is_set()


async def tried(name: str) -> bool:
    """Make an attempt in a runtime of its own; whether it succeeded."""
    made = ATTEMPTS[name]
    with passable_folder() as folder:
        async with local_world(folder, **made.limits) as world:
            return await made.run(world)


async def left_running(folder: Path) -> None:
    """Run a command that does not end, print the mark of its processes, and wait for it."""
    async with local_world(folder) as world:
        working = asyncio.create_task(world.run("(setsid sleep 1000 &); : > begun; sleep 1000"))
        await until(world.path("begun").exists)
        sys.stdout.write(f"{world.mark}\n")
        sys.stdout.flush()
        await working


def main() -> None:
    """Make the attempts whose names are the lines of the input; print the outcome of each as JSON.

    With a folder as argument only a command is begun, in a directory below it.
    """
    if sys.argv[1:]:
        asyncio.run(left_running(Path(sys.argv[1])))
        return
    for line in sys.stdin:
        outcome: bool | str
        try:
            outcome = asyncio.run(tried(line.rstrip("\n")))
        except Exception:  # noqa: BLE001 - shown by the test that asked for it
            outcome = traceback.format_exc()
        sys.stdout.write(f"{json.dumps(outcome)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
