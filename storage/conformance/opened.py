"""The base of the suites for records: a medium, opened for each test."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pytest
import pytest_asyncio

StoreT_co = TypeVar("StoreT_co", covariant=True)


class Stores(Protocol[StoreT_co]):
    """One medium's records of all owners."""

    def for_user(self, user_id: str | None) -> StoreT_co:
        """Return a store bound to that owner."""


OpenedT = TypeVar("OpenedT")
StoresT = TypeVar("StoresT", bound=Stores[object])


class OpenedSuite(Generic[OpenedT]):
    """Tests of records; a subclass says how a medium is opened."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[OpenedT]:
        """Yield the records of all owners over the medium in `folder`, closed with the block.

        A folder that was never used is empty; what outlasts the process is found in it again.
        """
        raise NotImplementedError


class StoresSuite(OpenedSuite[StoresT]):
    """The same with fixtures: all owners' `stores`, and the `store` of one of them."""

    @pytest_asyncio.fixture
    async def stores(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    @pytest.fixture
    def store(self, stores):
        return stores.for_user("ann")
