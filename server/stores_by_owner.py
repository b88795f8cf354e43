"""Stores of a class of the embedder's own, one per owner, found by its `get_instance`."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from server.user_code import UserCode, UserCodeLate
from storage.config import HasStorage
from storage.errors import OutcomeUnknown, StorageError, Unavailable

T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

KEPT_STORES = 256
"""Stores that are kept for their owners; the one unused for longest is made again when needed."""


class StoreClass(Protocol[S_co]):
    """What finds one owner's store."""

    async def get_instance(self, config: HasStorage, user_id: str | None, /) -> S_co:
        """The store of that owner."""


class StoresByOwner(Generic[S]):
    """The stores of a custom class, made at their first use.

    Each call may take `seconds`; past that a read is Unavailable and a write OutcomeUnknown.
    """

    def __init__(
        self, store_class: StoreClass[S], config: HasStorage, seconds: float, what: str
    ) -> None:
        self._store_class = store_class
        self._config = config
        self._seconds = seconds
        self._what = what
        self._code = UserCode(f"the {what}")
        self._stores: OrderedDict[str | None, S] = OrderedDict()

    async def of(self, user_id: str | None) -> S:
        """The owner's store. Raises Unavailable when it takes too long."""
        return await self.reading(partial(self._find, user_id))

    async def reading(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call gives that changes nothing. Raises Unavailable when it takes too long."""
        return await self._within_time(call, Unavailable)

    async def writing(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call gives that may change something. Raises OutcomeUnknown likewise."""
        return await self._within_time(call, OutcomeUnknown)

    async def _find(self, user_id: str | None) -> S:
        store = self._stores.get(user_id)
        if store is None:
            store = await self._store_class.get_instance(self._config, user_id)
            self._stores[user_id] = store
        self._stores.move_to_end(user_id)
        if len(self._stores) > KEPT_STORES:
            self._stores.popitem(last=False)
        return store

    async def _within_time(self, call: Callable[[], Awaitable[T]], late: type[StorageError]) -> T:
        try:
            return await self._code.wait(call, self._seconds, f"a call of the {self._what}")
        except UserCodeLate as error:
            raise late(f"the {self._what} does not answer") from error
