"""Errors of the server floor, and the one table of how every error is answered.

ServerError
├── BadRequest            the request is malformed; the text says how
├── Unauthorized          nobody known asks, or another key is missing or wrong
│   └── SessionKeyRequired    the session key is missing or wrong
├── GitTokenRequired      a git host would have to be asked, and no token for one is stored
├── Forbidden             the request came from a host or origin that is not allowed
├── NotFound              no such route, file or record
├── Gone                  what was here once is not offered any more
├── InvalidToken          no git host gives out such tokens
├── SettingsNotStored     the storage did not take the settings
├── UnsupportedMedia      the body is not of the type the route takes
├── TooLarge              the body exceeds the bound
├── HeadTooLarge          the request's line and fields exceed the bound
├── UpgradeRequired       a websocket was asked for in a version that is not spoken
├── SettingsNotFound      nothing is stored and the server requires settings
├── ModelKeyMissing       the agent declares a model and no API key is set
├── ApprovalNotFound      the conversation has no such approval
├── AlreadyDecided        an approval is not open any more; the text says who decided it, and when
├── ApprovalExpired       an approval is open, and has to be asked again before it can be decided
├── BadEdit               a person's changes do not fit the action; the text names the argument
├── RateLimited           too much was asked for in a short time
├── TooSlow               a request did not come in time
├── NotAvailable          the server is stopping, or a deadline passed
│   └── NodeSilent            another process of the server does not answer
├── Refused               a Socket.IO handshake is refused with the message that clients know
└── NotSupported          the server does not offer this
"""

import re
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from events.errors import (
    AppendFailed,
    AppendUnknown,
    BadCursor,
    BadEvent,
    ConversationDeleted,
    DamagedRecord,
    EventNotFound,
    EventsError,
    NewerFormat,
    StoreFull,
    StoreUnavailable,
    StreamClosed,
    StreamOverloaded,
)
from runtime_stub.errors import (
    BadWorkspacePath,
    FileMissing,
    NotText,
    RuntimeFloorError,
    RuntimeUnavailable,
    WorkspaceError,
)
from storage.errors import (
    BadValue,
    ConversationNotFound,
    Damaged,
    KeyExists,
    NewerFormat as NewerRecord,
    SearchBusy,
    SearchTooSlow,
    SecretExists,
    SecretNotFound,
    StorageError,
    StorageFull,
    WrongKey,
)

LONGEST_TEXT = 65_536
"""Characters of an error's text that are read at most."""
NO_TEXT = "(its text cannot be made)"

_SURROGATES = re.compile("[\ud800-\udfff]")


class ServerError(Exception):
    """Base class of the server's errors; the text is for people."""


class BadRequest(ServerError):
    """The request is malformed."""


class Unauthorized(ServerError):
    """A key is missing or wrong, or the user is not known."""


class SessionKeyRequired(Unauthorized):
    """The session key is missing or wrong."""


class GitTokenRequired(ServerError):
    """The request needs a git host, and no token for one is stored."""


class Forbidden(ServerError):
    """The request came from a host or origin that is not allowed."""


class NotFound(ServerError):
    """No such route, file or record."""


class Gone(ServerError):
    """This endpoint of an earlier version was removed."""


class InvalidToken(ServerError):
    """The token cannot be one of a git host."""


class SettingsNotStored(ServerError):
    """The settings could not be stored; the text is the cause, for the log."""


class UnsupportedMedia(ServerError):
    """The body is not of the type that the endpoint accepts."""


class TooLarge(ServerError):
    """The body exceeds its size limit."""


class HeadTooLarge(ServerError):
    """The request line and headers exceed their size limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request line and headers exceed {limit // 1024} KiB")


class UpgradeRequired(ServerError):
    """The client asked for an unsupported version of the websocket protocol."""


class SettingsNotFound(ServerError):
    """Nothing is stored and the server requires settings."""


class ModelKeyMissing(ServerError):
    """The agent declares a model and no API key is set."""


class ApprovalNotFound(ServerError):
    """The conversation's agent has asked about no action of that id."""


class AlreadyDecided(ServerError):
    """The approval was decided before, or is not open any more."""


class ApprovalExpired(ServerError):
    """The approval has expired, and has to be asked again before it can be decided."""


class BadEdit(ServerError):
    """The changes do not fit the action; the text names the argument."""


class RateLimited(ServerError):
    """The client exceeded a rate limit; it may try again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many requests; try again in {seconds:.3g} s")
        self.seconds = seconds


class TooSlow(ServerError):
    """The request was not received in time."""


class NotAvailable(ServerError):
    """The server is stopping, or a deadline passed."""


class NodeSilent(NotAvailable):
    """Another process does not do what is asked of it; the text names it."""

    def __init__(self, node: str | None) -> None:
        super().__init__(f"The server's process {node or 'that holds the loop'} does not answer")


class NotSupported(ServerError):
    """The server does not offer this."""


class ErrorBody(BaseModel):
    """The body of every REST error: a text for people, twice, a stable code, the page's message id."""

    model_config = ConfigDict(frozen=True)

    error: str
    message: str
    code: str
    msg_id: str | None = None


WRONG_KEY = "invalid_session_api_key"
"""The message of a handshake refused for its key."""


