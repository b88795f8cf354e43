"""The documentation is complete and its generated pages are fresh."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.config import ServerConfig
from server.sources import PLAIN_VARIABLES, public_name, variable_names

ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("field", ServerConfig.model_fields)
def test_a_setting_is_documented(field):
    description = ServerConfig.model_fields[field].description

    assert description
    assert f"## `{public_name(field)}`\n\n{description}\n" in CONFIGURATION


@pytest.mark.parametrize("variable", [*variable_names(ServerConfig), *PLAIN_VARIABLES])
def test_a_variable_is_documented(variable):
    assert f"`{variable}`" in CONFIGURATION


def test_the_generated_pages_are_fresh():
    command = [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"]

    outcome = subprocess.run(command, capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
