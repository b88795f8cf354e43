"""Fixtures of the whole suite."""

import logging
import os

import pytest
import structlog
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
pytest_plugins = [
    "tests.support.backends_page",
    "tests.support.model_fixture",
    "tests.support.report",
    "tests.support.order",
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX) or name in PLAIN_VARIABLES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _log_as_before():
    """A server that runs here sets up its log; it ends with the test, as the stream it writes to."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    before = [
        (one, list(one.handlers), one.level, one.propagate)
        for one in known
        if isinstance(one, logging.Logger)
    ]

    yield

    structlog.reset_defaults()
    for one, handlers, level, propagate in before:
        one.handlers[:], one.propagate = handlers, propagate
        if one.level != level:
            one.setLevel(level)
