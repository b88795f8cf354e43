"""The import contract of pyproject.toml holds, and no test depends on how fast a machine is."""

import re
import subprocess
import sys
from pathlib import Path

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
