"""Migrations of PostgreSQL: numbered files, each in one transaction, under a lock of the schema."""

import asyncio
import hashlib
import random
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable

from storage.database.migrate import Migration, load_migrations, unapplied
from storage.database.postgres import PostgresPool, Role, Session, in_schema
from storage.errors import Conflict, Unavailable
from storage.failpoints import failpoint

POSTGRES_MIGRATIONS = files("storage.database") / "migrations" / "postgres"
LOCK_SECONDS = 2.0
"""A change of a table that waits for its lock makes all others wait behind it: so long at most."""
PATIENCE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 1.0


async def migrate_postgres(
    pool: PostgresPool, folder: Traversable = POSTGRES_MIGRATIONS
) -> Sequence[str]:
    """Bring the schema up to date with the migrations of `folder`; return the names of those applied.

    Any number of processes may do so at once; one of them applies each. A crash between two
    migrations leaves the first one applied. Raises MigrationError when the schema was written by a
    newer version, or an applied migration has since been changed; Unavailable when a lock was not
    to be had within PATIENCE_SECONDS.
    """
    known = load_migrations(folder)
    applied: list[str] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            one = await pool.run(Role.RECORD, lambda session: _migrate(session, pool.schema, known))
        except (Unavailable, Conflict):
            # Its lock was not to be had, or two made the schema at once.
            if loop.time() > deadline or pool.breaker.failing_since is not None:
                raise
            await asyncio.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))  # noqa: S311
            continue
        if one is None:
            return applied
        applied.append(one.name)


async def _migrate(session: Session, schema: str, known: Sequence[Migration]) -> Migration | None:
    """Apply the next migration in a transaction; return it, or None where all are applied."""
    async with session.transaction(LOCK_SECONDS):
        # Held until the commit, so that it works through a pooler, too.
        await session.execute(f"SELECT pg_advisory_xact_lock({_lock_of(schema)})")
        await session.execute(
            f"CREATE SCHEMA IF NOT EXISTS {schema};"
            f"CREATE TABLE IF NOT EXISTS {schema}.migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"
        )
        left = unapplied(await session.fetch("read_migrations"), known)
        if not left:
            return None
        migration = left[0]
        await session.execute(in_schema(migration.text, schema))
        await session.fetch("add_migration", migration.number, migration.name, migration.checksum)
        failpoint("migration.begun")
    return migration


def _lock_of(schema: str) -> int:
    """Return the number of the lock under which a schema is migrated."""
    digest = hashlib.sha256(f"parley migrations of {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
