"""Fixtures of the whole suite."""

import os

import pytest
from hypothesis import HealthCheck, settings

from server.config.sources import ENVIRONMENT_PREFIX, PLAIN_VARIABLES

pytest.register_assert_rewrite(
    "events.conformance", "runtime_stub.conformance", "storage.conformance"
)
# How fast this machine is decides nothing: a hang ends by pytest's own limit.
settings.register_profile(
    "parley",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("parley")
pytest_plugins = ["tests.support.report"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX) or name in PLAIN_VARIABLES:
            monkeypatch.delenv(name)
