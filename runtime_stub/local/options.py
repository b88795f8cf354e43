"""What runtimes on this machine are told by the settings."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime_stub.local.keeper import Limits

__all__ = ["Limits", "LocalOptions"]

GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """Where commands run, as whom, and what they may use.

    `uids` are the users that workspaces get for themselves where the server is root; `inherited`
    names the variables of the server's environment that commands see, and no other one.
    """

    directory: Path
    uids: range
    inherited: Sequence[str] = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
    limits: Limits = Limits(  # noqa: RUF009 - immutable
        processes=512,
        memory_bytes=4 * GIB,
        cpu_seconds=600,
        file_bytes=GIB,
        open_files=1024,
        disk_bytes=4 * GIB,
        disk_entries=200_000,
        output_bytes=64 * 1024 * 1024,
    )
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """The server's own, of which `inherited` is taken."""

    def given(self) -> dict[str, str]:
        """Return the variables that commands see of the server's environment."""
        found = {
            name: self.environment[name] for name in self.inherited if name in self.environment
        }
        return {"PATH": os.defpath, **found}
