"""What is kept of one owner as one value: read whole, replaced whole."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from storage.serial import lock_of

FoundT = TypeVar("FoundT")
KeptT = TypeVar("KeptT")


class OwnedStore(ABC, Generic[FoundT, KeptT]):
    """Keeps one value of one owner, who is `user_id`."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id

    @abstractmethod
    async def load(self) -> FoundT:
        """Return what is stored."""

    @abstractmethod
    async def store(self, kept: KeptT, /) -> None:
        """Replace what is stored; atomic, and durable when done."""

    async def update(self, change: Callable[[FoundT], KeptT]) -> KeptT:
        """Replace what is stored by what `change` makes of it, and return that; atomic and durable.

        Updates of one owner are serial: none undoes another. What `change` raises is passed on,
        and nothing was written. This default reads and writes under a lock of the process, enough
        where one process writes; a store that can should do better.
        """
        async with lock_of(type(self), self.user_id):
            changed = change(await self.load())
            await self.store(changed)
            return changed
