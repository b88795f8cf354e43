"""The settings of what the server tells of itself: metrics, traces, log lines, readiness."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat, SecretStr, field_validator

SHORTEST_SLOW_SECONDS = 0.2
"""Twice the time between two beats."""

_ENDPOINT = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/[!-?A-~]*")


class Observability(BaseModel):
    """Nothing of this costs anything for each event."""

    metrics: Literal["guarded", "open", "off"] = Field(
        default="guarded",
        description="Who may read `/metrics`. `guarded`: who shows the session key or `metrics_key`, and, where "
        "neither is set, who asks a loopback address directly; `open`: everybody; `off`: nobody.",
    )
    metrics_key: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        default=None,
        description="A key that opens `/metrics` and nothing else, sent as `Authorization: Bearer KEY`.",
    )
    access_log: bool = Field(
        default=True,
        description="Log a line for each request: method, route, status, milliseconds. Probes, "
        "the sockets' polling and the files of pages are logged at `debug` only.",
    )
    slow_callback_seconds: FiniteFloat = Field(
        default=0.5,
        ge=0,
        description="Seconds after which whatever holds up the event loop is logged, with the stack it was "
        "found in; at least 0.2, or 0 to not look.",
    )
    min_free_disk_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Free bytes of the data directory's disk below which `/ready` says that it is nearly full.",
    )
    otel_endpoint: str | None = Field(
        default=None,
        description="Where traces are sent by OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; "
        "needs the extra `otel`. Unset makes none.",
    )

    @field_validator("slow_callback_seconds")
    @classmethod
    def _check_seconds(cls, value: float) -> float:
        if 0 < value < SHORTEST_SLOW_SECONDS:
            raise ValueError(f"at least {SHORTEST_SLOW_SECONDS}, or 0")
        return value

    @field_validator("otel_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _ENDPOINT.fullmatch(value):
            raise ValueError("an endpoint is written http://host:port/v1/traces, without a key")
        return value
