"""WrappedRuntime: a runtime around another, for what is added to any of them."""

from collections.abc import Mapping, Sequence

from events.actions import Action
from events.observations import Observation
from runtime_stub.base import (
    FileChange,
    FileVersions,
    Runtime,
    RuntimeStatus,
    Snapshot,
    WorkspaceLimits,
)
from runtime_stub.tools import Tool

OF_THE_CLASS = ("idempotent", "performs", "changes_alone")
"""What the class of a runtime says of it."""


class WrappedRuntime(Runtime):
    """Forwards every call to another runtime; a subclass overrides what it adds to."""

    def __init__(self, inner: Runtime) -> None:
        self.inner = inner
        for name in OF_THE_CLASS:
            setattr(self, name, getattr(inner, name))

    @property
    def status(self) -> RuntimeStatus:
        """See Runtime."""
        return self.inner.status

    @property
    def root(self) -> str:
        """See Runtime."""
        return self.inner.root

    async def connect(self) -> None:
        """See Runtime."""
        await self.inner.connect()

    async def close(self) -> None:
        """See Runtime."""
        await self.inner.close()

    async def perform(self, action: Action) -> Observation:
        """See Runtime."""
        return await self.inner.perform(action)

    async def tools(self) -> Sequence[Tool]:
        """See Runtime."""
        return await self.inner.tools()

    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """See Runtime."""
        self.inner.set_environment(variables)

    async def read_file(self, path: str) -> bytes:
        """See Runtime."""
        return await self.inner.read_file(path)

    async def write_file(self, path: str, content: bytes) -> str:
        """See Runtime."""
        return await self.inner.write_file(path, content)

    async def list_files(self, path: str = "") -> Sequence[str]:
        """See Runtime."""
        return await self.inner.list_files(path)

    async def changes(self) -> Sequence[FileChange] | None:
        """See Runtime."""
        return await self.inner.changes()

    async def versions(self, path: str) -> FileVersions | None:
        """See Runtime."""
        return await self.inner.versions(path)

    async def branch(self) -> str | None:
        """See Runtime."""
        return await self.inner.branch()

    async def snapshot(self, limits: WorkspaceLimits) -> Snapshot | None:
        """See Runtime."""
        return await self.inner.snapshot(limits)

    async def restore(self, snapshot: Snapshot) -> str | None:
        """See Runtime."""
        return await self.inner.restore(snapshot)
