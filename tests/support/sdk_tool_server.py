"""A tool server with the SDK's own server side: `sdk_tool_server.py stdio`, or `http PORT`, or `sse PORT`.

Run as a program. `NOTES` names a file to which it adds a line for what it was asked.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fccf"
    "c0500f0004850180a5e2a4890000000049454e44ae426082"
)


class Weather(BaseModel):
    """A typed result."""

    city: str
    degrees: int


tools = MCPServer("test tools")


def note(line: str) -> None:
    """Add a line to the notes."""
    path = os.environ.get("NOTES")
    if path:
        with Path(path).open("a") as notes:
            notes.write(f"{line}\n")


@tools.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    note(f"add {a} {b}")
    return a + b


@tools.tool()
def weather(city: str) -> Weather:
    """Tell the weather."""
    return Weather(city=city, degrees=21)


@tools.tool()
def environment() -> list[str]:
    """Tell the variables that the server was given."""
    return sorted(f"{name}={value}" for name, value in os.environ.items())


@tools.tool()
def authorization(ctx: Context) -> str:
    """Tell the key that came with the request."""
    request = ctx.request_context.request
    return "" if request is None else request.headers.get("authorization", "")


@tools.tool()
def picture() -> Image:
    """Draw a pixel."""
    return Image(data=PIXEL, format="png")


@tools.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@tools.tool()
async def wait() -> str:
    """Wait until the call is cancelled."""
    note("waits")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled")
        raise
    return "never"


@tools.tool()
def repeat(text: str, times: int) -> str:
    """Repeat a text."""
    return text * times


@tools.tool()
def leave() -> str:
    """End the server at once."""
    os._exit(7)


def main(transport: str, port: str = "0") -> None:
    """Serve."""
    note(f"started {os.getpid()}")
    if transport == "stdio":
        tools.run("stdio")
    elif transport == "sse":
        tools.run("sse", port=int(port))
    else:
        tools.run("streamable-http", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
