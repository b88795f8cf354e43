"""Runtimes and a store whose snapshots fail, wait or are refused as a test says."""

import asyncio
from typing import ClassVar

from runtime_stub.base import Runtime, RuntimeBuilder, Snapshot, WorkspaceLimits
from runtime_stub.errors import WorkspaceError
from runtime_stub.stub import StubRuntime
from storage.workspaces.manifest import Loaded
from storage.workspaces.memory import MemoryWorkspaces


class ForgetfulRuntime(StubRuntime):
    """Keeps nothing, as a runtime that knows of no snapshots."""

    snapshot = Runtime.snapshot
    restore = Runtime.restore


class ForgetfulBuilder(RuntimeBuilder):
    """Builds such runtimes."""

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        return ForgetfulRuntime()


class FaultyRuntime(StubRuntime):
    """Fails at a snapshot in the way that stands in `fault`, and takes none back while it `refuses`."""

    fault: ClassVar[str] = ""
    refuses: ClassVar[bool] = False

    async def restore(self, snapshot: Snapshot) -> str | None:
        if self.refuses:
            raise WorkspaceError("the sandbox takes no files")
        return await super().restore(snapshot)

    async def snapshot(self, limits: WorkspaceLimits) -> Snapshot | None:
        taken = await super().snapshot(limits)
        match self.fault:
            case "":
                return taken
            case "raises":
                raise ZeroDivisionError("secret text")
            case "refuses":
                raise WorkspaceError("the disk of the sandbox is full")
            case "exits":
                raise SystemExit(3)
            case "is a text":
                return "text"  # type: ignore[return-value]
            case "has texts":
                return Snapshot(files={"a": "text"})  # type: ignore[dict-item]
            case "has numbers":
                return Snapshot(files={7: b""})  # type: ignore[dict-item]
            case "ends itself":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
        raise AssertionError("no such fault")


class FaultyBuilder(RuntimeBuilder):
    """Builds such runtimes."""

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        return FaultyRuntime()


FAULTS = ("raises", "exits", "is a text", "has texts", "has numbers", "ends itself")


class FaultyWorkspaces(MemoryWorkspaces):
    """Raises `error` at every call, if there is one, and loads `loaded`, if there is that."""

    error: Exception | None = None
    loaded: Loaded | None = None
    saves = 0

    async def save(self, conversation_id: str, snapshot: Snapshot) -> None:
        self.saves += 1
        if self.error is not None:
            raise self.error
        await super().save(conversation_id, snapshot)

    async def load(self, conversation_id: str) -> Loaded | None:
        if self.error is not None:
            raise self.error
        return self.loaded or await super().load(conversation_id)
