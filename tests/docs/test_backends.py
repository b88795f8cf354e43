"""The page of the kinds of storage: written by a run in which all passed, and of the tests there are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.backends_page import KINDS, OPTION, case_of, cases_of, render, versions_in

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "backends.md"


def run_pytest(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ""}
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_page_of_the_kinds_of_storage_names_the_tests_that_there_are():
    outcome = run_pytest(ROOT, "--collect-only", "-n", "0", "tests/conformance")
    found = cases_of(line for line in outcome.stdout.splitlines() if "::" in line)
    page = PAGE.read_text(encoding="utf-8")

    assert {case.kind for case in found} == set(KINDS)
    assert render(found, versions_in(page)) == page, (
        f"run scripts/test tests/conformance {OPTION}=docs/backends.md"
    )


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        (
            "tests/conformance/test_a.py::TestKeyStore::test_it_is[s3-0]",
            ("key store", "it is", "s3"),
        ),
        ("tests/conformance/test_file_store.py::test_x[memory]", ("file store", "x", "memory")),
        ("tests/conformance/test_a.py::TestKeyStore::test_it_is", None),
        ("tests/conformance/test_a.py::TestKeyStore::test_it_is[files]", None),
        ("tests/storage/test_a.py::TestKeyStore::test_it_is[s3]", None),
    ],
)
def test_a_test_is_about_the_kind_that_its_parameters_name(nodeid, expected):
    assert case_of(nodeid) == expected


SUITE = """
import pytest

@pytest.mark.parametrize("kind", ["memory", "local"])
def test_files_are_kept(kind):
    assert kind != "FAILING"
"""


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("failing", ["local", "none"])
def test_the_page_is_written_by_a_run_in_which_every_test_passed(tmp_path, workers, failing):
    folder = tmp_path / "tests" / "conformance"
    folder.mkdir(parents=True)
    (folder / "test_file_store.py").write_text(SUITE.replace("FAILING", failing))
    page = tmp_path / "page.md"

    outcome = run_pytest(
        *(tmp_path, "-p", "tests.support.backends_page", "-n", workers, "tests"),
        f"{OPTION}={page}",
    )

    if failing == "local":
        assert "page.md is not written: 1 of 2 did not pass" in outcome.stdout
        assert not page.exists()
        return
    assert "page.md is written: 2 passed" in outcome.stdout
    assert outcome.returncode == 0
    written = page.read_text(encoding="utf-8")
    assert "| file store | 1 |  | 1 |  |  |  |" in written
    assert "- files are kept (memory, local files)" in written
    assert "PostgreSQL 1" in versions_in(written)
