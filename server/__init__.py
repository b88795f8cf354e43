"""The server: REST, Socket.IO, and the conversations behind them. The public contract."""

from importlib import import_module
from typing import Any

__all__ = ["ConversationManager", "LoopSettings", "ServerConfig"]

_HOMES = {
    "ConversationManager": "server.conversations.manager",
    "LoopSettings": "server.agent.states",
    "ServerConfig": "server.config.settings",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command must be able to say what is wrong with an installation
    # before the rest of it is imported.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "ConversationManager":
        import_module("server.app")  # says what managers are made of
    return getattr(import_module(_HOMES[name]), name)
