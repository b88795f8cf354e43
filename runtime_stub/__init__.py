"""Runtimes and agents: the places work runs in, and the deciders on it. The public contract."""

from runtime_stub.agent import Agent, Example
from runtime_stub.base import FileChange, FileVersions, Runtime, RuntimeBuilder, RuntimeStatus
from runtime_stub.errors import (
    BadWorkspacePath,
    FileMissing,
    NotText,
    RuntimeFloorError,
    RuntimeUnavailable,
    WorkspaceError,
)

__all__ = [
    "Agent",
    "BadWorkspacePath",
    "Example",
    "FileChange",
    "FileMissing",
    "FileVersions",
    "NotText",
    "Runtime",
    "RuntimeBuilder",
    "RuntimeFloorError",
    "RuntimeStatus",
    "RuntimeUnavailable",
    "WorkspaceError",
]
