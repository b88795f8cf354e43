"""Rules of the whole tree: imports, time, secrets; and no test depends on a machine's speed."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent


def test_every_import_keeps_the_contract():
    command = Path(sys.executable).with_name("lint-imports")

    outcome = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_no_property_fails_because_a_machine_is_slow():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
    elsewhere = [one for one in ROOT.glob("tests/**/*.py") if one != Path(__file__)]
    assert [one for one in elsewhere if re.search(r"\bdeadline=(?!None)", one.read_text())] == []


PACKAGES = ("server", "runtime_stub", "events", "storage")
SECRET = re.compile(r"(^|_)(key|keys|token|tokens|password|passwords|secret|secrets)$")
"""Names of what must not be found out byte by byte."""
DOORS = ("server/access/auth.py", "server/routes/health.py", "server/routes/admin/access.py")
"""Modules that compare what a client shows with what is right."""


def secrets_compared_byte_by_byte(source: str, *, door: bool) -> Iterator[str]:
    """Yield the comparisons in a source that stop at the first difference of a secret.

    At a door names are enough to tell one; elsewhere a value that is taken out of its cover.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(one, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for one in node.ops):
            continue
        operands = (node.left, *node.comparators)
        if any(isinstance(one, ast.Name) and one.id.isupper() for one in operands):
            continue  # a word of the program's own, which everybody knows
        for operand in operands:
            for part in ast.walk(operand):
                name = getattr(part, "attr", getattr(part, "id", ""))
                if name == "get_secret_value" or (door and SECRET.search(name)):
                    yield ast.unparse(node)


def sources() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "conformance" in path.parts:
                continue
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def test_a_secret_is_compared_in_constant_time():
    found = {
        path: [*secrets_compared_byte_by_byte(source, door=path in DOORS)]
        for path, source in sources()
    }

    assert {path: compared for path, compared in found.items() if compared} == {}
    assert all(path in found for path in DOORS)
    assert all("compare_digest(" in (ROOT / path).read_text("utf-8") for path in DOORS)


@pytest.mark.parametrize(
    ("line", "door"),
    [
        ("key.get_secret_value() == given", False),
        ("given in [one.get_secret_value() for one in keys]", False),
        ("given.encode() == self._key", True),
        ("text in (session_api_key, metrics_key)", True),
        ("token != expected", True),
    ],
)
def test_a_comparison_that_stops_at_the_first_difference_is_found(line, door):
    assert [*secrets_compared_byte_by_byte(line, door=door)]
    assert not [
        *secrets_compared_byte_by_byte("key is None or hmac.compare_digest(a, key)", door=door)
    ]


def test_how_long_something_took_is_not_read_off_the_wall_clock():
    # The difference of two moments is negative when the clock is set back in between.
    assert [path for path, source in sources() if ".total_seconds()" in source] == []
