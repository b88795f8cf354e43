"""The end of a run: back-end by outcome, seconds by folder, the figures tests recorded.

A test records what it did with `record_property("figures", text)`.

With CI=true a skipped test fails the run, since a skip there is a service nobody tried.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Generator

import pytest

SERVICES = (
    *("memory", "sqlite", "files", "local", "postgres", "pgbouncer", "s3"),
    *("direct", "engine", "node", "chromium"),
)
OUTCOMES = ("passed", "failed", "skipped")
BUDGET_SECONDS = {
    "(top)": 100,
    "agents": 200,
    "browser": 900,
    "conformance": 180,
    "crash": 500,
    "docs": 120,
    "events": 90,
    "local": 300,
    "mcp": 90,
    "node": 120,
    "runtime_stub": 45,
    "server": 900,
    "stateful": 300,
    "storage": 200,
    "transfer": 150,
}
DEFAULT_BUDGET_SECONDS = 30


def counted(figures: Counter[str]) -> str:
    """Return figures as text, by name."""
    return ", ".join(f"{number} {what}" for what, number in sorted(figures.items()))


class Tally:
    """Counts outcomes per service and seconds per folder as pytest reports them."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {name: Counter() for name in SERVICES}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.figures: list[tuple[str, object]] = []
        self.skipped = 0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.skipped += report.skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[folder_of(report.nodeid)] += report.duration
        expected_failure = hasattr(report, "wasxfail")
        if (report.when != "call" and report.passed) or expected_failure:
            return
        self.skipped += report.skipped
        self.figures += [
            (report.nodeid, value) for name, value in report.user_properties if name == "figures"
        ]
        for name in services_of(report):
            self.outcomes[name][report.outcome] += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refuses_skips and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def refuses_skips(self) -> bool:
        return self.skipped > 0 and os.environ.get("CI") == "true"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        terminalreporter.section("back-ends and services")
        write(f"{'':16}" + "".join(f"{outcome:>9}" for outcome in OUTCOMES))
        for name, counts in self.outcomes.items():
            write(f"{name:16}" + "".join(f"{counts[outcome]:9}" for outcome in OUTCOMES))
        terminalreporter.section("seconds per folder")
        write(f"{'':16}{'seconds':>9}{'budget':>9}")
        for folder, seconds in sorted(self.seconds.items()):
            budget = BUDGET_SECONDS.get(folder, DEFAULT_BUDGET_SECONDS)
            write(
                f"{folder:16}{seconds:9.1f}{budget:9}"
                + ("  OVER BUDGET" if seconds > budget else "")
            )
        if self.figures:
            terminalreporter.section("figures")
        for nodeid, value in sorted(self.figures, key=lambda item: item[0]):
            write(f"{nodeid.removeprefix('tests/')}: {value}")
        if self.refuses_skips:
            write(f"CI=true: {self.skipped} skipped, which fails the run", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make every text of a report one that a worker can send, whatever a test has logged."""
    report = yield
    report.sections = [(_sendable(name), _sendable(text)) for name, text in report.sections]
    if report.longrepr is not None and _sendable(shown := str(report.longrepr)) != shown:
        report.longrepr = _sendable(shown)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def services_of(report: pytest.TestReport) -> list[str]:
    """Return the back-ends and services of a test, by its parameters and its marks.

    A report has both wherever the test ran, in this process or in a worker of it.
    """
    parameters = report.nodeid.partition("[")[2].rstrip("]").split("-")
    return [name for name in SERVICES if name in {*parameters, *report.keywords}]


def folder_of(nodeid: str) -> str:
    """Name the folder below tests/ a test belongs to."""
    parts = nodeid.split("::", maxsplit=1)[0].split("/")
    return parts[1] if len(parts) > 2 else "(top)"


def pytest_configure(config: pytest.Config) -> None:
    """Register a fresh tally for this run."""
    config.pluginmanager.register(Tally(), "parley-tally")
