"""Payloads that are sent but never stored: status updates and errors of one connection."""

from datetime import UTC, datetime

TOO_MANY_ID = "AGENT_ERROR$TOO_MANY_CONVERSATIONS"
AGENT_STATUS_ID = "STATUS$AGENT"
APPROVAL_EXPIRED_ID = "STATUS$APPROVAL_EXPIRED"
TOO_MANY_TEXT = (
    "Too many conversations are at work at once. You can read this one;"
    " what you write is kept and answered as soon as another one is done."
)


def error_notice(notice_id: str, message: str) -> dict[str, object]:
    """Return a `status_update` of type error with the four keys that the page needs to show it.

    `notice_id` is not a number, so it never moves a client's cursor.
    """
    return {
        "status_update": True,
        "type": "error",
        "id": notice_id,
        "source": "environment",
        "message": message,
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }


def title_notice(conversation_id: str, title: str) -> dict[str, object]:
    """Return the notice that a conversation's title changed."""
    return {
        "status_update": True,
        "type": "info",
        "message": conversation_id,
        "conversation_title": title,
    }


def expiry_notice(approval: int) -> dict[str, object]:
    """Return the notice that an approval has expired, and has to be asked again."""
    text = f"Approval {approval} has expired; ask for it again to decide it."
    return {"status_update": True, "type": "info", "id": APPROVAL_EXPIRED_ID, "message": text}


def status_notice(text: str) -> dict[str, object]:
    """Return the notice of what an agent is at just now, as its agent words it."""
    return {"status_update": True, "type": "info", "id": AGENT_STATUS_ID, "message": text}
