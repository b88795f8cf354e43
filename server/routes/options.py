"""What a page asks before anything else: /api/options."""

from starlette.requests import Request
from starlette.responses import Response

from server.routes.exchange import JsonResponse
from server.routes.services import Services

PAGE_CONFIG = {
    "APP_MODE": "oss",
    "GITHUB_CLIENT_ID": "",
    "POSTHOG_CLIENT_KEY": "",
    "FEATURE_FLAGS": {"ENABLE_BILLING": False, "HIDE_LLM_SETTINGS": False},
}


class OptionRoutes:
    """Choices the server offers; each list is sorted."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def config(self, _request: Request) -> Response:
        """Mode and feature flags."""
        return JsonResponse(PAGE_CONFIG)

    async def models(self, _request: Request) -> Response:
        """The model the agent declares, if it declares one."""
        model = self._services.agent_model
        return JsonResponse([] if model is None else [model])

    async def agents(self, _request: Request) -> Response:
        """Names of agents."""
        return JsonResponse([self._services.config.default_agent])

    async def security_analyzers(self, _request: Request) -> Response:
        """None are built in."""
        return JsonResponse([])
