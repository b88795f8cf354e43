"""One tool server: connected when it is needed and again when it has died, called, and let go."""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import anyio
from mcp import Client, MCPError
from mcp.client import ClientSession
from mcp.types import (
    INVALID_REQUEST,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    InputRequiredResult,
    PaginatedRequestParams,
    Tool as ListedTool,
)
from pydantic import TypeAdapter, ValidationError

from runtime_stub.errors import RuntimeFloorError
from runtime_stub.mcp.allowance import Allowance, Streams, TooMuch
from runtime_stub.mcp.faults import (
    CLOSED,
    PROGRAM,
    REFUSED_KEY,
    ServerFault,
    fault_of,
    is_end,
    leaves_of,
)
from runtime_stub.mcp.listing import Listing, listing_of
from runtime_stub.mcp.program import Program
from runtime_stub.mcp.web import ASKED, Asked, web_transport
from runtime_stub.outgoing import load_certificates
from runtime_stub.tools import McpOptions
from storage.users.mcp import CommandServer, EventServer

logger = logging.getLogger(__name__)

Server: TypeAlias = EventServer | CommandServer
MOST_LISTED = 1_000
"""Tools of one server after which it is not asked for more."""
MOST_PAGES = 100
CLOSE_SECONDS = 1.2
"""Seconds a connection may take to end, a program's half seconds among them, before it is cut."""
UNKNOWN_SESSION = (400, 404)
"""HTTP statuses by which servers refuse requests of a session that they do not know."""
STAND_INS = ("Not Found", "Server returned an error response")
"""Texts by which the SDK stands in for an HTTP error that says nothing."""
US = Implementation(name="parley", version="1")
RESULT: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(
    CallToolResult | InputRequiredResult
)


class CallRefused(RuntimeFloorError):
    """The server has refused a call; the text is the server's."""


class SessionGone(ServerFault):
    """The server does not know the session any more: nothing was done."""


