"""Checks of single rows of a database, whichever one it is: none of them needs a key."""

from pydantic import ValidationError

from storage.audit.base import AuditRecord
from storage.errors import Damaged
from storage.files.format import checked_body
from storage.usage.model import ConversationUsage


def user_record_problem(owner: str, kind: str, body: bytes) -> str | None:
    """Return the problem of a user's settings or secrets; None if there is none."""
    try:
        checked_body(kind, body, f"{kind} of user {owner}")
    except Damaged as damage:
        return str(damage)
    return None


def usage_problem(conversation_id: str, day: str, events: int) -> str | None:
    """Return the problem of a line of usage; None if there is none."""
    try:
        ConversationUsage.model_validate(
            {
                "conversation_id": conversation_id,
                "lines": [{"day": day, "model": "", "events": events}],
            }
        )
    except ValidationError:
        return f"the usage of conversation {conversation_id} cannot be read"
    return None


def audit_problem(number: int, body: str) -> str | None:
    """Return the problem of a record of the audit; None if there is none."""
    try:
        AuditRecord.model_validate_json(body)
    except ValidationError:
        return f"audit record {number} cannot be read"
    return None
