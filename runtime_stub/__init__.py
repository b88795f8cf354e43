"""Runtimes and agents: the places work runs in, and the deciders on it. The public contract."""

from runtime_stub.agent import Agent, Example, RateLimited
from runtime_stub.base import (
    FileChange,
    FileVersions,
    Runtime,
    RuntimeBuilder,
    RuntimeStatus,
    Snapshot,
    WorkspaceLimits,
)
from runtime_stub.blocking import BlockingAgent, BlockingTurn
from runtime_stub.chat import ChatMessage, chat_messages
from runtime_stub.errors import (
    BadWorkspacePath,
    FileMissing,
    NotText,
    RuntimeFloorError,
    RuntimeUnavailable,
    WorkspaceError,
)
from runtime_stub.questions import BadAnswer, answer_value
from runtime_stub.tools import BadArguments, Tool
from runtime_stub.turn import (
    AgentSettings,
    Doing,
    Draft,
    History,
    LimitReached,
    Reason,
    SecretMissing,
    ToolCall,
    Turn,
    TurnFailed,
    TurnOver,
    Usage,
    Window,
    Writing,
)

__all__ = [
    "Agent",
    "AgentSettings",
    "BadAnswer",
    "BadArguments",
    "BadWorkspacePath",
    "BlockingAgent",
    "BlockingTurn",
    "ChatMessage",
    "Doing",
    "Draft",
    "Example",
    "FileChange",
    "FileMissing",
    "FileVersions",
    "History",
    "LimitReached",
    "NotText",
    "RateLimited",
    "Reason",
    "Runtime",
    "RuntimeBuilder",
    "RuntimeFloorError",
    "RuntimeStatus",
    "RuntimeUnavailable",
    "SecretMissing",
    "Snapshot",
    "Tool",
    "ToolCall",
    "Turn",
    "TurnFailed",
    "TurnOver",
    "Usage",
    "Window",
    "WorkspaceError",
    "WorkspaceLimits",
    "Writing",
    "answer_value",
    "chat_messages",
]
