"""Conversation records over a Database, as columns beside the head of the conversation's log."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias

from storage.conversations.base import DELETED_PAGE, ConversationStore, ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import (
    ASKED,
    DEFAULT_LIMIT,
    EVERYTHING,
    LETTERS,
    ConversationFilter,
    ListOrder,
    ListPosition,
    check_limit,
    match_all,
    match_any,
    trigrams_of,
)
from storage.database.base import Database, Row, Script, Statement, Steps, rerunnable
from storage.errors import (
    ConversationDeleted,
    ConversationNotFound,
    Damaged,
    OutcomeUnknown,
    OwnerConflict,
    Unavailable,
)
from storage.keys import check_conversation_id
from storage.reserve import making_room
from storage.unicode_text import fold_case

_LOG = logging.getLogger(__name__)

_COLUMNS = (
    "conversation_id",
    "user_id",
    "created_at",
    "title",
    "selected_repository",
    "selected_branch",
    "git_provider",
    "trigger",
    "pr_number",
    "llm_model",
    "sandbox_id",
    "conversation_version",
    "custom",
    "last_updated_at",
    "accumulated_cost",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "last_message_at",
)
"""Fields in the order of every query of `conversations.sql`."""

_JSON_COLUMNS = frozenset({"pr_number", "custom"})
_EMPTY: dict[Any, type[list[Any] | dict[Any, Any]]] = {"[]": list, "{}": dict}
_MOMENTS = ("created_at", "last_updated_at", "last_message_at")

FEW = 1_500
"""Maximum number of matches that are sorted; if more match, a scan in order fills a page soon."""

_DAMAGE = re.compile("[\udc80-\udcff].*", re.DOTALL)
"""Bytes that are no UTF-8, as the database gives them, and what follows."""

_BEFORE_ALL = ("~", "")
"""Sorts after every stored position, so a page after it begins with the newest record."""


class DatabaseConversationStores(ConversationStores):
    """The records of all owners in one database.

    `indexed` databases are asked for titles in a query of its own before the list. Others find titles
    in that of the list, but know the updates of all owners together.
    """

    def __init__(self, database: Database, *, indexed: bool = True) -> None:
        self._database = database
        self._indexed = indexed

    def for_user(self, user_id: str | None) -> "DatabaseConversationStore":
        """See ConversationStores."""
        return DatabaseConversationStore(self._database, user_id, indexed=self._indexed)

    async def search_all(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStores."""
        wanted = filters or EVERYTHING
        criteria = _criteria(wanted)

        def ask(begin: _Begin, count: int) -> Script[list[Row]]:
            parameters = (*begin, *criteria, count)
            if self._indexed or wanted.updated_since is None:
                return _ask(Statement("list_all_records", parameters))
            return _list_all_updated(_moment(wanted.updated_since), parameters)

        return await _page(self._database, ask, page_id, limit)

    async def deleted(self, after: str = "", limit: int = DELETED_PAGE) -> list[str]:
        """See ConversationStores."""
        asked = Statement("deleted_conversations", (after, limit))
        return [str(one) for (one,) in await self._database.read(_ask(asked))]

    async def relist(self) -> bool:
        """See ConversationStores. The index of titles, in one transaction; lists are queries."""
        if not self._indexed:  # the database keeps its own
            return False
        await self._database.write(_index_titles())
        return True


class DatabaseConversationStore(ConversationStore):
    """One owner's records in a database; the event store writes the folded columns."""

    folds_with_log: ClassVar[bool] = True

    def __init__(self, database: Database, user_id: str | None, *, indexed: bool = True) -> None:
        super().__init__(user_id)
        self._database = database
        self._indexed = indexed

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        check_conversation_id(metadata.conversation_id)
        await self._database.write(_save(self._owned(metadata)))

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore. Reads and writes in one transaction."""
        check_conversation_id(conversation_id)
        row = await self._database.write(_update(conversation_id, self.user_id, change))
        return _record_of(row)

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """See ConversationStore. Reads and writes in one transaction."""
        check_conversation_id(conversation_id)
        return await self._database.write(_give_title(conversation_id, self.user_id, title))

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        rows = await self._rows(self._lookup(conversation_id))
        if not rows:
            raise ConversationNotFound(conversation_id)
        return _record_of(rows[0])

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore. Leaves the tombstone on the head of the log."""
        check_conversation_id(conversation_id)
        await making_room(
            self._database.reserve,
            lambda: self._database.write(_delete(conversation_id, self.user_id)),
            (Unavailable, OutcomeUnknown),
        )

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore."""
        return bool(await self._rows(self._lookup(conversation_id)))

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore. A record that cannot be read is left out and logged."""
        wanted = filters or EVERYTHING
        criteria = _criteria(wanted)

        def ask(begin: _Begin, count: int) -> Script[list[Row]]:
            parameters = (self.user_id, *begin, *criteria, count)
            return _list(wanted, parameters, indexed=self._indexed)

        return await _page(self._database, ask, page_id, limit, wanted.order)

    async def get_all_metadata(self, conversation_ids: Sequence[str]) -> list[ConversationMetadata]:
        """See ConversationStore. One read of a consistent state."""
        wanted = [check_conversation_id(conversation_id) for conversation_id in conversation_ids]
        rows = await self._rows(Statement("read_records", (json.dumps(wanted), self.user_id)))
        found = {row[0]: row for row in rows}
        missing = next((key for key in wanted if key not in found), None)
        if missing is not None:
            raise ConversationNotFound(missing)
        return [_record_of(found[key]) for key in wanted]

    def _lookup(self, conversation_id: str) -> Statement:
        return Statement("read_record", (check_conversation_id(conversation_id), self.user_id))

    async def _rows(self, statement: Statement) -> list[Row]:
        return await self._database.read(_ask(statement))


