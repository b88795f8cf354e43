"""The fake model as a fixture, for all rooms of tests."""

from collections.abc import AsyncIterator

import pytest

from tests.support.model_endpoint import ModelEndpoint, model_endpoint


@pytest.fixture
async def model() -> AsyncIterator[ModelEndpoint]:
    """A fake model, at an address of its own."""
    async with model_endpoint() as endpoint:
        yield endpoint
