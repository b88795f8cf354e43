"""Planted bugs: small changes of the sources, each of which must turn the tests named beside it red.

The entries stand in `tests/mutants/*.toml`. A bug is planted in a copy of the tree, so that a run
that is killed leaves nothing behind in the sources.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tomllib
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "mutants"
LISTED = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
RUN_SECONDS = 240.0
"""The longest one run of the named tests may take."""

PASSED, FAILED = 0, 1
"""Exit codes of pytest; every other one says that the tests could not be run."""


class BadMutant(Exception):
    """An entry that does not fit the sources, or whose tests cannot be run; the text names it."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug: the text it replaces, and the tests that must notice.

    `quick` marks the ones that are tried with every run of the suite.
    """

    area: str
    name: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    quick: bool = False

    @classmethod
    def parse(cls, area: str, entry: dict[str, Any]) -> Self:
        """Return the mutant of one entry; raise BadMutant for one with missing or unknown keys."""
        try:
            return cls(area=area, **{**entry, "tests": tuple(entry["tests"])})
        except (KeyError, TypeError) as error:
            raise BadMutant(f"{area}: {entry.get('name', entry)}: {error}") from error

    @property
    def title(self) -> str:
        return f"{self.area}: {self.name}"

    def planted(self, source: str) -> str:
        """Return the source with the bug in it; raise BadMutant unless its text occurs once."""
        count = source.count(self.find)
        if count != 1:
            raise BadMutant(f"{self.title}: its text occurs {count} times in {self.file}, not once")
        if self.replace == self.find:
            raise BadMutant(f"{self.title}: it changes nothing")
        return source.replace(self.find, self.replace)


def all_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """Return every entry, by area and in the order of its file."""
    return [
        Mutant.parse(file.stem, entry)
        for file in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(file.read_text(encoding="utf-8")).get("mutant", ())
    ]


class Copy:
    """A copy of the tree in which bugs are planted, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        """The output of the last run of the tests."""

    def make(self) -> None:
        """Copy every file git knows or would add; Node's packages are linked."""
        names = subprocess.run(
            LISTED,
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        packages = Path("tests/node/node_modules")
        if (ROOT / packages).is_dir():
            (self.folder / packages).symlink_to(ROOT / packages)

    async def survived(self, mutant: Mutant) -> bool:
        """Return whether the named tests pass with the bug planted; the source is restored."""
        path = self.folder / mutant.file
        if not path.is_file():
            raise BadMutant(f"{mutant.title}: there is no {mutant.file}")
        source = path.read_text(encoding="utf-8")
        path.write_text(mutant.planted(source), encoding="utf-8")
        try:
            return await self.passes(mutant.tests, mutant.title)
        finally:
            path.write_text(source, encoding="utf-8")

    async def passes(self, tests: Iterable[str], title: str, seconds: float = RUN_SECONDS) -> bool:
        """Run the tests in the copy; raise BadMutant when they could not be run to an end."""
        command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly"]
        # A bug may make a test wait for ever, which turns it red as well.
        command += ["-o", "timeout=60"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *tests,
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TEST_WAIT_SECONDS": "15"},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise BadMutant(f"{title}: no end after {seconds:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self.output = output.decode()
        if process.returncode not in {PASSED, FAILED}:
            raise BadMutant(f"{title}: pytest ended with {process.returncode}\n{self.output}")
        return process.returncode == PASSED
