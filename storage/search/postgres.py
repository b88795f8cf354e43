"""A search index in two tables of a PostgreSQL schema, with a GIN index of words.

GIN has no order, so there are two plans. One reads the owner's newest entries in their order, which
soon fills a page where the words are frequent; the other reads all entries that GIN names, of which
there are few where a word is rare. How frequent words are is not known before. So the plans take
turns, each time with a greater limit, until one of them has the answer.
"""

import asyncio
import hashlib
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

from storage.database.base import Row
from storage.database.outcomes import state_of
from storage.database.postgres import PostgresPool, Role, Session, in_schema, number_of
from storage.database.postgres_database import given_text, stored_text
from storage.errors import (
    Conflict,
    OutcomeUnknown,
    SearchTooSlow,
    StorageError,
    Unavailable,
)
from storage.search.base import (
    MAX_PLACE,
    Found,
    LogChange,
    LogState,
    SearchIndex,
    SearchQuery,
    closed,
    first_place,
    place_at,
)
from storage.search.queue import SearchQueue
from storage.search.words import Phrase, words_of

T = TypeVar("T")

VERSION = "1"
"""Of the tables below; an index of another version is dropped and made anew."""
FIND_SECONDS = 3.0
LOCK_SECONDS = 10.0
FIRST_LIMITS = 1_000, 250
"""Entries that the two plans look at when it is first their turn. One that GIN names takes some four times as long."""
GROWTH = 8
NO_OWNER = -1
LONG_WORD, KEPT_OF_LONG_WORD = 400, 300
"""Characters of a word that stands in the index by its beginning and a digest, for GIN has a limit of
2,700 bytes, and of that beginning."""
MAX_WORDS_BYTES = 900_000
"""Bytes of an entry's words; a value of the index may have a million."""

TABLES = f"""
DROP TABLE IF EXISTS parley.search_entries, parley.search_logs;
CREATE TABLE parley.search_logs (
    number          bigint PRIMARY KEY,             -- of the conversation's id
    conversation_id text COLLATE "C" NOT NULL UNIQUE,
    owner           text COLLATE "C",
    next_id         integer NOT NULL,
    epoch           text COLLATE "C" NOT NULL,
    mark            bigint NOT NULL,
    title           text COLLATE "C"
);
CREATE TABLE parley.search_entries (
    owner           bigint NOT NULL,                -- the number of the owner's id
    place           bigint NOT NULL,
    log             bigint NOT NULL,
    event_id        integer NOT NULL,
    source          text COLLATE "C" NOT NULL,
    kind            text COLLATE "C" NOT NULL,
    words           text COLLATE "C" NOT NULL,      -- folded, with a space before, between and after them
    PRIMARY KEY (owner, place),
    UNIQUE (log, event_id)
);
CREATE OR REPLACE FUNCTION parley.search_lexemes(owner bigint, log bigint, source text, kind text, words text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
    SELECT array_to_tsvector(
        string_to_array(btrim(words, ' '), ' ')
        || ARRAY['=o' || owner::text, '=c' || log::text, '=s' || source, '=k' || kind]
    )
$$;
CREATE INDEX search_entries_by_words ON parley.search_entries
    USING gin (parley.search_lexemes(owner, log, source, kind, words)) WITH (gin_pending_list_limit = 1024);
COMMENT ON TABLE parley.search_logs IS '{VERSION}';
"""
"""A filter is a word that begins with a sign, which no word of a text has."""

PLANS = """
    SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_seqscan = off;
    SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
"""
"""The plans of the statements are known, and the statistics of a table that has just grown are not."""
_CANCELLED = "57014"


