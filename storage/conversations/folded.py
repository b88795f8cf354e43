"""The channel from an event store to records that fold its logs outside its commits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, TypeAlias

Fold: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Receives the new values of folded fields, None meaning unchanged; times are ISO 8601 text."""


class FoldedRecords(ABC):
    """Records whose folded fields follow the logs within the process and after a crash.

    A conversation whose log is written is *unsettled*, durably, from before the write until its
    record has the fold; so that only those must be examined after a crash.
    """

    @abstractmethod
    def writing(self, conversation_id: str) -> AbstractAsyncContextManager[Fold]:
        """Hold the conversation unsettled while its log is written.

        Values passed to the yielded function are in the record from then on. Raises what the medium
        raises, before the block.
        """

    @abstractmethod
    async def folded_until(self, conversation_id: str) -> datetime | None:
        """Return the moment of the newest event in the record's fold; None where there is none.

        The log has an event of that moment or a later one, or it has lost its end. A record that
        is damaged tells nothing. Raises Unavailable.
        """

    @abstractmethod
    def unsettled(self) -> Sequence[str]:
        """Return conversations left unsettled by an earlier process: their fold is unknown."""

    @abstractmethod
    async def settle(
        self, conversation_id: str, fold: Mapping[str, Any] | None, *, deleted: bool
    ) -> None:
        """Set a record to the fold of its whole log (None: no log), or mark it deleted."""
