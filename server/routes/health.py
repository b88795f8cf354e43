"""Endpoints for liveness, readiness, metrics and resources."""

import hmac
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from server.access.auth import KEY_HEADER
from server.access.client_address import peer_of
from server.access.rate_limits import RateClass
from server.config.settings import ServerConfig
from server.errors import Answer, Unauthorized
from server.observability.metrics import CONTENT_TYPE
from server.routes.endpoint import Tag, described
from server.routes.process import ProcessFigures, Resources
from server.routes.request import JsonResponse, ResponseBody
from server.routes.services import Services
from storage.counters import Counters

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers that a proxy adds: a request with one of them was forwarded."""
BEARER = "bearer "


class MetricsRoutes:
    """Answers whom the setting `metrics` lets read."""

    def __init__(self, services: Services) -> None:
        self._metrics = services.metrics
        self._config = services.config
        self._rates = services.rates

    @described(Tag.HEALTH, media_type=CONTENT_TYPE.partition(";")[0], raises=(Unauthorized,))
    async def read(self, request: Request) -> Response:
        """Return the metrics in Prometheus' text format. Raises Unauthorized, RateLimited."""
        given = _keys_of(request)
        address = self._rates.addresses.client(peer_of(request.scope), request.headers)
        if given and self._config.metrics != "open":
            self._rates.check(RateClass.FAILURES, address)
        if not may_read(self._config, request, given):
            if given:
                self._rates.note(RateClass.FAILURES, address)
            raise Unauthorized("The metrics require the session key or the metrics key")
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})


def may_read(config: ServerConfig, request: Request, given: Sequence[str]) -> bool:
    """Return whether a request that shows these keys may see the metrics."""
    if config.metrics == "open":
        return True
    keys = [key for key in (config.session_api_key, config.metrics_key) if key is not None]
    if not keys:
        direct = not any(name in request.headers for name in FORWARDED)
        return config.local and direct
    # All of them, so that the time taken tells nothing.
    found = [_fits(text, key) for text in given for key in keys]
    return any(found)


def _keys_of(request: Request) -> list[str]:
    given = [request.headers.get(KEY_HEADER, "")]
    authorization = request.headers.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        given.append(authorization[len(BEARER) :].strip())
    return [key for key in given if key]


def _fits(text: str, key: SecretStr) -> bool:
    given = text.encode(errors="surrogateescape")
    return hmac.compare_digest(given, key.get_secret_value().encode())


class Status(ResponseBody):
    """All is well."""

    status: Literal["ok"] = "ok"


class Degraded(Status):
    """Requests should still be sent here, although something does not work."""

    degraded: list[str]


class ServerInfo(ResponseBody):
    """Uptime and idle time in seconds, resources, and counters."""

    uptime: float
    idle_time: float
    resources: Resources
    counters: Counters


class HealthRoutes:
    """For load balancers and supervisors; none of these needs a key."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._figures = ProcessFigures(services.config.data_dir)
        self._seen_busy_at = services.started

    @described(Tag.HEALTH, answer=Status)
    async def alive(self, _request: Request) -> Response:
        """Report that the process is alive."""
        return JsonResponse(Status())

    @described(Tag.HEALTH, answer=Literal["OK"])
    async def health(self, _request: Request) -> Response:
        """Report that the process is alive, in an older form."""
        return JsonResponse("OK")

    @described(
        Tag.HEALTH,
        answer=Status | Degraded,
        statuses={503: "Not ready; the text gives the reasons"},
    )
    async def ready(self, _request: Request) -> Response:
        """Report whether the server is ready for requests."""
        reasons, degraded = await self._services.readiness.verdict()
        if reasons:
            answer = Answer(503, "not_ready", f"Not ready: {', '.join(reasons)}")
            return JsonResponse(answer.body(), answer.status)
        if degraded:
            return JsonResponse(Degraded(degraded=degraded))
        return JsonResponse(Status())

    @described(Tag.HEALTH, answer=ServerInfo, raises=(TimeoutError,))
    async def server_info(self, _request: Request) -> Response:
        """Report uptime, idle time, resources of the process and counters."""
        now = time.monotonic()
        if len(self._services.connections) > 0:
            self._seen_busy_at = now
        return JsonResponse(
            ServerInfo(
                uptime=now - self._services.started,
                idle_time=now - self._seen_busy_at,
                resources=await self._figures.read(),
                counters=self._services.event_store.counters,
            )
        )