class PostgresSearchIndex(SearchIndex):
    """See SearchIndex.

    Writes have a connection of their own, and so have searches, so that neither waits for what the
    server does otherwise, nor that for them. A commit is not waited for until it is on the disk: after a
    crash of PostgreSQL the index is an older one, never a torn one.
    """

    def __init__(
        self,
        pool: PostgresPool,
        find_seconds: float = FIND_SECONDS,
        first_limits: tuple[int, int] = FIRST_LIMITS,
    ) -> None:
        self._pool = pool
        self._find_seconds = find_seconds
        self._first_limits = first_limits
        self._lock = _lock_of(pool.schema)
        self._queue = SearchQueue()
        self._closed = False

    @classmethod
    async def open(
        cls,
        pool: PostgresPool,
        find_seconds: float = FIND_SECONDS,
        first_limits: tuple[int, int] = FIRST_LIMITS,
    ) -> Self:
        """Open or create the index in a pool's schema. Raises Unavailable.

        A statement of a search is given up after `find_seconds`; `first_limits` are the numbers of entries
        that the two plans look at when it is first their turn. The pool stays open when the index is
        closed.
        """
        index = cls(pool, find_seconds, first_limits)
        await index._written(index._bring_up)
        return index

    async def states(self, conversation_ids: Sequence[str]) -> Mapping[str, LogState]:
        """See SearchIndex."""
        return await self._written(partial(_states, conversation_ids))

    async def conversations(self, after: str, limit: int) -> list[str]:
        """See SearchIndex."""

        async def read(session: Session) -> list[str]:
            rows = await session.fetch("search_conversations", stored_text(after), limit)
            return [given_text(one) for (one,) in rows]

        return await self._written(read)

    async def write(self, changes: Sequence[LogChange]) -> int:
        """See SearchIndex. One transaction."""
        # Long texts are taken apart beside the event loop.
        steps = await asyncio.to_thread(lambda: [*map(_Step, changes)])
        return await self._written(partial(self._write, steps))

    async def erase(self, conversation_ids: Sequence[str]) -> None:
        """See SearchIndex."""

        async def erase(session: Session) -> None:
            async with self._transaction(session):
                await session.fetch("search_erase", [*map(stored_text, conversation_ids)])

        await self._written(erase)

    async def clear(self) -> None:
        """See SearchIndex. Nothing of any word is left in the tables' files."""

        async def clear(session: Session) -> None:
            async with self._transaction(session):
                await session.fetch("search_clear")

        await self._written(clear)

    async def find(self, query: SearchQuery, limit: int) -> list[Found]:
        """See SearchIndex."""
        if self._closed:
            raise closed()
        if not query.phrases:
            return []
        work = partial(self._find, _Asked.of(query), limit)
        try:
            return await self._queue.run(query.owner, lambda: self._pool.run(Role.SEARCH, work))
        except StorageError as error:
            if state_of(error.__cause__) == _CANCELLED:
                raise SearchTooSlow("the search took too long; ask for rarer words") from error
            raise

    async def close(self) -> None:
        """See SearchIndex."""
        self._closed = True

    async def _written(self, work: Callable[[Session], Awaitable[T]]) -> T:
        if self._closed:
            raise closed()
        try:
            return await self._pool.run(Role.INDEXING, work)
        except (Conflict, OutcomeUnknown) as error:
            raise Unavailable(str(error)) from error

    def _transaction(self, session: Session) -> AbstractAsyncContextManager[None]:
        """Return a transaction beside which no other one writes to the index."""
        lock = f"SELECT pg_advisory_xact_lock({self._lock});"
        first = f"{lock} {PLANS} SET LOCAL synchronous_commit = off"
        return session.transaction(LOCK_SECONDS, first=first)

    async def _bring_up(self, session: Session) -> None:
        schema = self._pool.schema
        async with self._transaction(session):
            ((version,),) = await session.fetch("search_version", f"{schema}.search_logs")
            if version != VERSION:
                await session.execute(in_schema(TABLES, schema))

    async def _write(self, steps: Sequence["_Step"], session: Session) -> int:
        applied = 0
        async with self._transaction(session):
            for batch in _batches(steps):
                applied += await _apply(batch, session)
        return applied

    async def _find(self, asked: "_Asked", limit: int, session: Session) -> list[Found]:
        timeout = f"SET LOCAL statement_timeout = {max(1, round(self._find_seconds * 1000))};"
        first = f"{timeout} {PLANS}"
        async with session.transaction(LOCK_SECONDS, first=first):
            newest, candidates = self._first_limits
            while True:
                rows = await session.fetch("search_newest", *asked.newest(newest), limit)
                is_more, place, *_ = rows[-1]
                if not is_more or (len(rows) == limit and place is not None):
                    return _found(rows)
                rows = await session.fetch("search_by_words", *asked.by_words(candidates), limit)
                if rows[0][0] <= candidates:
                    return _found(rows)
                newest, candidates = newest * GROWTH, candidates * GROWTH


