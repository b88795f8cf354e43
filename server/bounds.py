"""The settings that say how much anyone may ask for, and whom requests may come through."""

from ipaddress import ip_network
from typing import Annotated

import limits
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, FiniteFloat
from pydantic_settings import NoDecode

from server.origins import given_host


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _check_network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError("an address (127.0.0.1) or a network (10.0.0.0/8) is needed") from error
    return value


def _check_rate(value: str) -> str:
    try:
        limits.parse(value)
    except ValueError as error:
        raise ValueError("a rate is written 600/minute or 20/5 seconds") from error
    return value


Names = Annotated[
    list[Annotated[str, AfterValidator(given_host)]], NoDecode, BeforeValidator(_split)
]
Networks = Annotated[
    list[Annotated[str, AfterValidator(_check_network)]], NoDecode, BeforeValidator(_split)
]
Rate = Annotated[str, AfterValidator(_check_rate)]


class Bounds(BaseModel):
    """What is allowed to one address, one user, one connection, and to all together."""

    permitted_hosts: Names = Field(
        default_factory=list,
        description="Names under which the server is reached (`chat.example.org`), as a list or "
        "separated by commas, besides its own. Empty: any if there is a `session_api_key`, else none.",
    )
    https: bool = Field(
        default=False,
        description="Clients reach the server by https only, through a proxy that ends TLS: its own "
        "origin is https, and browsers are told to keep to it (HSTS).",
    )
    trusted_proxies: Networks = Field(
        default_factory=list,
        description="Addresses or networks of proxies whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed, as a list or separated by commas.",
    )
    unlimited_addresses: Networks = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="Addresses or networks to which rates and counts per address do not apply, as a "
        "list or separated by commas.",
    )
    rate_reads: Rate = Field(
        default="6000/minute", description="Requests of a user or an address that change nothing."
    )
    rate_writes: Rate = Field(
        default="3000/minute", description="Requests of a user or an address that change something."
    )
    rate_creations: Rate = Field(
        default="300/minute", description="Conversations a user or an address may create."
    )
    rate_uploads: Rate = Field(default="120/minute", description="Uploads of a user or an address.")
    rate_handshakes: Rate = Field(
        default="600/minute", description="Socket connections an address may open."
    )
    rate_polls: Rate = Field(
        default="12000/minute", description="Requests of an address for sockets that poll."
    )
    rate_failures: Rate = Field(
        default="60/minute",
        description="Wrong keys and foreign origins of an address; beyond it, it is not served.",
    )
    rate_violations: Rate = Field(
        default="20/minute",
        description="Breaches of the protocol by an address; beyond it, its connections are cut for "
        "10 seconds.",
    )
    actions_per_second: FiniteFloat = Field(
        default=50,
        gt=0,
        description="Events the sockets of an address may send a second, over time.",
    )
    action_burst: int = Field(
        default=50, ge=1, description="Events the sockets of an address may send at once."
    )
    max_connections: int = Field(
        default=10_000, ge=1, description="Connections that may be open, of all clients."
    )
    max_connections_per_address: int = Field(
        default=500, ge=1, description="Connections that may be open from one address."
    )
    max_handshakes: int = Field(
        default=2048,
        ge=8,
        description="Connections that may be open and have not joined a conversation or asked for "
        "anything yet; then the oldest gives way. One address may have an eighth.",
    )
