"""The order, the filters and the cursor of a list of conversations; the same for every store."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationTrigger,
    Text,
    UtcDatetime,
)
from storage.errors import BadCursor, BadKey, BadValue
from storage.keys import check_conversation_id
from storage.result_set import decode_cursor, encode_cursor
from storage.unicode_text import fold_case

LETTERS = 3
"""A text shorter than this is looked up as the beginning of so many letters, or as a part."""
ASKED = 32
"""Maximum number of trigrams looked up of a long text; matches are verified afterwards."""


def trigrams_of(text: str) -> set[str]:
    """Return every run of three letters; of a shorter text the whole."""
    return {text[place : place + LETTERS] for place in range(max(len(text) - LETTERS, 0) + 1)}


def match_all(threes: Iterable[str]) -> str:
    """Return the full-text expression for titles with all of the trigrams; matches none if empty.

    An expression cannot contain NUL, so trigrams with it are left out.
    """
    return " AND ".join(_quoted(three) for three in threes if "\0" not in three) or _quoted("")


def match_any(threes: Iterable[str]) -> str:
    """Return the full-text expression for titles with any of the trigrams; none if empty."""
    return " OR ".join(map(_quoted, threes)) or _quoted("")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


MAX_LIMIT = 100
DEFAULT_LIMIT = 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ListOrder(StrEnum):
    """The sort key of a list, the newest first."""

    CREATED = "created_at"
    LAST_MESSAGE = "last_message_at"


_KINDS = {ListOrder.CREATED: "conversations", ListOrder.LAST_MESSAGE: "conversations by message"}
"""The kind of each order's page ids, so that one order refuses those of the other."""


class ListPosition(NamedTuple):
    """A record's position in a list; lists run from the greatest position to the least.

    `moment` is the time by which the list is sorted.
    """

    moment: datetime
    conversation_id: str

    @classmethod
    def of(cls, metadata: ConversationMetadata, order: ListOrder = ListOrder.CREATED) -> Self:
        """Return the position of a record in lists of that order.

        A record without messages counts with its creation.
        """
        moment = metadata.last_message_at if order is ListOrder.LAST_MESSAGE else None
        return cls(moment or metadata.created_at, metadata.conversation_id)

    def to_page_id(self, order: ListOrder = ListOrder.CREATED) -> str:
        """Return the opaque page id of the page after this position."""
        microseconds = (self.moment - _EPOCH) // _MICROSECOND
        return encode_cursor(_KINDS[order], (microseconds, self.conversation_id))

    @classmethod
    def from_page_id(cls, page_id: str | None, order: ListOrder = ListOrder.CREATED) -> Self | None:
        """Return the position after which a page begins; None and "" mean the first page.

        Raises BadCursor for everything that `to_page_id` does not return for that order.
        """
        if not page_id:
            return None
        microseconds, conversation_id = decode_cursor(page_id, _KINDS[order], (int, str))
        try:
            moment = _EPOCH + timedelta(microseconds=microseconds)
            return cls(moment, check_conversation_id(conversation_id))
        except (OverflowError, BadKey) as error:
            raise BadCursor("Not a page id of this list") from error


class ConversationFilter(BaseModel):
    """The conditions on listed records, and the list's order; None leaves a criterion out.

    `title_contains` looks into the stored title, both in the form of `fold_case`; a record without
    a title contains nothing. `updated_since` (aware, inclusive) is compared with
    `last_updated_at`, or with `created_at` where that is None. A list for all owners is in the
    order of creation whatever `order` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    selected_repository: Text | None = None
    trigger: ConversationTrigger | None = None
    title_contains: Text | None = None
    updated_since: UtcDatetime | None = None
    order: ListOrder = ListOrder.CREATED

    def accepts(self, metadata: ConversationMetadata) -> bool:
        """Tell whether the record is listed."""
        return (
            self.selected_repository in (None, metadata.selected_repository)
            and self.trigger in (None, metadata.trigger)
            and (self.title_contains is None or self._is_in(metadata.title))
            and (
                self.updated_since is None
                or (metadata.last_updated_at or metadata.created_at) >= self.updated_since
            )
        )

    def _is_in(self, title: str | None) -> bool:
        return title is not None and fold_case(self.title_contains or "") in fold_case(title)


EVERYTHING = ConversationFilter()


def check_limit(limit: int) -> int:
    """Return `limit` when it is 1..100. Raises BadValue."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadValue(f"limit must be between 1 and {MAX_LIMIT}")
    return limit
