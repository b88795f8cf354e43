"""`/api/search`: full-text search over the user's conversations."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from events.event import EventSource
from events.search.finder import Finder, Result
from events.search.said import microseconds_of, time_of
from server.errors import NotSupported
from server.routes.endpoint import Tag, described
from server.routes.request import (
    ConversationId,
    JsonResponse,
    Moment,
    Query,
    ResponseBody,
    owner_of,
    read_query,
)
from server.routes.services import Services
from storage.conversations.metadata import ConversationMetadata, default_title
from storage.conversations.paging import DEFAULT_LIMIT, MAX_LIMIT
from storage.errors import BadCursor, SearchBusy, SearchTooSlow
from storage.keys import check_conversation_id
from storage.result_set import decode_cursor, encode_cursor
from storage.search.base import MAX_PLACE, TITLE_ID, EntryKind, SearchQuery
from storage.search.words import phrases_of
from storage.unicode_text import one_line

MAX_QUERY = 200
CURSOR = "search"
"""The kind of the cursor."""


class FindQuery(Query):
    """The words to look for, and the place."""

    q: str = Field(min_length=1, max_length=MAX_QUERY)
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    cursor: Annotated[str, Field(json_schema_extra={"format": "search-cursor"})] | None = None
    conversation_id: ConversationId | None = None
    source: EventSource | None = None
    kind: EntryKind | None = None
    since: Moment | None = None
    prefix: bool = False


class SnippetPiece(ResponseBody):
    """Part of a snippet; `found` where it is what was searched for."""

    text: str
    found: bool


class SearchResult(ResponseBody):
    """A title or an event that was found; a title has no `event_id` and no `source`."""

    conversation_id: str
    title: str
    kind: EntryKind
    event_id: int | None
    source: EventSource | None
    timestamp: datetime
    snippet: list[SnippetPiece]


class SearchResults(ResponseBody):
    """One page of results; `next_cursor` is null on the last one."""

    results: list[SearchResult]
    next_cursor: str | None


class SearchRoutes:
    """The endpoint of full-text search."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(
        Tag.CONVERSATIONS,
        query=FindQuery,
        answer=SearchResults,
        raises=(BadCursor, SearchBusy, SearchTooSlow, NotSupported),
    )
    async def find(self, request: Request) -> Response:
        """Search titles, messages, thoughts and outputs, newest first.

        Results contain every word of `q`, and every text in double quotes as it is; case and accents
        make no difference, and with `prefix` the last word may go on. Without a word in `q` nothing is
        found. What was said in the last second may be missing. A page may have fewer than `limit`
        results and be followed by another.
        """
        query = read_query(request, FindQuery)
        finder = self._finder()
        asked = SearchQuery(
            owner=owner_of(request),
            phrases=phrases_of(query.q, prefix=query.prefix),
            conversation_id=query.conversation_id and check_conversation_id(query.conversation_id),
            source=query.source,
            kind=query.kind,
            since=None if query.since is None else microseconds_of(query.since),
            below=None if query.cursor is None else place_in(query.cursor),
        )
        page = await finder.find(asked, query.limit)
        cursor = None if page.below is None else cursor_behind(page.below)
        return JsonResponse(SearchResults(results=_shown(page.results), next_cursor=cursor))

    def _finder(self) -> Finder:
        if self._services.finder is None:
            raise NotSupported(
                "This server has no index for full-text search: its storage has none of its own,"
                " and no search_dir is set"
            )
        return self._services.finder


def cursor_behind(place: int) -> str:
    """Return the cursor of the page behind a place of the index."""
    return encode_cursor(CURSOR, (place,))


def place_in(cursor: str) -> int:
    """Return the place in a cursor. Raises BadCursor for what `cursor_behind` does not return."""
    (place,) = decode_cursor(cursor, CURSOR, (int,))
    if not 0 <= place <= MAX_PLACE:
        raise BadCursor("Not a cursor of a search")
    return int(place)


def _shown(results: Sequence[Result]) -> list[SearchResult]:
    return [
        SearchResult(
            conversation_id=record.conversation_id,
            title=_title_of(record),
            kind=entry.kind,
            event_id=None if entry.event_id == TITLE_ID else entry.event_id,
            source=EventSource(entry.source) if entry.source else None,
            timestamp=time_of(entry.moment),
            snippet=[SnippetPiece(text=text, found=found) for text, found in snippet],
        )
        for entry, record, snippet in results
    ]


def _title_of(record: ConversationMetadata) -> str:
    return one_line(record.title or "") or default_title(record.conversation_id)
