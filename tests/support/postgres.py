"""A real PostgreSQL for this process: started when it is first asked for, killable, ended with it."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from select import select
from tempfile import mkdtemp

import asyncpg
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from pydantic import SecretStr

from storage.config import PostgresStorage
from storage.database.migrate_postgres import migrate_postgres
from storage.database.postgres import SCHEMA, PostgresPool, check_promises, in_schema
from tests.support.announced import START_SECONDS, Announced
from tests.support.small_disk import SmallDisk
from tests.support.waiting import until

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name))
DATABASE = "parley"
USERS = ("postgres", "nobody")
"""Neither PostgreSQL nor pgbouncer runs as root."""
SECRET_KEY = "the key of these tests"  # noqa: S105 - of no other storage
KEPT_SCHEMAS = 12
"""Schemas that are emptied and used again; more folders than these are not open at a time."""
TABLES = (
    *("asides", "client_ids", "events", "pages", "records", "heads"),
    *("user_records", "key_mark", "usage_positions", "usage_lines", "audit"),
    *("workspaces", "workspace_blobs", "loops", "nodes"),
)
INDEX_TABLES = ("search_entries", "search_logs")
"""The tables of full-text search, which are made when the index is first opened."""
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "log_min_messages": "log",
    "log_destination": "stderr",
}
"""Everything that decides what a commit is worth stays as it is: fsync is on."""
READY = b"ready to accept"
"""Said of connections, and of read-only ones by a standby."""
ON_A_SMALL_DISK = {"min_wal_size": "32MB", "max_wal_size": "64MB"}


def program(name: str, *searched: Path) -> str:
    """Return the path of a program, in one of these folders or where programs are."""
    path = shutil.which(name, path=":".join(map(str, [*reversed(searched), "/usr/sbin"])))
    package = "PostgreSQL" if searched else name
    assert path is not None, f"{package} is not installed; scripts/setup-tools does that"
    return path


def _as_user() -> tuple[list[str], int | None]:
    """The beginning of a command that is to run as a user other than root, and that user's id.

    It ends when the thread ends that began it, whatever ended that.
    """
    setpriv = [shutil.which("setpriv") or "setpriv", "--pdeathsig", "QUIT"]
    if os.getuid() != 0:
        return setpriv, None
    known = {one.pw_name: one for one in pwd.getpwall()}
    user = next(known[name] for name in USERS if name in known)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*setpriv, *ids], user.pw_uid


class PostgresServer:
    """A server over a cluster of its own in a temporary folder, reached by a socket there.

    With `disk_megabytes` the cluster lies on a disk of that size. Without `page_checksums` it is what
    this version of PostgreSQL makes. As a `copy_of` a server that has ended it has the same data.
    """

    def __init__(
        self,
        disk_megabytes: int | None = None,
        *,
        page_checksums: bool = False,
        copy_of: "PostgresServer | None" = None,
    ) -> None:
        self._prefix, user = _as_user()
        self.folder = Path(mkdtemp(prefix="parley-pg-"))
        self._disk: SmallDisk | None = None
        if user is not None:
            os.chown(self.folder, user, -1)
        if disk_megabytes is not None:
            owner = os.getuid() if user is None else user
            self._disk = SmallDisk(self.folder / "data", disk_megabytes, owner)
            self._prefix = [*self._disk.within, *self._prefix]
        self._announced: Announced | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.settings = SETTINGS if disk_megabytes is None else SETTINGS | ON_A_SMALL_DISK
        """Settings that it gets at its next start."""
        if copy_of is not None:
            shutil.copytree(copy_of.folder / "data", self.folder / "data")
            if user is not None:
                for path in (self.folder / "data", *(self.folder / "data").rglob("*")):
                    os.chown(path, user, -1)
            return
        self._run(
            *("initdb", "--no-sync", "-D", str(self.folder / "data"), "-U", DATABASE),
            *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"),
            *(["--data-checksums"] if page_checksums else []),
        )

    @property
    def url(self) -> str:
        """The address of the database."""
        return f"postgresql://{DATABASE}@/{DATABASE}?host={self.folder}"

    @property
    def socket(self) -> Path:
        """The socket in its folder."""
        return self.folder / ".s.PGSQL.5432"

    @property
    def disk(self) -> SmallDisk:
        """The disk on which its cluster lies."""
        assert self._disk is not None
        return self._disk

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start. It ends with the thread that calls this: let that be the main one."""
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        command = [
            *self._prefix,
            program("postgres", *BINARIES),
            *("-D", str(self.folder / "data"), "-k", str(self.folder), *settings),
        ]
        self._announced = Announced(command, READY, self.folder / "log", start_new_session=True)
        self._process = self._announced.process

    def wait(self) -> None:
        """Wait until it takes connections."""
        assert self._announced is not None
        self._announced.wait_until_ready()

    async def begin_a_segment(self) -> None:
        """Begin a segment of the write-ahead log: there is room for all that is written of it.

        Without that PostgreSQL ends where the disk is full.
        """
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("SELECT pg_switch_wal()")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    def crash(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: nothing is finished, no connection is closed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)

    def stop(self) -> None:
        """End it as it wishes: all that it knows is in its files."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_SECONDS)

    def follow(self, primary: "PostgresServer") -> None:
        """Be the standby of a server with the same data, from the next start on."""
        with (self.folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = 'host={primary.folder} user={DATABASE}'\n")
        (self.folder / "data" / "standby.signal").touch()

    def kill(self) -> None:
        """End it and its backends as a machine that stops does: none of them says a word."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        backends = main.children()
        main.kill()
        for backend in backends:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                _kill(backend.pid)
        self._process.wait(START_SECONDS)

    def promote(self) -> None:
        """Have a standby take writes, and wait until it does."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self.folder / "data"))

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        main.send_signal(number)
        for backend in main.children():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                backend.send_signal(number)

    def remove(self) -> None:
        """End it, and remove its cluster."""
        if self._process is not None and self._process.poll() is None:
            self.crash()
        if self._disk is not None:
            self._disk.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self) -> None:
        """Make the database."""
        self._run("createdb", "-h", str(self.folder), "-U", DATABASE, DATABASE)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*self._prefix, program(name, *BINARIES), *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )


def _kill(pid: int) -> None:
    """End a process, and wait for that, not for whoever collects it. Raises ProcessLookupError."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert select([handle], [], [], START_SECONDS)[0], f"the process {pid} does not end"
    finally:
        os.close(handle)


