"""The server's version as events carry it."""

from functools import cache
from importlib import metadata


@cache
def server_version() -> str | None:
    """Tell the installed distribution's version; None when run from a bare source tree."""
    try:
        return metadata.version("parley-server")
    except metadata.PackageNotFoundError:
        return None
