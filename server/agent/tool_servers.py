"""The tool servers of a user, added to the runtime of a loop once the user has any."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from runtime_stub.tools import McpOptions, Tool
from runtime_stub.turn import AgentSettings
from server.agent.contained import ContainedRuntime
from server.turns.context import TurnUser
from server.user_code import outside

logger = logging.getLogger(__name__)

ROOM = "runtime_stub.mcp"
"""Imported by name, and only then: it needs an extra, and takes a second."""
MISSING = (
    "Your tool servers need one more package on the server: pip install 'parley-server[mcp]'."
    " From a checkout: ./scripts/setup-venv llm."
)
UNREADABLE = "Your tool servers cannot be used now; the server's log says why."


class ToolServers:
    """Gives the runtime of one loop the tools of its user's servers.

    `tell` tells watchers a text. Whatever fails is told and logged: a turn begins without it.
    """

    def __init__(
        self,
        runtime: ContainedRuntime,
        user: TurnUser,
        options: McpOptions,
        tell: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._user = user
        self._options = options
        self._tell = tell
        self._added = False

    async def tools(self, settings: AgentSettings) -> Sequence[Tool]:
        """Return the tools that the runtime has besides its actions, as a turn begins."""
        try:
            await self._add(settings.mcp_config)
            return await self._runtime.tools()
        except Exception:
            logger.exception("the tools of a user cannot be had")
            self._tell(UNREADABLE)
            return ()

    async def attend(self) -> None:
        """Have the runtime know the user's servers before one of their tools is called."""
        if self._added:
            return
        try:
            await self._add((await self._user.settings()).mcp_config)
        except Exception:
            logger.exception("the tool servers of a user cannot be had")
            self._tell(UNREADABLE)

    async def _add(self, config: Mapping[str, Any] | None) -> None:
        if self._added or not any((config or {}).values()):
            return
        try:
            room = await asyncio.to_thread(import_module, ROOM)
        except ImportError:
            logger.warning("a user's tool servers need the extra `mcp`", exc_info=True)
            self._tell(MISSING)
            return
        if not self._added:
            self._added = True
            self._runtime.wrap(
                partial(
                    room.McpRuntime,
                    config=self._config,
                    options=self._options,
                    tell=self._tell_outside,
                    user_id=self._user.user_id,
                )
            )

    async def _config(self) -> Mapping[str, Any] | None:
        with outside():
            return (await self._user.settings()).mcp_config

    def _tell_outside(self, text: str) -> None:
        with outside():
            self._tell(text)
