"""The `parley` command's first step: Parley's packages are found at home, whatever else has their names.

Their names are short. A user's own `server/` or `events.py`, or an installed package of such a name,
may stand before them on the path, above all with `PYTHONPATH=.`, by which own classes are found.
This module imports nothing of them, and its name is long enough to be nobody else's.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGES = ("server", "runtime_stub", "events", "storage")


class PackagesAtHome(MetaPathFinder):
    """Finds the packages beside this file, before the path is looked through."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the contract's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return where one of the packages is; None for everything else."""
        folder = self._home / fullname
        if fullname not in PACKAGES or not folder.is_dir():
            return None
        return spec_from_file_location(
            fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def find_packages_at_home() -> None:
    """Find the packages at home from now on."""
    if not any(isinstance(finder, PackagesAtHome) for finder in sys.meta_path):
        sys.meta_path.insert(0, PackagesAtHome(Path(__file__).resolve().parent))


def main() -> int:
    """Run the command line and return its exit code."""
    find_packages_at_home()
    from server.__main__ import main as run  # noqa: PLC0415 - only now is it ours

    return run()
