"""Errors of the events floor.

EventsError
├── BadEvent                 a payload is not an acceptable event (carries a machine-readable code)
│   ├── BadRecording         a recorded conversation cannot be acted out again
│   └── EventTooLarge        an event has more bytes than are stored of one
├── EventNotFound            no event of that id
├── ConversationDeleted      the log carries a tombstone; its id is never used again
├── AppendConflict           another writer took the expected id; nothing was written
├── Fenced                   another holds the log's loop now; nothing was written
├── MasksChanged             masks were added since the events were made; nothing was written
├── DuplicateClientId        keys of the batch are in the log already; nothing was written
├── AppendFailed             the write did not happen
│   └── StoreFull            the store has no room for it
├── AppendUnknown            the write may or may not have happened (deadline, lost connection)
├── StoreUnavailable         a read could not be answered
├── DamagedRecord            a stored record fails its checksum or has an unknown format version
│   └── DamagedHead          the end of a log is not known: its head and its events disagree
├── NewerFormat              a log was written by a newer version; nothing of it is touched
├── TooManyPartials          a stream has as many open partials as it may have
├── TextTooLong              a partial has as many characters as it may have; nothing was taken
├── PartialOver              a partial takes no more text: its event is appended, or it was dropped
├── BadCursor                a text is no cursor of a reader
├── StreamOverloaded         too many appends of one conversation are waiting; nothing was taken
└── StreamClosed             the stream takes no more events
    └── LogShortened         the log ends before events that were committed, and is opened anew
"""

from collections.abc import Mapping, Sequence

from events.event import StoredEvent


class EventsError(Exception):
    """Base class of the errors of `events`."""


class BadEvent(EventsError):
    """The event is invalid; `code` is stable and machine-readable, the text is for people."""

    def __init__(self, message: str, *, code: str = "bad_event") -> None:
        super().__init__(message)
        self.code = code


class BadRecording(BadEvent):
    """The recording cannot be replayed; the text gives the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_replay")


class EventTooLarge(BadEvent):
    """The event exceeds the maximum size of a stored event; it was not stored."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The event has {size:,} bytes, but an event may have at most {limit:,}",
            code="event_too_large",
        )


class EventNotFound(EventsError):
    """The log has no event with this id."""


class ConversationDeleted(EventsError):
    """The conversation's log carries a tombstone."""


class AppendConflict(EventsError):
    """The log's next id is not the expected one; nothing was written."""


class Fenced(EventsError):
    """Another holds the log's loop now; nothing was written, and nothing of this holder will be."""


class MasksChanged(EventsError):
    """Masks were added since the events were made; nothing was written.

    `version` is that of the masks under which the log takes events.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"events must be masked as of version {version}")
        self.version = version


class DuplicateClientId(EventsError):
    """Some keys of the batch are in the log already; nothing was written.

    `taken` maps the position in the batch (from 0) to the id of the event that holds its key.
    """

    def __init__(self, taken: Mapping[int, int]) -> None:
        super().__init__(f"{len(taken)} idempotency key(s) are taken")
        self.taken = dict(taken)


class AppendFailed(EventsError):
    """The write did not happen and will not."""


class StoreFull(AppendFailed):
    """The store has no room for the write, which did not happen."""


class AppendUnknown(EventsError):
    """The write may have happened; the end of the log must be read back."""


class StoreUnavailable(EventsError):
    """The store did not answer a read."""


class DamagedRecord(EventsError):
    """Stored records fail their checksum or version: `first_id` to `last_id`, both inclusive.

    `sound` holds the events of the range asked for that could be read, ascending.
    """

    def __init__(
        self, conversation_id: str, first_id: int, last_id: int, sound: Sequence[StoredEvent] = ()
    ) -> None:
        super().__init__(f"damaged records {first_id}-{last_id} in conversation {conversation_id}")
        self.conversation_id = conversation_id
        self.first_id = first_id
        self.last_id = last_id
        self.sound = sound


class DamagedHead(DamagedRecord):
    """The end of a log is not known, so that no event of it can be named with certainty."""


class NewerFormat(EventsError):
    """A whole record of a log was written by a newer version; nothing of the log is touched."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the log is from a newer version (format {found}, this one reads {known})"
        )


class StreamOverloaded(EventsError):
    """Too many appends are waiting; none of this request's events was accepted."""


class TooManyPartials(EventsError):
    """As many texts of the stream are being written as may be at a time."""


class TextTooLong(EventsError):
    """The partial text has reached its maximum length; nothing was added."""


class PartialOver(EventsError):
    """The partial takes no more text."""


class BadCursor(EventsError):
    """The text is not a cursor; the message gives the reason."""


class StreamClosed(EventsError):
    """The stream is closed and accepts no more events."""


class LogShortened(StreamClosed):
    """Events of the log that were committed are gone from its end: `first_id` to `last_id`, inclusive.

    A failover to a standby that did not have them yet does that. What is read and told of the log
    from now on is what there is; its ids from `first_id` on are given again.
    """

    def __init__(self, conversation_id: str, first_id: int, last_id: int) -> None:
        super().__init__(f"the log of {conversation_id} has lost its events {first_id}-{last_id}")
        self.conversation_id = conversation_id
        self.first_id = first_id
        self.last_id = last_id
