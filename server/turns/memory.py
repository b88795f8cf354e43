"""The memory that agents keep for their next turn: the contract and its back-ends."""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import NamedTuple

from events.stores.base import MEMORY, Aside, EventStore

logger = logging.getLogger(__name__)

VERSION = b"1"
"""Begins the first line of a record; the id of the newest event follows, then what was kept."""


class Remembered(NamedTuple):
    """The memory an agent kept, and the id of the last event there was then; -1 for none."""

    memory: bytes | None = None
    position: int = -1


class TurnMemory(ABC):
    """The store of what agents want to know in their next turn.

    It may lag behind the log and never leads it: what is kept belongs to events that are durable.
    """

    @abstractmethod
    async def load(self, conversation_id: str) -> Remembered:
        """Return what was kept last. Raises what the storage raises."""

    @abstractmethod
    async def keep(self, conversation_id: str, remembered: Remembered) -> None:
        """Keep this in the place of what was kept before. Raises what the storage raises."""


class ProcessMemory(TurnMemory):
    """Keeps it in this process, for one conversation each; it ends with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, Remembered] = {}

    async def load(self, conversation_id: str) -> Remembered:
        """See TurnMemory."""
        return self._kept.get(conversation_id, Remembered())

    async def keep(self, conversation_id: str, remembered: Remembered) -> None:
        """See TurnMemory."""
        self._kept[conversation_id] = remembered


class AsideMemory(TurnMemory):
    """Keeps it as an aside of the conversation's log: it outlives the process and ends with the log.

    A record that cannot be read, or that another version has written, counts as none.
    """

    def __init__(self, store: EventStore, deadline_seconds: float = 10.0) -> None:
        self._store = store
        self._deadline_seconds = deadline_seconds

    async def load(self, conversation_id: str) -> Remembered:
        """See TurnMemory. Raises StoreUnavailable, TimeoutError."""
        async with asyncio.timeout(self._deadline_seconds):
            body = (await self._store.asides(conversation_id)).get(MEMORY)
        if body is None:
            return Remembered()
        head, _, memory = body.partition(b"\n")
        version, _, position = head.partition(b" ")
        if version != VERSION or not position.removeprefix(b"-").isdigit():
            ids = {"conversation_id": conversation_id}
            logger.warning(
                "the agent's memory of %s is of another version", conversation_id, extra=ids
            )
            return Remembered()
        return Remembered(memory, int(position))

    async def keep(self, conversation_id: str, remembered: Remembered) -> None:
        """See TurnMemory. Raises AppendFailed, AppendUnknown, TimeoutError."""
        body = None
        if remembered.memory is not None:
            body = b"%b %d\n%b" % (VERSION, remembered.position, remembered.memory)
        async with asyncio.timeout(self._deadline_seconds):
            await self._store.put_asides([Aside(conversation_id, MEMORY, body)])
