"""The entries of lists."""

from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import TypeAlias

from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ListPosition
from storage.unicode_text import fold_case

ListName: TypeAlias = tuple[str | None, str, str | None]
"""The name of a list: owner, criterion and value."""
EVERYBODY: ListName = (None, "everybody", None)
"""The list of all owners together."""

POSITION = attrgetter("position")
MESSAGED = attrgetter("messaged")


class ListEntry:
    """A record's positions in lists, and its fields used by filters.

    `position` is for lists by creation, `messaged` for lists by last message. `title` is
    case-folded; `block` is the entry's block in the storage, if any.
    """

    __slots__ = (
        "block",
        "messaged",
        "owner",
        "position",
        "repository",
        "title",
        "trigger",
        "updated",
    )

    def __init__(
        self,
        block: int,
        position: ListPosition,
        owner: str | None,
        repository: str | None,
        trigger: str | None,
        title: str | None,
        updated: datetime,
        messaged: datetime,
    ) -> None:
        self.block = block
        self.position = position
        self.owner = owner
        self.repository = repository
        self.trigger = trigger
        self.title = title
        self.updated = updated
        self.messaged = ListPosition(messaged, position.conversation_id)

    @classmethod
    def of(cls, record: ConversationMetadata, block: int = 0) -> "ListEntry":
        """Return the entry of a record, in that block."""
        title = None if record.title is None else fold_case(record.title)
        updated = record.last_updated_at or record.created_at
        place = ListPosition.of(record)
        trigger = None if record.trigger is None else record.trigger.value
        return cls(
            block,
            place,
            record.user_id,
            record.selected_repository,
            trigger,
            title,
            updated,
            record.last_message_at or record.created_at,
        )

    def facts(self) -> tuple[object, ...]:
        """Return all that it says of its record, and its block."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def lists(self) -> Iterable[ListName]:
        """Yield the lists that contain the entry."""
        yield EVERYBODY
        yield self.owner, "all", None
        if self.repository is not None:
            yield self.owner, "repository", self.repository
        if self.trigger is not None:
            yield self.owner, "trigger", self.trigger
