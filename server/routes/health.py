"""Whether the server lives, whether it is ready, and what it uses."""

from dataclasses import asdict
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from server.errors import Answer
from server.routes.exchange import JsonResponse
from server.routes.process import ProcessFigures
from server.routes.services import Services


class HealthRoutes:
    """For load balancers and supervisors; none of these needs a key."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._figures = ProcessFigures(services.config.data_dir)
        self._seen_busy_at = services.started_at

    async def alive(self, _request: Request) -> Response:
        """The process answers."""
        return JsonResponse({"status": "ok"})

    async def health(self, _request: Request) -> Response:
        """The same in an older form."""
        return JsonResponse("OK")

    async def ready(self, _request: Request) -> Response:
        """Whether requests should be sent here; 503 with the reasons when not."""
        reasons = await self._services.readiness.reasons()
        if reasons:
            answer = Answer(503, "not_ready", f"Not ready: {', '.join(reasons)}")
            return JsonResponse(answer.body(), answer.status)
        return JsonResponse({"status": "ok"})

    async def server_info(self, _request: Request) -> Response:
        """Seconds up, seconds since anybody was seen connected, resources, and what was done."""
        now = datetime.now(UTC)
        if len(self._services.connections) > 0:
            self._seen_busy_at = now
        return JsonResponse(
            {
                "uptime": (now - self._services.started_at).total_seconds(),
                "idle_time": (now - self._seen_busy_at).total_seconds(),
                "resources": await self._figures.read(),
                "counters": asdict(self._services.event_store.counters),
            }
        )
