"""The user's settings."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.errors import Gone, SettingsNotFound, SettingsNotStored, answer_for
from server.prerequisites import needs_key
from server.routes.exchange import JsonResponse, principal_of, read_body
from server.routes.services import Services
from storage.errors import BadValue, StorageError
from storage.secrets.model import Secrets
from storage.settings.model import Settings


class SettingsRoutes:
    """`/api/settings` of whoever asks."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def read(self, request: Request) -> Response:
        """What is stored, defaults for the rest; 404 where the server requires settings.

        No key is ever shown. With nothing stored, `llm_api_key_set` is true when the agent needs
        no key.
        """
        users, user_id = self._services.users, principal_of(request).user_id
        stored = await users.settings(user_id)
        if stored is None and self._services.config.require_settings:
            refusal = answer_for(SettingsNotFound())
            return JsonResponse(refusal.body(), 404)
        return JsonResponse(self._shown(stored, await users.secrets(user_id)))

    async def store(self, request: Request) -> Response:
        """Change the fields that are given and keep all others.

        Raises what reading raises, BadValue, and SettingsNotStored when the storage fails.
        """
        change = await read_body(request, Settings)

        def merged(stored: Settings | None) -> Settings:
            return (stored or Settings()).merged(change)

        try:
            await self._services.users.change_settings(principal_of(request).user_id, merged)
        except BadValue:
            raise
        except StorageError as error:
            raise SettingsNotStored(f"{type(error).__name__}: {error}") from error
        return JsonResponse({"message": "Settings stored"})

    async def reset(self, _request: Request) -> Response:
        """Raise Gone."""
        raise Gone("Reset settings functionality has been removed.")

    def _shown(self, stored: Settings | None, secrets: Secrets) -> dict[str, Any]:
        hosts = {name.value: one.host for name, one in secrets.provider_tokens.items()}
        shown = self._defaults() | {"provider_tokens_set": hosts}
        if stored is None:
            return shown
        keys = {f"{name}_set": stored.has(name) for name in ("llm_api_key", "search_api_key")}
        return shown | stored.shown() | keys

    def _defaults(self) -> dict[str, Any]:
        services = self._services
        loop = services.default_settings
        return {
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
