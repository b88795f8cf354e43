"""Faults of a request to a model: whether they may pass, and the words for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic_ai.exceptions import (
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    UnexpectedModelBehavior,
    UserError,
)

from runtime_stub.llm.models import AnswerTooLong
from runtime_stub.turn import Reason, TurnFailed

LONGEST_WAIT = 60.0
"""Seconds that are waited at most because a provider says so."""
PASSING = frozenset((408, 409, 425, 429, 529))
"""Statuses below 500, and one of Anthropic's, after which the same request may succeed."""
NO_REQUEST = frozenset((HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND))
BUSY = frozenset((429, 503, 529))
TOO_LONG = (
    "context_length",
    "context length",
    "context window",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "too many tokens",
    "exceeds the maximum number of tokens",
)
"""Providers' words for a request that is longer than the model takes."""
NO_CREDIT = ("insufficient_quota", "insufficient credit", "credit balance")
NO_TOOLS = ("support tool", "support function")
NO_CREDIT_TEXT = (
    "The account at the provider of {model} has no credit left, or has used up its quota."
)
DECLINED_TEXT = "The provider does not let the model {model} answer this."
FORBIDDEN: Sequence[tuple[Sequence[str], Reason, str]] = (
    (
        ("unsupported_country", "region", "territory", "user location"),
        Reason.MODEL_FAILED,
        "The provider of {model} does not serve the country or region of this server.",
    ),
    (
        ("moderation", "flagged", "content policy", "content_policy", "guardrail"),
        Reason.MODEL_FAILED,
        DECLINED_TEXT,
    ),
    (
        ("quota", "billing", "credit", "balance", "spend"),
        Reason.MODEL_FAILED,
        NO_CREDIT_TEXT,
    ),
    (
        ("api key", "api_key", "api-key", "apikey", "credential"),
        Reason.MODEL_REFUSED_KEY,
        "The provider of {model} does not permit this request with this API key.",
    ),
    (
        ("model", "access", "permission"),
        Reason.MODEL_FAILED,
        "The account or the API key may not use the model {model}: its provider has to permit that.",
    ),
)
"""The meanings of a 403 by words of the provider's, the first that fits: a closed list, and nothing of theirs is quoted."""
FORBIDDEN_TEXT = (
    "The provider of {model} forbids the request (status 403): because of the key, the account, the"
    " region, or of what was asked."
)
DEEPEST = 8
"""Causes of an error that are looked at."""
SERVER_ERRORS = 500


class EmptyAnswer(Exception):
    """An answer has neither a word nor a call."""


class Declined(Exception):
    """The provider does not let the model answer."""


class Fault(NamedTuple):
    """The cause of a failed request.

    `passes` says that the same request may succeed, after `wait` seconds where the provider has
    named them; `text` is for people, and quotes nothing of the provider's.
    """

    reason: Reason
    text: str
    passes: bool = False
    wait: float | None = None
    too_long: bool = False

    def failure(self) -> TurnFailed:
        """Return the end of a turn for it."""
        return TurnFailed(self.text, self.reason)


def fault_of(error: Exception, model: str) -> Fault:
    """Return what an error in a request to that model means."""
    causes = [*_causes(error)]
    refused = next((one for one in causes if isinstance(one, ModelHTTPError)), None)
    if refused is not None:
        return _for_good(refused, model) or _for_now(refused, model)
    if any(isinstance(one, AnswerTooLong) for one in causes):
        text = f"The provider of {model} sends more than an answer may have."
        return Fault(Reason.MODEL_FAILED, text)
    if isinstance(error, TimeoutError):
        text = f"The model {model} did not answer in time."
        return Fault(Reason.MODEL_UNREACHABLE, text, passes=True)
    if _is_of_connection(error):
        text = "The model's provider cannot be reached, or the connection broke off."
        return Fault(Reason.MODEL_UNREACHABLE, text, passes=True)
    if isinstance(error, Declined):
        text, passes = DECLINED_TEXT.format(model=model), False
    elif isinstance(error, EmptyAnswer):
        text, passes = f"The model {model} gave an empty answer.", True
    elif isinstance(error, UserError):
        text, passes = f"The model {model} cannot be asked that.", False
    else:
        text = f"The provider of {model} gave an answer that is none."
        passes = not isinstance(error, UnexpectedModelBehavior)
    return Fault(Reason.MODEL_FAILED, text, passes)