class Link:
    """One life of a connection, from its handshake to its end; all of it belongs to one task.

    `open` raises ServerFault. The task's end, however it comes, ends the program there is.
    """

    def __init__(self, server: Server, options: McpOptions, user_id: str | None) -> None:
        self.listing = Listing()
        self._server = server
        self._options = options
        self._user_id = user_id
        self._asked = Asked()
        self._allowance = Allowance(self._cut_off)
        self._program: Program | None = None
        self._session: ClientSession | None = None
        self._calls: set[Task[Any]] = set()
        self._end = asyncio.Event()
        self._opened: Future[None] | None = None
        self._task: Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it can be asked something."""
        task = self._task
        return (
            self._session is not None
            and task is not None
            and not task.done()
            and not self._allowance.over.is_set()
            and not (self._program is not None and self._program.has_ended)
        )

    async def open(self) -> None:
        """Connect, and read which tools there are. Raises ServerFault."""
        loop = asyncio.get_running_loop()
        opened = self._opened = loop.create_future()
        task = self._task = loop.create_task(self._live())
        task.add_done_callback(_looked_at)
        ended = loop.create_task(self._end.wait())
        seconds = self._options.connect_seconds
        try:
            await asyncio.wait(
                (opened, task, ended), timeout=seconds, return_when="FIRST_COMPLETED"
            )
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            ended.cancel()
        if opened.done():
            return
        is_late = not task.done() and not self._end.is_set()
        if not task.done():
            if not is_late:
                self.kill()  # the handshake is over
            await self.close()
        if is_late:
            raise ServerFault(f"it did not answer within {seconds:g} seconds")
        error = task.exception() if task.done() and not task.cancelled() else None
        raise self._fault(error or anyio.EndOfStream(), self._asked) from error

    async def call(
        self, tool: str, arguments: Mapping[str, Any], seconds: float
    ) -> CallToolResult | InputRequiredResult:
        """Have a tool called. Cancelling it tells the server so, and does not wait for that.

        Raises CallRefused, SessionGone, and ServerFault where nobody knows what was done.
        """
        session = self._session
        if session is None or not self.is_up:
            raise SessionGone(CLOSED)
        self._allowance.renew()
        asked = Asked()
        params = CallToolRequestParams(name=tool, arguments=dict(arguments))
        # Not by `call_tool`, which would check the result by patterns of the server's own making:
        # one of them can keep the event loop for minutes.
        request = CallToolRequest(params=params)
        work = asyncio.get_running_loop().create_task(_answer(session, request, asked))
        self._calls.add(work)
        work.add_done_callback(self._called)
        try:
            await asyncio.wait((work,), timeout=seconds)
        finally:
            work.cancel()
        if not work.done():
            raise ServerFault(f"it did not answer within {seconds:g} seconds")
        if work.cancelled():
            raise self._fault(anyio.EndOfStream(), asked)
        try:
            return work.result()
        except MCPError as error:
            raise self._refusal(error, asked) from error
        except ValidationError as error:
            raise ServerFault("its answer is no result of a tool") from error
        except Exception as error:
            raise self._fault(error, asked) from error

    async def close(self) -> None:
        """End the connection, its calls and its program; at most about two seconds. Raises nothing."""
        self._end.set()
        for call in self._calls:
            call.cancel()
        tasks = {task for task in (self._task, *self._calls) if task is not None}
        try:
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
                self.kill()
                if late:
                    await asyncio.wait(late, timeout=CLOSE_SECONDS / 2)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the connection and its program at once."""
        if self._program is not None:
            self._program.kill()
        if self._task is not None:
            self._task.cancel()

    def _called(self, work: Task[Any]) -> None:
        self._calls.discard(work)
        _looked_at(work)

    async def _live(self) -> None:
        try:
            await self._connected("legacy")
        except Exception as error:
            # A server of the newest protocol alone refuses the handshake of the others; these may
            # hang or break at a question of the newest, so that it is not asked first.
            is_known = self._session is not None or self._asked.status in REFUSED_KEY
            if is_known or self._allowance.fault or not _is_refused(error):
                raise
            await self._connected("auto")

    async def _connected(self, mode: str) -> None:
        self._allowance, self._asked = Allowance(self._cut_off), Asked()
        ASKED.set(self._asked)
        await load_certificates()
        transport = self._allowance.counted(self._transport())
        async with Client(transport, mode=mode, cache=None, client_info=US) as client:
            self.listing = await listing_of(await _listed(client.session))
            if self._allowance.fault:
                raise TooMuch
            self._session, self._asked.status = client.session, 0
            self._allowance.renew()
            if self._opened is not None and not self._opened.done():
                self._opened.set_result(None)
            await self._end.wait()

    def _transport(self) -> AbstractAsyncContextManager[Streams]:
        server, options = self._server, self._options
        if isinstance(server, EventServer):
            return web_transport(
                *(server, self._allowance),
                private=options.private_addresses,
                user_id=self._user_id,
            )
        if not options.stdio:
            raise ServerFault(PROGRAM)
        self._program = Program(server, self._allowance)
        return self._program

    def _cut_off(self) -> None:
        if self._allowance.fault:
            logger.info("a tool server is cut off: %s", self._allowance.fault)
        self._end.set()

    def _refusal(self, error: MCPError, asked: Asked) -> RuntimeFloorError:
        code, text = error.error.code, error.error.message
        if code == INVALID_REQUEST and asked.status in UNKNOWN_SESSION:
            return SessionGone(CLOSED)
        is_stand_in = asked.status and text in STAND_INS
        if is_end(error) or is_stand_in or self._allowance.fault:
            return self._fault(error, asked)
        return CallRefused(text)

    def _fault(self, error: BaseException, asked: Asked) -> ServerFault:
        if self._allowance.fault and not asked.status:
            return ServerFault(self._allowance.fault)
        exit_code = None if self._program is None else self._program.exit_code
        return fault_of(error, status=asked.status, exit_code=exit_code)


