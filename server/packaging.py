"""Checks that the four top-level packages are Parley's, without importing them."""

from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "parley-server"
PACKAGES = ("server", "runtime_stub", "events", "storage")


def packaging_problems() -> Iterator[str]:
    """Yield a line for each top-level package that another distribution owns or shadows.

    The four names are short enough to be taken: the package index has an `Events`, whose
    installation silently replaces or hides events/__init__.py.
    """
    owners = packages_distributions()
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        for foreign in sorted(set(owners.get(name, ())) - {DISTRIBUTION}):
            yield f"package {name} also belongs to the distribution {foreign}: uninstall it"
        found = find_spec(name)
        origin = found.origin if found else None
        if origin is None or Path(origin).resolve().parent.parent != home:
            yield f"package {name} is taken from {origin}, not from {home}"