def _for_good(error: ModelHTTPError, model: str) -> Fault | None:
    """Return the fault of a request that fails each time; None for any other."""
    status, said = error.status_code, _text_of(error.body)
    has_no_credit = isinstance(error, ModelQuotaExceededError) or (
        status == HTTPStatus.TOO_MANY_REQUESTS and any(one in said for one in NO_CREDIT)
    )
    is_long = isinstance(error, ModelContextWindowExceededError) or (
        status == HTTPStatus.BAD_REQUEST and any(one in said for one in TOO_LONG)
    )
    if status == HTTPStatus.FORBIDDEN:
        return _forbidden(said, model)
    if status == HTTPStatus.UNAUTHORIZED or isinstance(error, ModelAuthenticationError):
        text = f"The provider of {model} did not accept the API key."
        return Fault(Reason.MODEL_REFUSED_KEY, text)
    if has_no_credit or status == HTTPStatus.PAYMENT_REQUIRED:
        return Fault(Reason.MODEL_FAILED, NO_CREDIT_TEXT.format(model=model))
    if is_long or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        text = f"The conversation is too long for the model {model}."
        return Fault(Reason.CONTEXT_TOO_LONG, text, too_long=True)
    return _not_served(status, said, model)


def _not_served(status: int, said: str, model: str) -> Fault | None:
    """Return the fault of a request to a model that is not there, or cannot call tools; None for any other."""
    if status in NO_REQUEST and any(one in said for one in NO_TOOLS):
        text = f"The model {model} cannot call tools. Choose one that can."
        return Fault(Reason.MODEL_FAILED, text)
    if status == HTTPStatus.NOT_FOUND:
        text = (
            f"The provider has no model {model}, or its address is wrong: that of one which speaks"
            " as OpenAI does mostly ends in /v1."
        )
        return Fault(Reason.MODEL_FAILED, text)
    return None


def _forbidden(said: str, model: str) -> Fault:
    """Return what a 403 means by what the provider says."""
    for words, reason, text in FORBIDDEN:
        if any(one in said for one in words):
            return Fault(reason, text.format(model=model))
    return Fault(Reason.MODEL_FAILED, FORBIDDEN_TEXT.format(model=model))


def _for_now(error: ModelHTTPError, model: str) -> Fault:
    """Return the fault of a request that may succeed another time."""
    status = error.status_code
    passes = status in PASSING or status >= SERVER_ERRORS
    # Some name it in the body, which pydantic-ai has read.
    named = _wait_of(error.headers or {})
    wait = (error.retry_after if named is None else named) if passes else None
    if wait is not None and wait > LONGEST_WAIT:
        text = f"The provider of {model} accepts nothing more for {wait:.0f} seconds."
        return Fault(Reason.MODEL_BUSY, text)
    if status in BUSY:
        return Fault(Reason.MODEL_BUSY, f"The provider of {model} is too busy.", passes, wait)
    text = f"The provider of {model} failed (status {status})."
    return Fault(Reason.MODEL_FAILED, text, passes, wait)


def _wait_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a provider asks to wait, by lower-case headers; None where it names none."""
    given = headers.get("retry-after", "")
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        elif given.replace(".", "", 1).isdigit():
            wait = float(given)
        else:
            moment = parsedate_to_datetime(given)
            wait = max(0.0, moment.timestamp() - datetime.now(UTC).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None
    return wait if wait >= 0 else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(DEEPEST):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def _text_of(body: Any) -> str:
    """Return what a provider says, in lower case; to be looked at and never to be shown."""
    try:
        return (body if isinstance(body, str) else json.dumps(body, default=str)).lower()
    except (ValueError, RecursionError):
        return ""


def _is_of_connection(error: BaseException) -> bool:
    """Return whether an error is one of the connection, by whichever library it was raised."""
    for one in _causes(error):
        if isinstance(one, OSError):
            return True
        names = {kind.__name__ for kind in type(one).__mro__}
        if names & {"TransportError", "APIConnectionError", "ClientConnectionError"}:
            return True
    return False