@cache
def postgres_server() -> PostgresServer:
    """This process's server; tests that kill it start it again."""
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    server.create()
    return server


class PoolerServer:
    """pgbouncer in transaction mode, in front of this process's server."""

    def __init__(self, server: PostgresServer) -> None:
        prefix, user = _as_user()
        self.folder = Path(mkdtemp(prefix="parley-pb-"))
        settings = {
            "listen_port": "6432",
            "unix_socket_dir": str(self.folder),
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": "4",
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        (self.folder / "ini").write_text(
            f"[databases]\n{DATABASE} = host={server.folder} user={DATABASE}\n[pgbouncer]\n"
            + "\n".join(lines)
        )
        if user is not None:
            for path in (self.folder, self.folder / "ini"):
                os.chown(path, user, -1)
        announced = Announced(
            [*prefix, program("pgbouncer"), str(self.folder / "ini")],
            b"process up",
            self.folder / "log",
            start_new_session=True,
        )
        self._process = announced.process
        announced.wait_until_ready()

    @property
    def url(self) -> str:
        """The address of the database behind it."""
        return f"postgresql://{DATABASE}@/{DATABASE}?host={self.folder}&port=6432"

    def remove(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def pooler_server() -> PoolerServer:
    """This process's pooler."""
    server = PoolerServer(postgres_server())
    atexit.register(server.remove)
    return server


class Schemas:
    """Schemas by the folder of the test that uses them; those of folders long closed come back empty."""

    def __init__(self) -> None:
        self._by_folder: OrderedDict[Path, str] = OrderedDict()
        self._open: dict[Path, int] = {}

    @contextmanager
    def of(self, folder: Path) -> Iterator[tuple[str, bool]]:
        """The schema of a folder, and whether it must be emptied first."""
        stale = False
        if folder not in self._by_folder:
            self._by_folder[folder], stale = self._take()
        self._by_folder.move_to_end(folder)
        self._open[folder] = self._open.get(folder, 0) + 1
        try:
            yield self._by_folder[folder], stale
        finally:
            self._open[folder] -= 1

    def name_of(self, folder: Path) -> str:
        """Return the schema of a folder that is in use."""
        return self._by_folder[folder]

    def _take(self) -> tuple[str, bool]:
        closed = [one for one in self._by_folder if not self._open.get(one)]
        gone = next((one for one in closed if not one.exists()), None)
        if gone is None and len(self._by_folder) >= KEPT_SCHEMAS and closed:
            gone = closed[0]
        if gone is None:
            return f"parley_{len(self._by_folder)}", False
        return self._by_folder.pop(gone), True


_SCHEMAS = Schemas()


@asynccontextmanager
async def open_postgres(
    folder: Path, *, pooler: bool = False, deadline_seconds: float = 1_000.0
) -> AsyncIterator[PostgresPool]:
    """Connections to the schema of a folder; it is empty the first time, and as it was left then."""
    server = postgres_server()
    async with schema_of(folder) as schema:
        pool = PostgresPool(
            pooler_server().url if pooler else server.url,
            schema=schema,
            pooler=pooler,
            deadline_seconds=deadline_seconds,
            connect_seconds=deadline_seconds,
        )
        try:
            await check_promises(pool)
            await migrate_postgres(pool)
            yield pool
        finally:
            await pool.close()


@asynccontextmanager
async def schema_of(folder: Path) -> AsyncIterator[str]:
    """The schema of a folder; it holds nothing the first time."""
    with _SCHEMAS.of(folder) as (schema, stale):
        if stale:
            await _empty(postgres_server().url, schema)
        yield schema


async def _empty(url: str, schema: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.workspaces") is None:
            return
        # Rows are few, and to delete them takes less than to make forty files anew.
        for table in (*TABLES, *await _index_tables(connection, schema)):
            await connection.execute(f"DELETE FROM {schema}.{table}")  # noqa: S608 - ours
    finally:
        await connection.close()


async def _index_tables(
    connection: "asyncpg.Connection[asyncpg.Record]", schema: str
) -> Sequence[str]:
    found = await connection.fetchval("SELECT to_regclass($1)", f"{schema}.{INDEX_TABLES[0]}")
    return () if found is None else INDEX_TABLES


@asynccontextmanager
async def postgres_settings(folder: Path, *, pooler: bool = False) -> AsyncIterator[dict[str, str]]:
    """The settings of a server over the schema of a folder, besides its kind of storage."""
    server = postgres_server()
    async with schema_of(folder) as schema:
        yield {
            "database_url": pooler_server().url if pooler else server.url,
            "database_schema": schema,
            "database_pooler": str(pooler).lower(),
            "secret_key": SECRET_KEY,
        }


@asynccontextmanager
async def as_own_role(folder: Path) -> AsyncIterator[tuple[dict[str, str], str]]:
    """The settings of a server that connects as a role of its own without rights, and the role."""
    server = postgres_server()
    async with schema_of(folder) as name:
        role = f"{name}_role"
        await ask(f"CREATE ROLE {role} LOGIN")
        await ask(f"GRANT CREATE ON DATABASE {DATABASE} TO {role}")
        try:
            yield (
                {
                    "database_url": server.url.replace(f"{DATABASE}@", f"{role}@"),
                    "database_schema": role,
                    "secret_key": SECRET_KEY,
                },
                role,
            )
        finally:
            await ask(f"DROP SCHEMA IF EXISTS {role} CASCADE")
            await ask(f"REVOKE ALL ON DATABASE {DATABASE} FROM {role}")
            await ask(f"DROP ROLE {role}")


@asynccontextmanager
async def postgres_storage(folder: Path, *, pooler: bool = False) -> AsyncIterator[PostgresStorage]:
    """The storage in the schema of a folder."""
    url = (pooler_server() if pooler else postgres_server()).url
    async with schema_of(folder) as schema:
        yield PostgresStorage(
            url=SecretStr(url),
            secret_key=SecretStr(SECRET_KEY),
            schema_name=schema,
            pooler=pooler,
        )


async def ask(query: str, *arguments: object, schema: str = SCHEMA) -> Sequence[asyncpg.Record]:
    """Ask the server something about the tables of a schema, past the pool."""
    connection = await asyncpg.connect(postgres_server().url)
    try:
        return await connection.fetch(in_schema(query, schema), *arguments)
    finally:
        await connection.close()


@asynccontextmanager
async def other_transaction(
    statement: str, *arguments: object, schema: str = SCHEMA
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The connection of somebody else, whose transaction has done that and ends when it is told to.

    It ends with the block at the latest, and is undone then.
    """
    connection = await asyncpg.connect(postgres_server().url)
    try:
        await connection.execute("BEGIN")
        await connection.execute(in_schema(statement, schema), *arguments)
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def without_autovacuum() -> AsyncIterator[None]:
    """A span in which the server neither vacuums nor analyzes by itself."""
    await ask("ALTER SYSTEM SET autovacuum = off")
    await ask("SELECT pg_reload_conf()")
    try:
        await until(_is_left_alone)
        yield
    finally:
        await ask("ALTER SYSTEM RESET autovacuum")
        await ask("SELECT pg_reload_conf()")


async def _is_left_alone() -> bool:
    query = "SELECT FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum %'"
    return not await ask(query)


async def kept_bytes(folder: Path) -> bytes:
    """The workspaces in the schema of a folder, as they lie there."""
    query = (
        "SELECT manifest FROM parley.workspaces UNION ALL SELECT body FROM parley.workspace_blobs"
    )
    rows = await ask(query, schema=_SCHEMAS.name_of(folder))
    return b"".join(body for (body,) in rows)


async def rows_of(folder: Path) -> bytes:
    """Return every row of every table of a folder's schema, as text."""
    whole = b""
    schema = _SCHEMAS.name_of(folder)
    tables = await ask("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    for (table,) in tables:
        for (row,) in await ask(
            f"SELECT x::text FROM parley.{table} x",  # noqa: S608 - of this schema
            schema=schema,
        ):
            whole += row.encode()
    return whole


async def terminate_backends(besides: int = 0) -> int:
    """End every other connection at the server, whatever it does; return how many there were.

    The one of the process `besides` goes on.
    """
    rows = await ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> ALL (ARRAY[pg_backend_pid(), $1])",
        besides,
    )
    return int(rows[0][0])
