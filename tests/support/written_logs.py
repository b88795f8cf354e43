"""Conversations whose logs were written before a server comes to serve them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from events.event import StoredEvent
from events.serialization import flag_of
from events.stores.database.store import DatabaseEventStore
from events.summary import SummaryChange
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.database.sqlite import SqliteDatabase
from storage.keys import DATABASE_NAME
from tests.support.payloads import Payload

BATCH = 1_000
BEGINNING = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)


async def write_log(
    data_dir: Path,
    conversation_id: str,
    title: str,
    payloads: Sequence[Payload],
    apart: timedelta = timedelta(seconds=1),
    *,
    follows: bool = False,
) -> None:
    """Write a conversation into a data directory that no server has open.

    Ids and times are given here, `apart` between two events; `cause` is an id. What `follows` is
    put behind the events that the conversation has.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    database = await SqliteDatabase.open(data_dir / DATABASE_NAME)
    try:
        store = DatabaseEventStore(database)
        begin = (await store.head(conversation_id)).next_id if follows else 0
        moments = [_moment(BEGINNING + (begin + number) * apart) for number in range(len(payloads))]
        events = [
            _stored(begin + number, moment, payload)
            for number, (moment, payload) in enumerate(zip(moments, payloads, strict=True))
        ]
        if not follows:
            records = DatabaseConversationStores(database).for_user(None)
            await records.save_metadata(
                ConversationMetadata(conversation_id=conversation_id, title=title)
            )
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            last = batch[-1].id
            summary = SummaryChange(last_event_id=last, last_updated_at=moments[last - begin])
            await store.append(conversation_id, begin + start, batch, summary=summary)
    finally:
        await database.close()


def said(source: str, content: str, **args: Any) -> Payload:
    """A message."""
    return {"source": source, "action": "message", "args": {"content": content, **args}}


def did(kind: str, **args: Any) -> Payload:
    """An action of the agent."""
    return {"source": "agent", "action": kind, "args": args}


def came(kind: str, cause: int | None, content: str = "", **extras: Any) -> Payload:
    """An observation in answer to the event `cause`."""
    answer: Payload = {"source": "agent"} if cause is None else {"source": "agent", "cause": cause}
    return answer | {"observation": kind, "content": content, "extras": extras}


def ran(cause: int, command: str, content: str, exit_code: int = 0) -> Payload:
    """A command's output."""
    metadata = {"exit_code": exit_code}
    return came("run", cause, content, command=command, metadata=metadata, hidden=False) | {
        "success": exit_code == 0
    }


def at_rest(message_id: int, recall_id: int) -> list[Payload]:
    """Return the events behind a user's message that the agent has taken up and answered."""
    recall = {"recall_type": "knowledge", "query": ""}
    state = {"agent_state": "awaiting_user_input", "reason": ""}
    return [
        {"source": "user", "action": "recall", "cause": message_id, "args": recall},
        came("recall", recall_id, recall_type="knowledge"),
        {
            "source": "environment",
            "observation": "agent_state_changed",
            "content": "",
            "extras": state,
        },
    ]


def _stored(number: int, moment: str, payload: Payload) -> StoredEvent:
    text = payload.get("args", {}).get("content", payload.get("content", ""))
    envelope = {"id": number, "timestamp": moment, "message": text}
    whole = envelope | payload
    return StoredEvent(number, flag_of(whole), orjson.dumps(whole))


def _moment(time: datetime) -> str:
    return re.sub(r"\+00:00$", "Z", time.isoformat(timespec="microseconds"))