_Begin: TypeAlias = tuple[Any, Any]
"""A place in a list as the database has it, text where it is sound: rows behind it are asked for."""


async def _page(
    database: Database,
    ask: Callable[[_Begin, int], Script[list[Row]]],
    page_id: str | None,
    limit: int,
    order: ListOrder = ListOrder.CREATED,
) -> ConversationMetadataResultSet:
    """Read a page.

    No page ends with a row whose position is damaged, since the next page begins there.
    """
    check_limit(limit)
    after = ListPosition.from_page_id(page_id, order)
    begin = _BEFORE_ALL if after is None else (_moment(after.moment), after.conversation_id)
    rows: list[Row] = []
    while True:
        count = limit + 1 - len(rows)
        found = await database.read(ask(begin, count))
        rows += found
        last = None
        while len(rows) > limit and (last := _page_id_behind(rows[limit - 1], order)) is None:
            del rows[limit - 1]
        if last is not None or len(found) < count:
            return ConversationMetadataResultSet(results=_readable(rows[:limit]), next_page_id=last)
        moment, conversation_id = _place_of(found[-1], order)
        begin = (_sound_begin_of(moment), _sound_begin_of(conversation_id))


@rerunnable
def _ask(statement: Statement) -> Steps[list[Row]]:
    return (yield statement).rows


@rerunnable
def _list(
    filters: ConversationFilter, parameters: Sequence[Any], *, indexed: bool
) -> Steps[list[Row]]:
    text = fold_case(filters.title_contains or "") if indexed else ""
    numbers = (yield from _find_titles(text)) if text else None
    if numbers is None and filters.updated_since is not None:
        numbers = yield from _find_updated(parameters[0], _moment(filters.updated_since))
    if numbers is None:
        return (yield Statement(_query_for(filters), parameters)).rows
    by_message = filters.order is ListOrder.LAST_MESSAGE
    query = "list_records_by_message_and_number" if by_message else "list_records_by_number"
    return (yield Statement(query, (*parameters, json.dumps(numbers)))).rows


@rerunnable
def _list_all_updated(since: str, parameters: Sequence[Any]) -> Steps[list[Row]]:
    rows = (yield Statement("find_all_updated", (since, FEW + 1))).rows
    if len(rows) > FEW:
        return (yield Statement("list_all_records", parameters)).rows
    numbers = json.dumps([number for (number,) in rows])
    return (yield Statement("list_all_records_by_number", (*parameters, numbers))).rows


def _find_titles(text: str) -> Steps[list[int] | None]:
    """Return the numbers of all that may have the text in their titles; None for too many."""
    if len(text) >= LETTERS:
        search = match_all(sorted(trigrams_of(text))[:ASKED])
    else:
        terms = (yield Statement("title_terms", (text,))).rows
        if sum(titles for _, titles in terms) > FEW:
            return None
        search = match_any(term for term, _ in terms)
    rows = (yield Statement("find_titles", (search, FEW + 1))).rows
    return None if len(rows) > FEW else [*{number for (number,) in rows}]


def _find_updated(user_id: str | None, since: str) -> Steps[list[int] | None]:
    """Return the numbers of all that were updated since then; None for too many."""
    rows = (yield Statement("find_updated", (user_id, since, FEW + 1))).rows
    return None if len(rows) > FEW else [number for (number,) in rows]


@rerunnable
def _save(record: ConversationMetadata) -> Steps[None]:
    key = record.conversation_id
    for owner, recorded, deleted in (yield Statement("read_claim", (key,))).rows:
        if deleted:
            raise ConversationDeleted(key)
        if recorded and owner != record.user_id:
            raise OwnerConflict(key)
    yield Statement("write_record", _values_of(record))


