"""What requests to other machines have in common: the name they give, and the certificates they trust."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def user_agent() -> str:
    """Return the `User-Agent` of the server's own requests."""
    try:
        return f"parley/{version('parley-server')}"
    except PackageNotFoundError:
        return "parley"


@cache
def certificates() -> ssl.SSLContext:
    """Return the certificates of the system, read once: that takes longer than all else of a client."""
    return ssl.create_default_context()


@asynccontextmanager
async def closed_after(source: AsyncIterable[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield the bytes of a response, and end there what reads them, which else waits for the collector."""
    chunks = aiter(source)
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
