"""Whether the server lives, whether it is ready, and what it uses."""

import time
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from server.errors import Answer
from server.routes.describing import Tag, described
from server.routes.exchange import JsonResponse, ResponseBody
from server.routes.process import ProcessFigures, Resources
from server.routes.services import Services
from storage.counters import Counters


class Status(ResponseBody):
    """All is well."""

    status: Literal["ok"] = "ok"


class ServerInfo(ResponseBody):
    """Seconds up, seconds since anybody was seen connected, resources, and what was done."""

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
        """The process answers."""
        return JsonResponse(Status())

    @described(Tag.HEALTH, answer=Literal["OK"])
    async def health(self, _request: Request) -> Response:
        """The same in an older form."""
        return JsonResponse("OK")

    @described(Tag.HEALTH, answer=Status, statuses={503: "Not ready; the text has the reasons"})
    async def ready(self, _request: Request) -> Response:
        """Whether requests should be sent here; 503 with the reasons when not."""
        reasons = await self._services.readiness.reasons()
        if reasons:
            answer = Answer(503, "not_ready", f"Not ready: {', '.join(reasons)}")
            return JsonResponse(answer.body(), answer.status)
        return JsonResponse(Status())

    @described(Tag.HEALTH, answer=ServerInfo)
    async def server_info(self, _request: Request) -> Response:
        """Seconds up, seconds since anybody was seen connected, resources, and what was done."""
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