def _found(rows: Sequence[Row]) -> list[Found]:
    """Return the entries of rows whose first column is of the search; one without any has nulls."""
    return [
        Found(place, given_text(conversation_id), event_id)
        for _, place, conversation_id, event_id in rows
        if conversation_id is not None
    ]


class _Step:
    """A change, in the form in which its entries are stored."""

    def __init__(self, change: LogChange) -> None:
        self.change = change
        self.name = stored_text(change.conversation_id)
        self.number = number_of(change.conversation_id)
        self.owner = _number_of_owner(change.after.owner)
        self.words = [_stored_words(entry.text) for entry in change.entries]
        self.dropped: Collection[int] = ()
        if change.before is not None:
            self.dropped = {entry.event_id for entry in change.entries}.union(change.withdrawn)

    def wanted(self) -> Iterator[int]:
        """Yield where its entries would stand if no place was taken."""
        for entry in self.change.entries:
            yield first_place(self.change.conversation_id, entry.moment)

    def places(self, taken: Mapping[tuple[int, int], int]) -> Iterator[int]:
        """Yield the place of each entry, beside those taken, which are given with the next one behind."""
        first = place = -1
        for entry in self.change.entries:
            wanted = first_place(self.change.conversation_id, entry.moment)
            first, place = wanted, place + 1 if wanted == first else wanted
            while (self.owner, place) in taken:
                place = taken[self.owner, place]
            yield place


class _Asked(NamedTuple):
    """The parameters of a search."""

    owner: tuple[int, str | None]
    places: tuple[int, int]
    patterns: Sequence[str]
    log: int | None
    source: str | None
    kind: str | None
    words: str

    @classmethod
    def of(cls, query: SearchQuery) -> Self:
        """Return those of a query; none of its words is syntax, for words are letters, digits and marks."""
        owner = _number_of_owner(query.owner)
        log = None if query.conversation_id is None else number_of(query.conversation_id)
        filters = {"=o": owner, "=c": log, "=s": query.source, "=k": query.kind}
        phrases = [*map(_shortened, query.phrases)]
        terms = [f"'{sign}{value}'" for sign, value in filters.items() if value is not None]
        terms += [term for phrase in phrases for term in _terms(phrase)]
        return cls(
            owner=(owner, None if query.owner is None else stored_text(query.owner)),
            places=(
                0 if query.since is None else place_at(query.since),
                MAX_PLACE if query.below is None else query.below,
            ),
            patterns=[f"% {' '.join(one.words)}{'' if one.prefix else ' '}%" for one in phrases],
            log=log,
            source=query.source,
            kind=query.kind,
            words=" & ".join(dict.fromkeys(terms)),
        )

    def newest(self, looked_at: int) -> Iterator[object]:
        """Yield the parameters of `search_newest` but for the last."""
        yield from (*self.owner, *self.places, self.patterns)
        yield from (self.log, self.source, self.kind, looked_at)

    def by_words(self, candidates: int) -> Iterator[object]:
        """Yield the parameters of `search_by_words` but for the last."""
        yield from (*self.owner, *self.places, self.patterns, self.words, candidates)


def _terms(phrase: Phrase) -> Iterator[str]:
    for word in phrase.words[:-1]:
        yield f"'{word}'"
    yield f"'{phrase.words[-1]}'{':*' if phrase.prefix else ''}"


def _stored_words(text: str) -> str:
    """Return the words of a text as they are stored."""
    words = " ".join(_short(word) for word in words_of(text))
    if len(words) > MAX_WORDS_BYTES // 4:
        whole = words.encode()[:MAX_WORDS_BYTES].decode(errors="ignore")
        words = whole if len(whole) == len(words) else whole.rpartition(" ")[0]
    return f" {words} "


