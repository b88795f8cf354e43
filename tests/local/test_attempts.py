"""Commands on this machine are held by what docs/local.md says, and not held where it says so."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.support.local_attempts import ATTEMPTS, tried
from tests.support.local_worlds import KEY

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NOBODY = 65534
AS_ROOT = os.geteuid() == 0


@cache
def documented():
    """For each attempt of the table: whether it succeeds where the server is root, and where not."""
    text = (ROOT / "docs" / "local.md").read_text(encoding="utf-8")
    rows = ROW.findall(text.partition("| attempt | server is root")[2])
    return {
        name: [column.startswith("**not contained**") for column in columns]
        for name, *columns in rows
        if name != "---"
    }


def interpreter():
    """An interpreter that another user can run with the packages of this one."""
    usual = f"/usr/bin/python3.{sys.version_info.minor}"
    packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
        "SESSION_API_KEY": KEY,
    }
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if AS_ROOT else {}
    given = {"env": environment, "cwd": "/", **user}
    for candidate in (sys.executable, usual):
        command = [candidate, "-c", "import runtime_stub.local.runtime"]
        try:
            subprocess.run(command, check=True, capture_output=True, **given)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate, given
    pytest.fail(f"no user but this one can run Python 3.{sys.version_info.minor}")


@pytest.fixture(scope="module")
def not_root():
    """A program that makes attempts as a user who is not root."""
    candidate, given = interpreter()
    command = [candidate, "-m", "tests.support.local_attempts"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, **given) as program:
        yield program


def test_the_document_lists_every_attempt_and_no_other():
    assert list(documented()) == list(ATTEMPTS)
    assert len(ATTEMPTS) >= 20


if AS_ROOT:

    @pytest.mark.parametrize("name", ATTEMPTS)
    async def test_an_attempt_ends_as_documented_where_the_server_is_root(name):
        assert await tried(name) == documented()[name][0]


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_ends_as_documented_where_the_server_is_not_root(name, not_root):
    print(name, file=not_root.stdin, flush=True)

    assert json.loads(not_root.stdout.readline()) == documented()[name][1]
