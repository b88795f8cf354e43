"""A conversation's record as a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.conversations.metadata import FOLDED_FIELDS, ConversationMetadata, MetadataChange
from storage.errors import Damaged
from storage.files.format import checked_body, with_checksum

_KIND = "record"


@dataclass(slots=True)
class Document:
    """The stored data of a conversation besides its log.

    `record` is None before it is saved, `fold` before the log has events; values of a fold override
    the record's. A deleted conversation has neither.
    """

    record: ConversationMetadata | None = None
    fold: dict[str, Any] | None = None
    deleted: bool = False

    def visible(self) -> ConversationMetadata | None:
        """Return an independent copy of the record as users see it."""
        return None if self.record is None else self.record.checked_copy(**(self.fold or {}))

    def add(self, values: Mapping[str, Any]) -> None:
        """Apply newer values of the fold, None meaning unchanged; they override the record's."""
        if self.fold is None:
            begin = self.record or MetadataChange()
            self.fold = {name: getattr(begin, name) for name in sorted(FOLDED_FIELDS)}
        known = {name: value for name, value in values.items() if value is not None}
        self.fold |= MetadataChange.model_validate(known).values()

    @property
    def last_updated_at(self) -> datetime | None:
        """Time of the newest event, if there is one with a time."""
        return self.fold["last_updated_at"] if self.fold else None

    @property
    def last_message_at(self) -> datetime | None:
        """Time of the newest message, if there is one."""
        return self.fold["last_message_at"] if self.fold else None

    def encode(self) -> bytes:
        """Return the content of its file."""
        record = "null" if self.record is None else self.record.model_dump_json()
        change = None if self.fold is None else MetadataChange.model_validate(self.fold)
        fold = "null" if change is None else change.model_dump_json(exclude_unset=True)
        deleted = "true" if self.deleted else "false"
        body = f'{{"record":{record},"fold":{fold},"deleted":{deleted}}}\n'
        return with_checksum(_KIND, body.encode())

    @classmethod
    def decode(cls, key: str, content: bytes) -> Self:
        """Read a file's content. Raises Damaged."""
        body = checked_body(_KIND, content, key)
        try:
            stored = _Stored.model_validate_json(body)
        except ValidationError as error:
            raise Damaged(f"{key} cannot be read") from error
        fold = None if stored.fold is None else stored.fold.values()
        if fold is not None:  # where an older version did not say, the last event stands for it
            fold.setdefault("last_message_at", fold.get("last_updated_at"))
        return cls(stored.record, fold, stored.deleted)


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    record: ConversationMetadata | None
    fold: MetadataChange | None
    deleted: bool
