"""The back-end of a PostgreSQL database; needs the extra `postgres`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pydantic import SecretStr

from storage.audit.database import DatabaseAudit
from storage.backends.base import Backend, OpenedShared
from storage.backends.row_checks import audit_problem, usage_problem, user_record_problem
from storage.config import PostgresStorage
from storage.conversations.check import shortened
from storage.conversations.database import DatabaseConversationStores, record_problem
from storage.database.migrate import Migrated, load_migrations
from storage.database.migrate_postgres import (
    LONGEST_SECONDS,
    POSTGRES_MIGRATIONS,
    is_migrated,
    migrate_postgres,
    misfits,
    record_use,
)
from storage.database.postgres import PostgresPool, Role, Sizes, check_promises
from storage.database.postgres_database import PostgresDatabase
from storage.database.postgres_lock import SchemaLock
from storage.database.postgres_reading import Reader, reading
from storage.database.postgres_url import place_of
from storage.errors import StorageError
from storage.inventory import Inventory, StorageReport, Track, untracked
from storage.sealing.key import SealingKey, find_cipher
from storage.search.postgres import PostgresSearchIndex
from storage.usage.database import DatabaseUsage
from storage.users.database import DatabaseKeyMark, DatabaseUserRecords
from storage.workspaces.check import blob_problem, manifest_problem

COUNTED_ROWS = 100_000
"""Rows that are counted one by one at most; of more a report gives PostgreSQL's estimate."""
NO_CHECKSUMS = "pages have no checksums (data_checksums is off)"
NO_KEY = SecretStr("")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPostgres(OpenedShared):
    """Stores in a PostgreSQL database, and the connections for its event store."""

    pool: PostgresPool


class PostgresBackend(Backend):
    """See Backend. There is no directory: everything lies in one schema of the database."""

    kind = "postgres"
    keeps_index = True

    def __init__(self, config: PostgresStorage) -> None:
        self._config = config
        self.secret_key = config.secret_key

    @property
    def identity(self) -> PostgresStorage:
        """See Backend."""
        return self._config.model_copy(update={"secret_key": NO_KEY})

    @property
    def place(self) -> str:
        """Return the database's host and name."""
        return place_of(self._config.url.get_secret_value())

    async def open(self, stack: AsyncExitStack) -> OpenedPostgres:
        """See Backend. Raises MigrationError where the server may lose what it has acknowledged."""
        config = self._config
        pool = PostgresPool(
            config.url.get_secret_value(),
            schema=config.schema_name,
            sizes=Sizes.for_all(config.connections),
            pooler=config.pooler,
            direct_url=_revealed(config.direct_url),
            deadline_seconds=config.deadline_seconds,
        )
        database = PostgresDatabase(pool)
        stack.push_async_callback(database.close)
        if pool.has_sessions:
            lock = SchemaLock(pool, shared=config.shared)
            stack.push_async_callback(lock.close)
            await lock.take()
        await check_promises(pool)
        if not await is_migrated(pool):
            await self.migrate()
        await record_use(pool)
        key = SealingKey(DatabaseKeyMark(database), None, self.secret_key)
        await key.for_reading()
        return OpenedPostgres(
            conversations=DatabaseConversationStores(database, indexed=False),
            users=DatabaseUserRecords(database),
            key=key,
            usage=DatabaseUsage(database),
            audit=DatabaseAudit(database),
            inventory=PostgresInventory(pool, self.place),
            prove=partial(_prove, pool),
            open_index=partial(PostgresSearchIndex.open, pool),
            database=database,
            pool=pool,
        )

    async def migrate(self, *, contract: bool = False) -> Migrated:
        """See Backend. Over connections of its own, past the pooler where that is possible.

        It may be done beside a server, which is told from one that a contract would harm.
        """
        config = self._config
        pool = PostgresPool(
            (config.direct_url or config.url).get_secret_value(),
            schema=config.schema_name,
            sizes=Sizes(1, 1, 1),
            pooler=config.pooler and config.direct_url is None,
            deadline_seconds=LONGEST_SECONDS,
        )
        try:
            return await migrate_postgres(pool, contract=contract)
        finally:
            await pool.close()

    def describe(self) -> str:
        """See Backend."""
        try:
            with reading(self._config) as reader:
                if not reader.has_schema:
                    return f"no data in PostgreSQL at {self.place} yet"
                (row,) = reader.ask("inventory", COUNTED_ROWS)
                ((has_checksums,),) = reader.ask("has_page_checksums")
        except StorageError as error:
            return str(error)
        counts = _Counts(*row)
        place = self.place if has_checksums else f"{self.place}, whose {NO_CHECKSUMS}"
        if counts.events is None:
            return f"ok, about {counts.conversations} conversations in PostgreSQL at {place}"
        return (
            f"ok, {counts.conversations} conversations, {counts.events} events in PostgreSQL at"
            f" {place}"
        )

    def check(self, track: Track = untracked) -> list[str]:
        """See Backend."""
        try:
            with reading(self._config) as reader:
                if not reader.has_schema:
                    return []
                known = load_migrations(POSTGRES_MIGRATIONS)
                problems = misfits(reader.ask("read_migrations"), known)
                if problems:
                    return problems
                problems = shortened([*_row_problems(reader, track)])
                return [*problems, *self._key_problems(reader)]
        except StorageError as error:
            return [str(error)]

    def _key_problems(self, reader: Reader) -> Iterator[str]:
        for (marked,) in reader.ask("read_key_mark"):
            try:
                find_cipher(marked, None, self.secret_key)
            except StorageError as error:
                yield str(error)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _prove(pool: PostgresPool) -> None:
    """Commit a change that changes nothing. Raises Unavailable, OutcomeUnknown."""
    await pool.fetch(Role.RECORD, "pass_barrier")