def _short(word: str) -> str:
    """Return a word in a form of limited length, the same for the same word only."""
    if len(word) <= LONG_WORD:
        return word
    digest = hashlib.sha256(word.encode()).hexdigest()
    return f"{word[:KEPT_OF_LONG_WORD]}{digest}"


def _shortened(phrase: Phrase) -> Phrase:
    *words, last = phrase.words
    # The beginning of a long word is known by what is kept of it, and may so find others as well.
    last = last[:KEPT_OF_LONG_WORD] if phrase.prefix else _short(last)
    return phrase._replace(words=(*map(_short, words), last))


def _number_of_owner(owner: str | None) -> int:
    return NO_OWNER if owner is None else number_of(owner)


def _lock_of(schema: str) -> int:
    """Return the number of the lock under which the index of a schema is written."""
    return number_of(f"parley search index of {schema}")


def _batches(steps: Iterable[_Step]) -> Iterator[Sequence[_Step]]:
    """Yield the steps in their order, no conversation twice in one batch."""
    batch: dict[int, _Step] = {}
    for step in steps:
        if step.number in batch:
            yield [*batch.values()]
            batch = {}
        batch[step.number] = step
    if batch:
        yield [*batch.values()]


async def _states(conversation_ids: Iterable[str], session: Session) -> dict[str, LogState]:
    rows = await session.fetch("search_states", [*map(stored_text, conversation_ids)])
    return {
        given_text(name): LogState(
            *(_given(owner), next_id, given_text(epoch), mark, _given(title))
        )
        for name, owner, next_id, epoch, mark, title in rows
    }


async def _apply(batch: Sequence[_Step], session: Session) -> int:
    """Apply those changes of a batch that fit the state of the index; return how many."""
    known = await _states([step.change.conversation_id for step in batch], session)
    fitting = [
        step
        for step in batch
        if step.change.before in (None, known.get(step.change.conversation_id))
    ]
    anew = [step.name for step in fitting if step.change.before is None]
    if anew:
        await session.fetch("search_erase", anew)
    dropped = [(step.number, event_id) for step in fitting for event_id in step.dropped]
    if dropped:
        await session.fetch("search_drop", *map(list, zip(*dropped, strict=True)))
    if fitting:
        logs = zip(*map(_log_row, fitting), strict=True)
        await session.fetch("search_save", *map(list, logs))
    rows = await _entry_rows(fitting, session)
    if rows:
        await session.fetch("search_add", *map(list, zip(*rows, strict=True)))
    return len(fitting)


def _log_row(step: _Step) -> tuple[object, ...]:
    after = step.change.after
    return (
        *(step.number, step.name, _stored(after.owner), after.next_id),
        *(stored_text(after.epoch), after.mark, _stored(after.title)),
    )


async def _entry_rows(steps: Sequence[_Step], session: Session) -> list[tuple[Any, ...]]:
    """Return the rows of all entries, each at a place of its own."""
    rows: list[tuple[Any, ...]] = []
    taken: dict[tuple[int, int], int] = {}
    asked: set[tuple[int, int]] = set()
    # Those after the first of one moment follow it: of many that are taken the end is asked for once.
    unasked = {(step.owner, place) for step in steps for place in step.wanted()}
    while unasked:
        owners, places = zip(*unasked, strict=True)
        for owner, place, following in await session.fetch("search_taken", [*owners], [*places]):
            taken[owner, place] = following
        asked |= unasked
        own = dict(taken)
        rows.clear()
        for step in steps:
            for entry, words, place in zip(
                step.change.entries, step.words, step.places(own), strict=True
            ):
                own[step.owner, place] = place + 1
                rows.append(
                    (
                        *(step.owner, place, step.number, entry.event_id),
                        *(entry.source, entry.kind.value, words),
                    )
                )
        unasked = {(owner, place) for owner, place, *_ in rows} - asked
    return rows


def _stored(text: str | None) -> str | None:
    return None if text is None else stored_text(text)


def _given(text: str | None) -> str | None:
    return None if text is None else given_text(text)
