"""The report at the end of a run, on a small suite of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SUITE = """
import logging

import pytest

@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_store(kind):
    if kind == "sqlite":
        pytest.skip("not here")

@pytest.mark.node
def test_client(record_property):
    record_property("figures", "joined 7 times")

def test_half_a_character(request):
    logging.getLogger().warning("half of a character: %s", chr(0xD800))
    assert not request.config.getoption("verbose") > 0, chr(0xD800)
"""


@pytest.fixture
def run_suite(tmp_path):
    folder = tmp_path / "tests" / "events"
    folder.mkdir(parents=True)
    (folder / "test_sample.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = node\n")

    def run(*arguments, **variables):
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.report", "tests"]
        command += arguments
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_run_ends_with_back_ends_by_outcome_and_seconds_by_folder(run_suite, workers):
    outcome = run_suite("-n", workers, CI="")

    rows = [line.split() for line in outcome.stdout.splitlines()]
    assert ["memory", "1", "0", "0"] in rows
    assert ["sqlite", "0", "0", "1"] in rows
    assert ["node", "1", "0", "0"] in rows
    assert any(row[:1] == ["events"] and len(row) == 3 for row in rows)
    assert outcome.returncode == 0


def test_the_run_ends_with_the_figures_tests_recorded(run_suite):
    outcome = run_suite(CI="")

    assert "events/test_sample.py::test_client: joined 7 times" in outcome.stdout


def test_a_worker_can_send_whatever_a_test_has_logged_or_failed_with(run_suite):
    outcome = run_suite("-n", "2", "-vv", CI="")

    assert "1 failed, 2 passed, 1 skipped" in outcome.stdout
    assert "INTERNALERROR" not in outcome.stdout
    assert outcome.returncode == 1


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_skip_fails_the_run_on_ci(run_suite, workers):
    outcome = run_suite("-n", workers, CI="true")

    assert "1 skipped, which fails the run" in outcome.stdout
    assert outcome.returncode == 1
