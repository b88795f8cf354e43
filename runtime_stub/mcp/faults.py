"""What people are told of a tool server that cannot be used: sentences of our own, never the server's."""

from collections.abc import Iterator, Sequence

import anyio
import httpx2
from mcp import MCPError
from mcp.types import CONNECTION_CLOSED

from runtime_stub.errors import RuntimeFloorError
from runtime_stub.mcp.allowance import NO_MCP, TOO_MUCH, TooMuch
from runtime_stub.mcp.program import CannotStart
from runtime_stub.outgoing import PrivateAddress, Unresolved

REFUSED_KEY = (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN)
CLOSED = "it closed the connection"
PRIVATE = (
    "its address is one of this server's machine or of a private network, which the setting"
    " mcp_private_addresses does not permit"
)
PROGRAM = "it is a program, which the setting mcp_stdio does not permit"


class ServerFault(RuntimeFloorError):
    """A tool server cannot be used; the text is the predicate of a sentence about it."""


def fault_of(error: BaseException, *, status: int, exit_code: int | None) -> ServerFault:
    """Return what is to be said of a connection that failed.

    `status` is that of the last HTTP response that was an error, 0 for none.
    """
    found = [*leaves_of(error)]
    for one in found:
        if isinstance(one, ServerFault):
            return one
    text = _text_of_ours(found) or _text_of_end(status, exit_code) or _text_of_theirs(found)
    return ServerFault(text)


def _text_of_ours(found: Sequence[BaseException]) -> str:
    """Return what is to be said where it was we who did not go on; nothing otherwise."""
    for one in found:
        match one:
            case CannotStart():
                return str(one)
            case PrivateAddress():
                return PRIVATE
            case TooMuch():
                return TOO_MUCH
            case _:
                pass
    return ""


def _text_of_end(status: int, exit_code: int | None) -> str:
    """Return what is to be said of an answer of HTTP, or a program's end; nothing if there is none."""
    if status in REFUSED_KEY:
        return f"it does not accept the key (HTTP {status})"
    if status:
        return f"it answered with an error (HTTP {status})"
    return "" if exit_code is None else f"the program ended by itself (exit code {exit_code})"


def _text_of_theirs(found: Sequence[BaseException]) -> str:
    """Return what is to be said of errors of the SDK."""
    for one in found:
        match one:
            case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
                return "its address is not one of HTTP"
            case httpx2.SSEError():
                return NO_MCP
            case Unresolved():
                return f"it cannot be reached: {one}"
            case httpx2.TransportError():
                return "it cannot be reached"
            case MCPError() | anyio.EndOfStream() if is_end(one):
                return CLOSED
            case _:
                pass
    return NO_MCP


def is_end(error: MCPError | anyio.EndOfStream) -> bool:
    """Return whether it is the SDK that says so: servers use its code for errors of any kind."""
    if isinstance(error, anyio.EndOfStream):
        return True
    return error.error.code == CONNECTION_CLOSED and error.error.message == "Connection closed"


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that are grouped in one, or itself."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves_of(one)
    else:
        yield error
