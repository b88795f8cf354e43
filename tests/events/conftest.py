"""The loop of this folder's tests."""

from tests.support.quick_loop import QuickLoop


def pytest_asyncio_loop_factories(config, item):
    return {"quick": QuickLoop}
