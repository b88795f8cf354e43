"""The user's settings, and what a conversation must have of them to begin."""

from starlette.requests import Request
from starlette.responses import Response

from server.errors import SettingsNotFound, answer_for
from server.prerequisites import missing, needs_key
from server.routes.exchange import JsonResponse
from server.routes.services import Services


def check_settings(services: Services) -> None:
    """Raise SettingsNotFound or ModelKeyMissing when no conversation may begin. Nothing is stored."""
    config = services.config
    error = missing(require_settings=config.require_settings, model=services.agent_model)
    if error is not None:
        raise error


class SettingsRoutes:
    """`/api/settings`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def read(self, _request: Request) -> Response:
        """The defaults, as nothing is stored; 404 where the server requires settings.

        `llm_api_key_set` is true when there is nothing to set, since the agent needs no key.
        """
        services = self._services
        if services.config.require_settings:
            refusal = answer_for(SettingsNotFound())
            return JsonResponse(refusal.body(), 404)
        loop = services.default_settings
        return JsonResponse(
            {
                "language": "en",
                "agent": services.config.default_agent,
                "max_iterations": loop.max_iterations,
                "max_budget_per_task": loop.max_budget_per_task,
                "confirmation_mode": loop.confirmation_mode,
                "security_analyzer": None,
                "llm_model": services.agent_model or "",
                "llm_base_url": "",
                "llm_api_key": None,
                "llm_api_key_set": not needs_key(services.agent_model),
                "search_api_key": None,
                "search_api_key_set": False,
                "sandbox_api_key": None,
                "sandbox_base_container_image": None,
                "sandbox_runtime_container_image": None,
                "remote_runtime_resource_factor": 1,
                "secrets_store": {"provider_tokens": {}},
                "provider_tokens_set": {},
                "enable_default_condenser": True,
                "condenser_max_size": None,
                "enable_sound_notifications": False,
                "enable_proactive_conversation_starters": False,
                "enable_solvability_analysis": False,
                # Null would make the page ask for consent to telemetry, which there is none of.
                "user_consents_to_analytics": False,
                "mcp_config": None,
                "email": None,
                "email_verified": None,
                "git_user_name": None,
                "git_user_email": None,
                "v1_enabled": False,
            }
        )
