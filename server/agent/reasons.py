"""The words in which people are told of a turn that failed: a closed list of reasons, and no text of others."""

from typing import NamedTuple

from events.errors import EventsError
from runtime_stub.agent import RateLimited
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.turn import BudgetReached, LimitReached, Reason, TurnFailed
from server.errors import text_of
from server.user_code import UserCodeFailed, UserCodeLate

ERROR_ID = "STATUS$ERROR"
RATE_LIMIT_ID = "CHAT_INTERFACE$AGENT_RATE_LIMITED_STOPPED_MESSAGE"

SENTENCES = {
    Reason.SILENT: "The agent was silent for too long, and its turn was ended.",
    Reason.TIMED_OUT: "The agent took too long, and its turn was ended.",
    Reason.MODEL_REFUSED_KEY: "The model provider did not accept the API key.",
    Reason.MODEL_BUSY: "The model provider is too busy.",
    Reason.MODEL_UNREACHABLE: "The model provider cannot be reached.",
    Reason.MODEL_FAILED: "The model provider failed.",
    Reason.CONTEXT_TOO_LONG: "The conversation is too long for the model.",
    Reason.TURN_LOST: "The agent's turn was cut short before it was done with this message.",
}
OPEN_ERRORS = (EventsError, LimitReached, RuntimeUnavailable, UserCodeLate)
"""Errors whose texts are the server's own, or made for people by contract."""


class Failure(NamedTuple):
    """The words for people: the reason of the state, a text, and the `error_id` of the entry."""

    reason: str
    text: str
    error_id: str = ERROR_ID


def failure_for(reason: Reason) -> Failure:
    """Return what is told of a failure that no exception describes."""
    return Failure(reason, SENTENCES[reason], reason)


def failure_of(error: BaseException) -> Failure:
    """Return what is told of an exception. Its texts are not masked yet."""
    if isinstance(error, UserCodeFailed) and error.__cause__ is not None:
        error = error.__cause__
    text = text_of(error)
    if isinstance(error, RateLimited):
        return Failure(RATE_LIMIT_ID, text, RATE_LIMIT_ID)
    if isinstance(error, TurnFailed):
        if error.reason is Reason.FAILED:
            return Failure(text, text)
        return Failure(error.reason, text or SENTENCES[error.reason], error.reason)
    if isinstance(error, OPEN_ERRORS):
        said = text or type(error).__name__
        return Failure(said, said)
    kind = type(error).__name__
    return Failure(f"{Reason.FAILED}: {kind}", f"The agent failed: {kind}.")


def outcome_of(error: BaseException) -> str:
    """Return the `outcome` of a turn that an exception ended."""
    return "budget" if isinstance(error, BudgetReached) else "failed"