@rerunnable
def _update(conversation_id: str, user_id: str | None, change: MetadataChange) -> Steps[Row]:
    lookup = Statement("read_record", (conversation_id, user_id))
    rows = (yield lookup).rows
    if not rows:
        raise ConversationNotFound(conversation_id)
    yield Statement("write_record", _values_of(change.apply_to(_record_of(rows[0]))))
    return (yield lookup).rows[0]


@rerunnable
def _give_title(conversation_id: str, user_id: str | None, title: str) -> Steps[bool]:
    rows = (yield Statement("read_record", (conversation_id, user_id))).rows
    if not rows:
        raise ConversationNotFound(conversation_id)
    record = _record_of(rows[0])
    if record.title is not None:
        return False
    yield Statement("write_record", _values_of(record.checked_copy(title=title)))
    return True


@rerunnable
def _index_titles() -> Steps[None]:
    # Emptied first: a trigger takes the old form of a title out, which may not be in it.
    yield Statement("drop_titles")
    after = -1
    while rows := (yield Statement("titles_after", (after, FEW))).rows:
        for number, title, folded in rows:
            if isinstance(title, str) and folded != fold_case(title):
                yield Statement("fold_title", (fold_case(title), number))
        after = rows[-1][0]
    yield Statement("drop_titles")
    yield Statement("index_titles")


@rerunnable
def _delete(conversation_id: str, user_id: str | None) -> Steps[None]:
    if (yield Statement("read_record", (conversation_id, user_id))).rows:
        yield Statement("bury_conversation", (conversation_id, _moment(datetime.now(UTC))))


def _values_of(record: ConversationMetadata) -> list[Any]:
    folded = None if record.title is None else fold_case(record.title)
    return [*(_stored(name, getattr(record, name)) for name in _COLUMNS), folded]


def _stored(name: str, value: Any) -> Any:
    if name in _JSON_COLUMNS:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _moment(value) if isinstance(value, datetime) else value


def _moment(moment: datetime) -> str:
    # One width for all, so that the order of texts is the order of moments; the log writes the same.
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _query_for(filters: ConversationFilter) -> str:
    """Return the list's query that can use an index for the given order or filter."""
    if filters.order is ListOrder.LAST_MESSAGE:
        return "list_records_by_message"
    if filters.selected_repository is not None:
        return "list_records_by_repository"
    return "list_records" if filters.trigger is None else "list_records_by_trigger"


def _criteria(filters: ConversationFilter) -> tuple[str | None, ...]:
    title, since = filters.title_contains, filters.updated_since
    return (
        filters.selected_repository,
        filters.trigger,
        None if title is None else fold_case(title),
        None if since is None else _moment(since),
    )


def _place_of(row: Row, order: ListOrder) -> _Begin:
    message = row[-1] if order is ListOrder.LAST_MESSAGE else None
    return row[2] if message is None else message, row[0]


def _sound_begin_of(stored: Any) -> Any:
    """Return a text that sorts before all with the same damaged prefix, and after all valid ones.

    What is no text stays as it is: the database compares it with its like.
    """
    return _DAMAGE.sub("\x7f", stored) if isinstance(stored, str) else stored


def _page_id_behind(row: Row, order: ListOrder) -> str | None:
    """Return the id of the page after a row; None, and log it, if its position is damaged."""
    moment, conversation_id = _place_of(row, order)
    try:
        place = ListPosition(_read_moment(moment), check_conversation_id(conversation_id))
        return place.to_page_id(order)
    except (ValueError, TypeError, OverflowError) as error:
        _LOG.error("left out of a list: %r stands at no place: %s", conversation_id, error)
        return None


def _read_moment(stored: object) -> datetime:
    """Raises ValueError for what is no moment with an offset."""
    if not isinstance(stored, str):
        raise ValueError("no text")  # noqa: TRY004 - a value of a wrong type is as unreadable
    moment = datetime.fromisoformat(stored)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment


def _readable(rows: Sequence[Row]) -> list[ConversationMetadata]:
    records = []
    for row in rows:
        try:
            records.append(_record_of(row))
        except Damaged as damage:
            _LOG.error("left out of a list: %s", damage)
    return records


def record_problem(row: Row) -> str | None:
    """Return the problem of a row of the query `all_records`; None if there is none."""
    try:
        _record_of(row)
    except Damaged as damage:
        return str(damage)
    return None


def _record_of(row: Row) -> ConversationMetadata:
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        for name in _JSON_COLUMNS:
            stored = values[name]
            # Lists have many records, and almost all of them hold nothing here.
            values[name] = json.loads(stored) if stored not in _EMPTY else _EMPTY[stored]()
        for name in _MOMENTS:
            if values[name] is not None:
                values[name] = _read_moment(values[name])
        return ConversationMetadata.model_validate(values)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"the record of conversation {row[0]} cannot be read") from error
