"""Tools of MCP servers, added to any runtime; the only room that needs the extra `mcp`."""

from runtime_stub.mcp.runtime import McpRuntime

__all__ = ["McpRuntime"]
