"""McpRuntime: any runtime, with the tools of a user's MCP servers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import is_not
from typing import Any, TypeAlias, cast

from events.actions import Action, MCPAction
from events.observations import Observation
from events.strictness import storable
from runtime_stub.base import Runtime, RuntimeStatus
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.mcp.catalogue import Catalogue, catalogue_of, names_of
from runtime_stub.mcp.connection import CallRefused, Connection, Server
from runtime_stub.mcp.faults import ServerFault
from runtime_stub.mcp.listing import Listing
from runtime_stub.mcp.results import UNAVAILABLE_ID, failure, observation_of
from runtime_stub.tools import McpOptions, Tool
from runtime_stub.wrapping import WrappedRuntime
from storage.users.mcp import McpConfig

Config: TypeAlias = Callable[[], Awaitable[Mapping[str, Any] | None]]
"""Returns the tool servers that the user has set, keys included, as `AgentSettings.mcp_config`."""
MOST_SERVERS = 20
CONNECTING = "Connecting the tool servers."
LONGEST_QUOTE = 64
"""Characters of a tool's name that an error quotes."""


def _tell_nobody(_text: str) -> None:
    pass


class McpRuntime(WrappedRuntime):
    """Adds the tools of a user's servers to a runtime: `tools` offers them, `perform` has them called.

    A server is connected when a turn first begins or a tool is first called, each by a task of its
    own, and again when it has died and one of its tools is called. A change of the servers counts
    from the next turn or call on. What cannot be used is told to `tell`, in words, at each turn.
    Calls go side by side, also with an action of the inner runtime.
    """

    def __init__(
        self,
        inner: Runtime,
        config: Config,
        options: McpOptions = McpOptions(),  # noqa: B008 - immutable
        tell: Callable[[str], None] = _tell_nobody,
        user_id: str | None = None,
    ) -> None:
        super().__init__(inner)
        self._config = config
        self._options = options
        self._tell = tell
        self._user_id = user_id
        self._known: Mapping[str, Any] | None = None
        self._connections: list[Connection] = []
        self._left_out = 0
        self._listed: list[Listing] = []
        self._catalogue = Catalogue({}, ())
        self._closed = False
        self._leaving: set[asyncio.Task[None]] = set()

    async def tools(self) -> Sequence[Tool]:
        """See Runtime. Waits for servers that were not tried before. Raises what reading the settings raises."""
        own = await self.inner.tools()
        await self._attend(CONNECTING)
        for connection in self._connections:
            connection.try_again()
            if connection.fault is not None:
                self._tell(f"The tool server {connection.name} cannot be used: {connection.fault}.")
        for text in self._catalogue.told:
            self._tell(text)
        if self._left_out:
            self._tell(f"{self._left_out} tool servers are left out: {MOST_SERVERS} are used.")
        return [*own, *(entry.tool for entry in self._catalogue.entries.values())]

    async def perform(self, action: Action) -> Observation:
        """See Runtime; the call of a tool by the server that has it."""
        if not isinstance(action, MCPAction):
            return await self.inner.perform(action)
        if self.status is not RuntimeStatus.READY:
            raise RuntimeUnavailable("the runtime is not connected")
        await self._attend()
        entry = self._catalogue.entries.get(action.name)
        if entry is None:
            return failure(self._no_tool(action.name), UNAVAILABLE_ID)
        server = entry.connection
        try:
            given = cast("dict[str, Any]", storable(action.arguments))
            return observation_of(action, await server.call(entry.listed, given))
        except CallRefused as error:
            return failure(str(error))
        except ServerFault as fault:
            text = f"The tool {action.name} has not answered. Of its server {server.name}: {fault}."
            return failure(text, UNAVAILABLE_ID)

    async def close(self) -> None:
        """See Runtime; ends the programs, too, whatever comes."""
        connections, self._connections = self._connections, []
        self._closed = True
        try:
            _, *closed = await asyncio.gather(
                self._left(),
                self.inner.close(),
                *(one.close() for one in connections),
                return_exceptions=True,
            )
        finally:
            for one in connections:
                one.kill()
        for error in closed:
            if isinstance(error, BaseException):
                raise error

    async def _attend(self, word: str = "") -> None:
        """Know the user's servers as they are set now, and have each of them tried once."""
        config = await self._config()
        if self._closed:
            raise RuntimeUnavailable("the runtime is closed")
        if config != self._known:
            self._change(McpConfig.model_validate(config or {}))
            self._known = config
        trying = [one.begin() for one in self._connections if not one.was_tried]
        if trying:
            if word:
                self._tell(word)
            await asyncio.wait(trying)
        listed = [one.listing for one in self._connections]
        if len(listed) != len(self._listed) or any(map(is_not, listed, self._listed)):
            self._listed, self._catalogue = listed, catalogue_of(self._connections)

    def _change(self, config: McpConfig) -> None:
        """Connect what is new, and let go what is not there any more."""
        wanted: list[Server] = [*config.stdio_servers, *config.shttp_servers, *config.sse_servers]
        self._left_out = max(0, len(wanted) - MOST_SERVERS)
        before = {id(one): one for one in self._connections}
        self._connections, self._listed = [], []
        for server, name in zip(wanted[:MOST_SERVERS], names_of(wanted), strict=False):
            kept = next((one for one in before.values() if one.server == server), None)
            if kept is None:
                kept = Connection(server, name, self._options, self._user_id)
            before.pop(id(kept), None)
            kept.name = name
            self._connections.append(kept)
        for gone in before.values():
            leaving = asyncio.get_running_loop().create_task(gone.close())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _left(self) -> None:
        """Wait for the end of connections that were let go."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _no_tool(self, name: str) -> str:
        """Say that there is no such tool, and what there is."""
        quoted = name if len(name) <= LONGEST_QUOTE else "of that name"
        names = ", ".join(self._catalogue.entries)
        found = f"There are: {names}." if names else "No tool server is connected."
        return f"There is no tool {quoted}. {found}"
