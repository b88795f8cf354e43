"""The common part of requests to other machines: their name, the certificates they trust, their look-ups."""

import asyncio
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias
from urllib.request import getproxies

import httpx2

from runtime_stub.errors import RuntimeFloorError
from runtime_stub.look_ups import LOOK_UP_SECONDS, NoAddress

MOST_TRIED = 4
"""Addresses of a host that are tried, one after the other."""
LEAST_SECONDS = 0.1
"""Seconds that connecting to an address may take, however long its name was looked up."""

Addresses: TypeAlias = Callable[[str, float], Awaitable[Sequence[str]]]
"""Returns the addresses of a name, within a number of seconds. Raises NoAddress."""


class PrivateAddress(RuntimeFloorError):
    """The address is of this machine or a private network, which is not permitted."""


class Unresolved(httpx2.ConnectError):
    """The address of a host is not known; the text is the predicate of a sentence about the host."""


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


async def load_certificates() -> None:
    """Have the certificates read in a thread, if they have not been: a loop has other things to do meanwhile."""
    if not certificates.cache_info().currsize:
        await asyncio.to_thread(certificates)


class Counted(httpx2.AsyncByteStream):
    """The bytes of a response, of which each part is counted before it is passed on.

    `count` raises where they are too many.
    """

    def __init__(self, stream: httpx2.AsyncByteStream, count: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._count = count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield them. Raises what `count` raises."""
        chunks = aiter(self._stream)
        try:
            async for chunk in chunks:
                self._count(chunk)
                yield chunk
        finally:
            # What reads them ends here, and does not wait for the collector.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()


def unless_proxied(transport: httpx2.AsyncBaseTransport) -> Mapping[str, httpx2.AsyncBaseTransport]:
    """Return the `mounts` by which a client uses a transport, but for hosts that a proxy reaches.

    The environment names the proxies, and the hosts that are reached without one by the client's
    own transport.
    """
    return {} if getproxies().get("all") else {"all://": transport}


class LookedUp(httpx2.AsyncBaseTransport):
    """Connects to the addresses of a host that were looked up once, and are all permitted."""

    def __init__(self, addresses: Addresses, permits: Callable[[str], bool] | None = None) -> None:
        self._addresses = addresses
        self._permits = permits
        self._inner = httpx2.AsyncHTTPTransport(verify=certificates(), trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises PrivateAddress, Unresolved and what httpx2 raises."""
        if request.url.scheme not in ("http", "https"):
            raise httpx2.UnsupportedProtocol("the address is not one of HTTP")
        clocks = dict(request.extensions.get("timeout", {}))
        seconds = clocks.get("connect")
        begun = time.monotonic()
        try:
            waits = LOOK_UP_SECONDS if seconds is None else min(seconds, LOOK_UP_SECONDS)
            addresses = await self._addresses(request.url.host, waits)
        except NoAddress as error:
            raise Unresolved(str(error)) from error
        if self._permits is not None and not all(map(self._permits, addresses)):
            raise PrivateAddress
        *others, last = addresses[:MOST_TRIED]
        if seconds is not None:
            left = max(seconds - (time.monotonic() - begun), LEAST_SECONDS)
            clocks["connect"] = left / (len(others) + 1)
        for address in others:
            try:
                return await self._ask(request, address, clocks)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue  # nothing was sent
        return await self._ask(request, last, clocks)

    async def _ask(
        self, request: httpx2.Request, address: str, clocks: Mapping[str, float | None]
    ) -> httpx2.Response:
        extensions = {"sni_hostname": request.url.host, "timeout": clocks}
        return await self._inner.handle_async_request(
            httpx2.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # with the name as Host
                stream=request.stream,
                extensions={**request.extensions, **extensions},
            )
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