class Refused(ServerError):
    """A handshake is refused with this message; `data` is sent beside the message."""

    def __init__(self, message: str, data: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.data = data


class Answer(NamedTuple):
    """An error as clients see it: HTTP status, stable code, text for people, message id of the page."""

    status: int
    code: str
    text: str
    msg_id: str | None = None

    def body(self) -> dict[str, str]:
        """Return the body of the REST error."""
        told = ErrorBody(error=self.text, message=self.text, code=self.code, msg_id=self.msg_id)
        return told.model_dump(exclude_none=True)


NOT_FOUND = Answer(
    404, "conversation_not_found", "Conversation not found", "CONVERSATION$NOT_FOUND"
)

INTERNAL = Answer(500, "internal_error", "Internal error")

FULL = "The storage is full; nothing was stored. Try again when there is room"

# Walked from the top: the first class that fits decides. A text of None is the error's own.
TABLE: tuple[tuple[type[Exception], Answer | tuple[int, str] | tuple[int, str, str]], ...] = (
    (ConversationDeleted, NOT_FOUND),
    (ConversationNotFound, NOT_FOUND),
    (BadEvent, (400, "bad_event")),
    (BadCursor, (400, "bad_cursor")),
    (BadValue, (400, "bad_value")),
    (EventNotFound, (404, "event_not_found")),
    (StreamOverloaded, (503, "overloaded")),
    (StreamClosed, (503, "closing", "The conversation is being closed; try again")),
    (
        AppendUnknown,
        (503, "outcome_unknown", "The outcome is unknown; send the event again with the same key"),
    ),
    (StoreFull, (507, "storage_full", FULL)),
    (AppendFailed, (503, "not_stored", "The event could not be stored; try again")),
    (DamagedRecord, (500, "damaged", "Stored events are damaged")),
    (
        NewerFormat,
        (500, "newer_format", "Stored events were written by a newer version of the server"),
    ),
    (StoreUnavailable, (503, "storage_unavailable", "The storage is unavailable; try again")),
    (EventsError, (500, "internal_error", "Internal error")),
    (SecretExists, (400, "secret_exists")),
    (SecretNotFound, (404, "secret_not_found")),
    (KeyExists, (409, "exists")),
    (WrongKey, (500, "wrong_key", "What is stored was sealed with another key")),
    (
        NewerRecord,
        (500, "newer_format", "Stored data was written by a newer version of the server"),
    ),
    (Damaged, (500, "damaged", "The stored record is damaged")),
    (SearchBusy, (503, "search_busy")),
    (SearchTooSlow, (503, "search_too_slow")),
    (StorageFull, (507, "storage_full", FULL)),
    (StorageError, (503, "storage_unavailable", "The storage is unavailable; try again")),
    (FileMissing, (404, "file_not_found")),
    (NotText, (415, "not_text")),
    (BadWorkspacePath, (400, "bad_path")),
    (WorkspaceError, (400, "workspace_error")),
    (RuntimeUnavailable, (503, "runtime_unavailable")),
    (RuntimeFloorError, (500, "runtime_error")),
    (BadRequest, (400, "bad_request")),
    (
        SessionKeyRequired,
        Answer(
            401,
            "unauthorized",
            "The session API key is missing or wrong",
            "invalid_session_api_key",
        ),
    ),
    (Unauthorized, (401, "unauthorized")),
    (GitTokenRequired, (401, "git_token_required")),
    (Forbidden, (403, "forbidden")),
    (NotFound, (404, "not_found")),
    (Gone, (410, "gone")),
    (InvalidToken, (401, "invalid_token")),
    (SettingsNotStored, (500, "settings_not_stored", "Something went wrong storing settings")),
    (UnsupportedMedia, (415, "unsupported_media_type")),
    (TooLarge, (413, "too_large")),
    (HeadTooLarge, (431, "head_too_large")),
    (UpgradeRequired, (426, "upgrade_required")),
    (
        SettingsNotFound,
        Answer(400, "settings_not_found", "Settings not found", "CONFIGURATION$SETTINGS_NOT_FOUND"),
    ),
    (
        ModelKeyMissing,
        Answer(
            400,
            "model_key_missing",
            "Error authenticating with the LLM provider. Please check your API key",
            "STATUS$ERROR_LLM_AUTHENTICATION",
        ),
    ),
    (ApprovalNotFound, (404, "approval_not_found")),
    (AlreadyDecided, (409, "already_decided")),
    (ApprovalExpired, (409, "approval_expired")),
    (BadEdit, (422, "bad_edit")),
    (RateLimited, (429, "rate_limited")),
    (TooSlow, (408, "too_slow")),
    (NotAvailable, (503, "not_available")),
    (NotSupported, (501, "not_supported")),
    (TimeoutError, (503, "timeout", "The server did not answer in time; try again")),
)


def answer_of_kind(kind: type[Exception]) -> Answer:
    """Return the answer for errors of a class; its text is empty where the error brings its own."""
    for known, told in TABLE:
        if issubclass(kind, known):
            return told if isinstance(told, Answer) else Answer(*(*told, "")[:3])
    return INTERNAL


def answer_for(error: Exception) -> Answer:
    """Return the answer for an error; one not in the table is an internal error without details.

    An error's own text may be that of a custom class, so it is made one that can be sent.
    """
    for kind, told in TABLE:
        if isinstance(error, kind):
            if isinstance(told, Answer):
                return told
            if isinstance(error, BadEvent):
                return Answer(told[0], error.code, text_of(error))
            return Answer(told[0], told[1], told[2] if len(told) > 2 else text_of(error))  # noqa: PLR2004
    return INTERNAL


def text_of(error: BaseException) -> str:
    """Return an error's text as it can be stored: cut at LONGEST_TEXT, without lone surrogates."""
    try:
        text = str.__str__(str(error))
    except BaseException:  # noqa: BLE001 - an error of others may raise anything when asked
        return NO_TEXT
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text[:LONGEST_TEXT])
