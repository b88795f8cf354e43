"""Options a page needs before anything else: /api/options."""

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from server.routes.endpoint import Tag, described
from server.routes.request import JsonResponse, ResponseBody
from server.routes.services import Services


class FeatureFlags(ResponseBody):
    """Features a page may show; `ALLOW_MCP_STDIO` says that tool servers may be programs."""

    ENABLE_BILLING: bool = False
    HIDE_LLM_SETTINGS: bool = False
    ALLOW_MCP_STDIO: bool = False


class PageConfig(ResponseBody):
    """Mode and feature flags; the keys of other services are empty."""

    APP_MODE: Literal["oss"] = "oss"
    GITHUB_CLIENT_ID: str = ""
    POSTHOG_CLIENT_KEY: str = ""
    FEATURE_FLAGS: FeatureFlags = FeatureFlags()


class ExampleMessage(ResponseBody):
    """An example first message, and its title."""

    title: str
    message: str


class OptionRoutes:
    """Choices the server offers; each list is sorted."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.OPTIONS, answer=PageConfig)
    async def config(self, _request: Request) -> Response:
        """Return the page's mode and feature flags."""
        flags = FeatureFlags(ALLOW_MCP_STDIO=self._services.config.mcp_stdio)
        return JsonResponse(PageConfig(FEATURE_FLAGS=flags))

    @described(Tag.OPTIONS, answer=list[str])
    async def models(self, _request: Request) -> Response:
        """List the model that the agent declares, if any."""
        model = self._services.agent_model
        return JsonResponse([] if model is None else [model])

    @described(Tag.OPTIONS, answer=list[str])
    async def agents(self, _request: Request) -> Response:
        """List the names of the agents."""
        return JsonResponse([self._services.config.agent_name])

    @described(Tag.OPTIONS, answer=list[ExampleMessage])
    async def examples(self, _request: Request) -> Response:
        """Return the agent's example messages."""
        offered = self._services.agent_examples
        return JsonResponse(
            [ExampleMessage(title=one.title, message=one.message) for one in offered]
        )

    @described(Tag.OPTIONS, answer=list[str])
    async def security_analyzers(self, _request: Request) -> Response:
        """List the security analyzers: always none."""
        return JsonResponse([])
