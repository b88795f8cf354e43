"""Migrations of PostgreSQL: numbered files of three kinds, applied under a lock of the schema.

The first line of a file names its kind, `-- kind: expand`:

- `expand` adds what servers of the version before can live with. It runs at the start of a server, in
  one transaction. A file without a kind is of this one.
- `online` is one statement outside a transaction, which nobody waits for: CREATE INDEX CONCURRENTLY,
  or an UPDATE of some rows, which is repeated until it finds none. It runs at the start as well. In a
  schema that is being made it runs as an expansion does.
- `contract` takes away what those servers need, and runs when it is asked for. In a schema that is
  being made, which no older version has used, it runs at once.

An `expand` may not rest on a `contract` before it, which may be waiting still.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from storage.database.base import Row
from storage.database.migrate import Migrated, Migration, load_migrations
from storage.database.postgres import PostgresPool, Role, Session, in_schema
from storage.database.postgres_lock import number_of_lock
from storage.errors import Conflict, MigrationError, Unavailable
from storage.failpoints import failpoint

POSTGRES_MIGRATIONS = files("storage.database") / "migrations" / "postgres"
LOCK_SECONDS = 2.0
"""A change of a table that waits for its lock makes all others wait behind it: so long at most."""
PATIENCE_SECONDS = 60.0
"""Seconds in which one migration must get its locks."""
LONGEST_PAUSE_SECONDS = 1.0
LONGEST_SECONDS = 6 * 60 * 60.0
"""Seconds that all of them may take, those of another process included."""

EXPAND, ONLINE, CONTRACT = KINDS = ("expand", "online", "contract")
_KIND = re.compile(r"\A-- kind: (.*)$", re.MULTILINE)
_INDEX = re.compile(r"^CREATE INDEX CONCURRENTLY (\w+) ON ", re.MULTILINE)


class SchemaRange(NamedTuple):
    """The first and the last version of the schema that a version of the server works with."""

    first: int
    last: int


class _SomebodyElse(Unavailable):
    """Another process is migrating the schema."""


def kind_of(migration: Migration) -> str:
    """Return the kind that a file names in its first line. Raises MigrationError for an unknown one."""
    found = _KIND.search(migration.text)
    kind = EXPAND if found is None else found[1]
    if kind not in KINDS:
        raise MigrationError(f"the migration {migration.name} is of no kind: {kind}")
    return kind


def range_of(known: Sequence[Migration]) -> SchemaRange:
    """Return the versions of the schema with which these migrations can be used."""
    needed = [one.number for one in known if kind_of(one) != CONTRACT]
    return SchemaRange(max(needed, default=0), max((one.number for one in known), default=0))


def known_range() -> SchemaRange:
    """Return the versions of the schema that this version of the server works with."""
    return range_of(load_migrations(POSTGRES_MIGRATIONS))


def misfits(done: Sequence[Row], known: Sequence[Migration]) -> list[str]:
    """Return why the migrations of a schema, rows of `read_migrations`, are not those of this version.

    Newer ones are no problem as long as they only add.
    """
    by_number = {one.number: one for one in known}
    newer = [
        f"the database is from a newer version (migration {name})"
        for number, name, _, kind in done
        if number not in by_number and kind not in {EXPAND, ONLINE}
    ]
    return newer or [
        f"the applied migration {name} differs from this version's"
        for number, name, checksum, _ in done
        if number in by_number and checksum != by_number[number].checksum
    ]


async def is_migrated(pool: PostgresPool, folder: Traversable = POSTGRES_MIGRATIONS) -> bool:
    """Return whether `migrate_postgres` would apply nothing, contracts left aside. Waits for no lock.

    Raises MigrationError as that does, Unavailable within the deadline of the pool's connections.
    """
    run = _Run(pool, load_migrations(folder), contract=False)
    return await pool.run(Role.READ, run.is_done)


async def migrate_postgres(
    pool: PostgresPool, folder: Traversable = POSTGRES_MIGRATIONS, *, contract: bool = False
) -> Migrated:
    """Bring the schema up to date with the migrations of `folder`, with `contract` those of that kind too.

    Any number of processes may do so at once; one of them applies each. A crash leaves those before
    it applied, and the next run goes on. A table that is changed is locked for others no longer than
    the change takes, and while that waits LOCK_SECONDS at a time. Raises MigrationError when the
    schema was written by a newer version that does not only add, an applied migration has since been
    changed, or a server is running that a contract would harm; Unavailable when a lock was not to be
    had within PATIENCE_SECONDS, or the server is away.
    """
    known = load_migrations(folder)
    run = _Run(pool, known, contract=contract)
    applied: list[str] = []
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while (one := await run.apply_next()) is not None:
                applied.append(one.name)
    except TimeoutError as error:
        raise Unavailable(f"not migrated within {LONGEST_SECONDS / 3600:g} hours") from error
    return Migrated(applied, [one.name for one in run.waiting])


async def record_use(pool: PostgresPool) -> None:
    """Write down which versions of the schema this server works with, for those who migrate it.

    Raises StorageError.
    """
    await pool.fetch(Role.RECORD, "record_schema_use", *known_range())


class _Run:
    """One run over the migrations that a version knows."""

    def __init__(self, pool: PostgresPool, known: Sequence[Migration], *, contract: bool) -> None:
        self.waiting: Sequence[Migration] = ()
        self._pool = pool
        self._schema = pool.schema
        self._known = known
        self._kinds: Mapping[int, str] = {one.number: kind_of(one) for one in known}
        self._contract = contract
        self._is_new = False
        """Whether this run has made the schema."""

    async def is_done(self, session: Session) -> bool:
        """Return whether the schema is there and nothing is due that may be applied."""
        return await self._is_made(session) and not await self._read_due(session)

    async def apply_next(self) -> Migration | None:
        """Apply the next migration, trying again while others are in its way.

        Return it, or None where all are applied that may be.
        """
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while True:
            try:
                return await self._pool.run(Role.RECORD, self._try_next)
            except _SomebodyElse:
                deadline = None
                if self._pool.breaker.failing_since is not None:
                    raise
            except (Unavailable, Conflict):
                # Its lock was not to be had, or two made the schema at once.
                deadline = deadline or loop.time() + PATIENCE_SECONDS
                if loop.time() > deadline or self._pool.breaker.failing_since is not None:
                    raise
            await asyncio.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))  # noqa: S311

    async def _try_next(self, session: Session) -> Migration | None:
        # What runs online is beside this transaction, which is idle meanwhile.
        first = "SET LOCAL idle_in_transaction_session_timeout = 0"
        async with session.transaction(LOCK_SECONDS, first=first):
            await self._lock(session)
            if not await self._is_made(session):
                made = f"CREATE SCHEMA IF NOT EXISTS {self._schema};"
                await session.execute(made + in_schema(_MAKE, self._schema))
            due = await self._read_due(session)
            if not due:
                return None
            await self._apply(session, due[0])
            kind = self._kinds[due[0].number]
            await session.fetch("add_migration", *due[0][:2], due[0].checksum, kind)
            failpoint("migration.begun")
        return due[0]

    async def _read_due(self, session: Session) -> list[Migration]:
        """Return the migrations to apply, in order; those that wait to be asked for go to `waiting`."""
        done = await session.fetch("read_migrations")
        self._is_new = self._is_new or not done
        problems = misfits(done, self._known)
        if problems:
            raise MigrationError(problems[0])
        numbers = {number for number, *_ in done}
        due = [one for one in self._known if one.number not in numbers]
        self.waiting = [one for one in due if not self._may_apply(one)]
        return [one for one in due if self._may_apply(one)]

    def _may_apply(self, migration: Migration) -> bool:
        return self._contract or self._is_new or self._kinds[migration.number] != CONTRACT

    async def _lock(self, session: Session) -> None:
        # Held until the commit, so that it works through a pooler, too. It is not waited for at the
        # server: CREATE INDEX CONCURRENTLY would wait for whoever does that.
        ((taken,),) = await session.fetch("try_lock", number_of_migrations_lock(self._schema))
        if not taken:
            raise _SomebodyElse("another process is migrating the schema")

    async def _is_made(self, session: Session) -> bool:
        ((there,),) = await session.fetch("has_kinds", f"{self._schema}.migrations")
        return bool(there)

    async def _apply(self, session: Session, migration: Migration) -> None:
        text = in_schema(migration.text, self._schema)
        kind = self._kinds[migration.number]
        if kind == ONLINE and not self._is_new:
            # Beside this transaction, which keeps the lock. A query with parameters keeps its view of
            # the data, for whose end an index would wait, until the next query is read; this has none.
            await session.execute("SELECT 1")
            await self._pool.run(Role.APPEND, lambda other: self._run_online(other, text))
            return
        if kind == CONTRACT and not self._is_new:
            await self._check_servers(session, migration)
        await session.execute(text.replace("CREATE INDEX CONCURRENTLY", "CREATE INDEX"))

    async def _run_online(self, session: Session, text: str) -> None:
        index = _INDEX.search(text)
        if index is None:
            while await session.execute(text) != "UPDATE 0":
                pass
            return
        name = f"{self._schema}.{index[1]}"
        for (is_valid,) in await session.fetch("index_is_valid", name):
            if is_valid:
                return
            # What a run that was cut short has left; who is still building it is waited for.
            await session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        await session.execute(text)

    async def _check_servers(self, session: Session, migration: Migration) -> None:
        """Refuse what a server would be harmed by that is running."""
        ((nobody,),) = await session.fetch("try_lock", number_of_lock(self._schema))
        if nobody and self._pool.has_sessions:
            return
        known = await session.fetch("read_schema_use")
        ((tell,),) = await session.fetch("nodes_tell_schemas", f"{self._schema}.nodes")
        if tell:  # where there are any, all that run are among them
            known = await session.fetch("read_schemas_of_nodes") or known
        for (last,) in known:
            if last < migration.number:
                raise MigrationError(
                    f"{migration.name} would harm the server that is running, which knows the schema"
                    f" up to {last}: bring it up to date first, or stop it"
                )


_MAKE = """
CREATE TABLE IF NOT EXISTS parley.migrations (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL);
ALTER TABLE parley.migrations ADD COLUMN IF NOT EXISTS kind text NOT NULL DEFAULT 'contract';
"""


def number_of_migrations_lock(schema: str) -> int:
    """Return the number of the lock under which a schema is migrated."""
    digest = hashlib.sha256(f"parley migrations of {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
