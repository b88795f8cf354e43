"""Fills a data directory with the records of many conversations."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.config import LocalStorage, SqliteStorage
from storage.conversations.metadata import ConversationMetadata, ConversationTrigger
from storage.opening import open_storage

AT_ONCE = 500
COMMON, RARE = "owner/common", "owner/rare"
COMMON_EVERY, RARE_EVERY = 10, 5_000


STORAGE = {"sqlite": SqliteStorage, "local": LocalStorage}


async def prefill(data_dir: Path, count: int, kind: str = "sqlite") -> None:
    """Save `count` records: a tenth name a common repository, one in 5,000 a rare one."""
    newest = datetime.now(UTC)
    async with open_storage(STORAGE[kind](data_dir=data_dir)) as storage:
        store = storage.conversations.for_user(None)
        for start in range(0, count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, count))
            await asyncio.gather(*(store.save_metadata(_record(n, newest)) for n in numbers))


def title_of(number: int) -> str:
    """The title of the record with that number."""
    return f"About the number {number}"


def _record(number: int, newest: datetime) -> ConversationMetadata:
    repository = "owner/other"
    if number % RARE_EVERY == 1:
        repository = RARE
    elif number % COMMON_EVERY == 0:
        repository = COMMON
    created = newest - timedelta(seconds=number)
    return ConversationMetadata(
        conversation_id=uuid.uuid4().hex,
        title=title_of(number),
        selected_repository=repository,
        trigger=ConversationTrigger.GUI,
        created_at=created,
        last_updated_at=created,
    )
