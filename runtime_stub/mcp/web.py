"""Tool servers that are reached by HTTP: whose addresses may be asked, and how much they may send."""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from runtime_stub.look_ups import look_ups_for
from runtime_stub.mcp.allowance import MOST_BYTES, TOO_MUCH, Allowance, Streams, TooMuch
from runtime_stub.outgoing import (
    Counted,
    LookedUp,
    certificates,
    unless_proxied,
    user_agent,
)
from storage.users.mcp import EventServer, HttpServer

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 30.0
UNICAST = IPv6Network("2000::/3")
"""The addresses that are given out: all others of IPv6 are of no network, or of a private one."""
TRANSLATED = IPv6Network("64:ff9b::/96")
"""Addresses that a gateway translates to those of IPv4 in their last four bytes."""


class Asked:
    """A question to a server, with the HTTP status that refused it, 0 for none; the SDK does not tell it."""

    status = 0


ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)
"""The question that is being asked: the SDK sends its request in the context of whoever asks."""
LOGGERS = (
    "client",
    "mcp.client.sse",
    "mcp.client.streamable_http",
    "mcp.shared.dispatcher",
    "mcp.shared.jsonrpc_dispatcher",
)
"""Loggers of the SDK, which quote servers at length and as often as these like."""


def _is_of_others(_: logging.LogRecord) -> bool:
    """Return whether a record of the SDK is of no server of ours."""
    return ASKED.get() is None


for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_is_of_others)


def web_transport(
    server: EventServer,
    allowance: Allowance,
    *,
    private: bool,
    user_id: str | None,
) -> AbstractAsyncContextManager[Streams]:
    """Return the transport to a user's server. With `private`, it may be on this machine or its network.

    Entering it raises PrivateAddress and what httpx2 raises.
    """
    addresses = partial(look_ups_for("tool servers").addresses, user_id)
    if private:
        client = _client(server, allowance, mounts=unless_proxied(LookedUp(addresses)))
    else:
        client = _client(server, allowance, transport=LookedUp(addresses, is_public))
    if isinstance(server, HttpServer):
        return _streamed(server.url, client)
    return sse_client(
        server.url,
        timeout=CONNECT_SECONDS,
        httpx_client_factory=lambda headers=None, timeout=None, auth=None: client,  # noqa: ARG005 - the SDK's
    )


@asynccontextmanager
async def _streamed(address: str, client: httpx2.AsyncClient) -> AsyncIterator[Streams]:
    transport = streamable_http_client(address, http_client=client, max_sse_event_size=MOST_BYTES)
    async with client, transport as streams:
        yield streams


def _client(server: EventServer, allowance: Allowance, **reached: Any) -> httpx2.AsyncClient:
    """Return a client that reaches the server in a way of `AsyncClient`: `transport` or `mounts`."""
    is_streamed = isinstance(server, HttpServer)

    async def admit(_: httpx2.Request) -> None:
        if allowance.fault:
            raise TooMuch  # the SDK would ask for its streams again

    async def look_at(response: httpx2.Response) -> None:
        is_answer = response.request.method == "POST"
        asked = ASKED.get()
        if asked is not None and (is_answer or not is_streamed):
            asked.status = 0 if response.is_success else response.status_code
        if is_answer and not is_streamed and not response.is_success:
            allowance.stop()  # the SDK sends nothing more then
        allowance.respond()
        if response.headers.get("content-encoding", "identity") != "identity":
            allowance.refuse(TOO_MUCH)  # no number of bytes says how long that is
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = Counted(response.stream, allowance.read)

    headers = {"Accept-Encoding": "identity", "User-Agent": user_agent()}
    if server.api_key is not None:
        headers["Authorization"] = f"Bearer {server.api_key.get_secret_value()}"
    return httpx2.AsyncClient(
        headers=headers,
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS, write=WRITE_SECONDS),
        event_hooks={"request": [admit], "response": [look_at]},
        verify=certificates(),
        **reached,
    )


def is_public(text: str) -> bool:
    """Return whether an address is one of the public internet, in whichever form it is written."""
    address = ip_address(text.partition("%")[0])
    meant = _meant_by(address)
    if isinstance(address, IPv6Address) and not meant and address not in UNICAST:
        return False
    return all(one.is_global and not one.is_multicast for one in (address, *meant))


def _meant_by(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """Return the addresses of IPv4 to which packets for an address may go."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in TRANSLATED:
        found.append(IPv4Address(address.packed[-4:]))
    return [one for one in found if one is not None]