class Connection:
    """A tool server of one user, with the link there is to it now; `name` is its name for people.

    `listing` has the tools that it listed last, `fault` says why it cannot be used.
    """

    def __init__(
        self, server: Server, name: str, options: McpOptions, user_id: str | None = None
    ) -> None:
        self.server = server
        self.name = name
        self.listing = Listing()
        self.fault: ServerFault | None = None
        self.was_tried = False
        """Whether it has been connected, or was found not to be, once."""
        self._options = options
        self._user_id = user_id
        self._link: Link | None = None
        self._connecting: Task[None] | None = None
        self._retry_at = 0.0
        self._closed = False

    def try_again(self) -> None:
        """Begin to connect a server that failed `retry_seconds` ago; a call does so at once."""
        if self.fault is not None and asyncio.get_running_loop().time() >= self._retry_at:
            _ = self.begin()

    def begin(self) -> Task[None]:
        """Begin to connect, unless that is under way; the task raises nothing."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return self._connecting

    async def call(
        self, tool: str, arguments: Mapping[str, Any]
    ) -> CallToolResult | InputRequiredResult:
        """Have a tool called, once: by a new link where there is none that is up.

        Raises CallRefused, and ServerFault.
        """
        seconds = getattr(self.server, "timeout", None) or self._options.call_seconds
        link = await self._up()
        try:
            return await link.call(tool, arguments, seconds)
        except SessionGone:
            if self._link is link:
                _ = self.begin()
            return await (await self._up()).call(tool, arguments, seconds)

    async def close(self) -> None:
        """End what there is. Raises nothing."""
        self._closed = True
        connecting, link = self._connecting, self._link
        if connecting is not None:
            connecting.cancel()
        if link is not None:
            await link.close()
        if connecting is not None:
            await asyncio.wait((connecting,), timeout=CLOSE_SECONDS)

    def kill(self) -> None:
        """End what there is, at once."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.kill()

    async def _up(self) -> Link:
        """Return a link that is up. Raises ServerFault."""
        link = self._link
        if self._closed:
            raise ServerFault(CLOSED)
        if self._connecting is not None or link is None or not link.is_up:
            await asyncio.wait((self.begin(),))
            link = self._link
        if link is None or not link.is_up:
            raise self.fault or ServerFault(CLOSED)
        return link

    async def _connect(self) -> None:
        before, link = self._link, Link(self.server, self._options, self._user_id)
        if before is not None:
            await before.close()
        if self._closed:
            self._link, self.fault = None, ServerFault(CLOSED)
            return
        self._link = link
        try:
            await link.open()
        except ServerFault as fault:
            self._link, self.fault = None, fault
            self._retry_at = asyncio.get_running_loop().time() + self._options.retry_seconds
            logger.info("a tool server does not connect", exc_info=fault.__cause__)
        else:
            self.listing, self.fault = link.listing, None

    def _connected(self, connecting: Task[None]) -> None:
        self._connecting, self.was_tried = None, True
        _looked_at(connecting)


async def _answer(
    session: ClientSession, request: CallToolRequest, asked: Asked
) -> CallToolResult | InputRequiredResult:
    """Have a tool called, and know by `asked` how HTTP has answered that."""
    ASKED.set(asked)
    return await session.send_request(request, RESULT)


async def _listed(session: ClientSession) -> Sequence[ListedTool]:
    """Read the tools of a server, about as many as are ever used. Raises what the SDK raises."""
    capabilities = session.server_capabilities
    if capabilities is None or capabilities.tools is None:
        return ()
    found: list[ListedTool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or len(found) >= MOST_LISTED:
            break
    return found


def _is_refused(error: BaseException) -> bool:
    """Return whether a server has answered, by refusing."""
    return any(isinstance(one, MCPError) and not is_end(one) for one in leaves_of(error))


def _looked_at(task: Task[Any]) -> None:
    """Take up what a task has raised: it is told where the task is waited for, if anywhere."""
    if not task.cancelled():
        task.exception()
