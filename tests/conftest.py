"""Fixtures of the whole suite."""

import os

import pytest

from server.sources import ENVIRONMENT_PREFIX, PLAIN_VARIABLES

pytest.register_assert_rewrite(
    "events.conformance", "runtime_stub.conformance", "storage.conformance"
)
pytest_plugins = ["tests.support.report"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX) or name in PLAIN_VARIABLES:
            monkeypatch.delenv(name)