class _Counts(NamedTuple):
    """The row of the query `inventory`."""

    bytes_used: int
    conversations: int
    deleted: int | None
    """None, as the number of events, where there are too many heads to look at each."""
    events: int | None
    schema_version: int


class PostgresInventory(Inventory):
    """Of one schema of a PostgreSQL database."""

    def __init__(self, pool: PostgresPool, place: str) -> None:
        super().__init__()
        self._pool = pool
        self._place = place

    async def take(self, *, check: bool = False) -> StorageReport:
        """See Inventory."""
        if check:
            await self.run_check()
        (row,) = await self._pool.fetch(Role.READ, "inventory", COUNTED_ROWS)
        counts = _Counts(*row)
        return StorageReport(
            medium="postgres",
            place=self._place,
            bytes_used=counts.bytes_used,
            conversations=counts.conversations,
            deleted_conversations=counts.deleted,
            events=counts.events,
            schema_version=counts.schema_version,
            integrity=self.mark,
        )


class _RowCheck(NamedTuple):
    """The check of every row of a table."""

    subject: str
    query: str
    """Asks for a page of rows behind a position."""
    before: Sequence[object]
    """The position before all rows; that of a row is its first columns."""
    problem_of: Callable[..., str | None]
    """Takes the columns of a row."""


def _workspace_problem(
    _number: int, conversation_id: str, manifest: bytes, names: Sequence[str]
) -> str | None:
    return manifest_problem(conversation_id, manifest, names)


def _blob_problem(_number: int, name: str, conversation_id: str, body: bytes) -> str | None:
    return blob_problem(conversation_id, name, body)


def _usage_problem(conversation_id: str, day: str, _model: str, events: int) -> str | None:
    return usage_problem(conversation_id, day, events)


def _record_problem(*columns: object) -> str | None:
    return record_problem(columns)


_ROW_CHECKS = (
    _RowCheck("records", "check_records", ("",), _record_problem),
    _RowCheck("users", "check_users", ("", ""), user_record_problem),
    _RowCheck("usage", "check_usage", ("", "", ""), _usage_problem),
    _RowCheck("audit", "check_audit", (-1,), audit_problem),
    _RowCheck("workspaces", "check_workspaces", (-1,), _workspace_problem),
    _RowCheck("files of workspaces", "check_blobs", (-1, ""), _blob_problem),
)


def _row_problems(reader: Reader, track: Track) -> Iterator[str]:
    ((*totals,),) = reader.ask("check_totals")
    for check, total in zip(_ROW_CHECKS, totals, strict=True):
        rows = reader.pages(check.query, check.before)
        for row in track(rows, check.subject, total):
            problem = check.problem_of(*row)
            if problem is not None:
                yield problem
