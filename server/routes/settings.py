"""The user's settings."""

import logging
from typing import Any, NoReturn

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from server.agent.reasons import failure_of
from server.conversations.users import needs_key
from server.errors import Gone, NotAvailable, SettingsNotFound, SettingsNotStored, answer_for
from server.routes.endpoint import Tag, described
from server.routes.request import JsonResponse, RequestBody, ResponseBody, owner_of, read_body
from server.routes.secrets import ChangeOutcome
from server.routes.services import Services
from storage.errors import BadValue, StorageError
from storage.users.secrets import Secrets
from storage.users.settings import Key, Settings, Words

logger = logging.getLogger(__name__)


class ShownSettings(ResponseBody):
    """The requesting user's effective settings; every key and every secret inside is hidden."""

    language: str
    agent: str
    max_iterations: int
    max_budget_per_task: float | None
    turn_seconds: float
    confirmation_mode: bool
    security_analyzer: str | None
    llm_model: str
    llm_base_url: str
    llm_api_key: None
    llm_api_key_set: bool
    search_api_key: None
    search_api_key_set: bool
    sandbox_api_key: None
    sandbox_base_container_image: str | None
    sandbox_runtime_container_image: str | None
    remote_runtime_resource_factor: int
    secrets_store: dict[str, dict[str, str]]
    provider_tokens_set: dict[str, str | None]
    enable_default_condenser: bool
    condenser_max_size: int | None
    enable_sound_notifications: bool
    enable_proactive_conversation_starters: bool
    enable_solvability_analysis: bool
    user_consents_to_analytics: bool
    mcp_config: dict[str, list[dict[str, JsonValue]]] | None
    email: str | None
    email_verified: bool | None
    git_user_name: str | None
    git_user_email: str | None
    v1_enabled: bool


class ModelTrial(RequestBody):
    """Settings to be tried; what is absent or empty is as it is stored."""

    llm_model: Words | None = None
    llm_base_url: Words | None = None
    llm_api_key: Key | None = None


class TrialOutcome(ResponseBody):
    """Whether the agent's model answered, a sentence for people, and the reason why it did not."""

    works: bool
    message: str
    reason: str | None = None


MOST_TRIALS = 8
"""Trials under way at the same time."""
NOTHING_TO_TRY = (
    "The agent of this server asks no model of the settings; `--agent llm` starts one that does."
)


class SettingsRoutes:
    """Endpoints of the requesting user's settings."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._trials = 0

    @described(
        Tag.SETTINGS,
        answer=ShownSettings,
        statuses={404: "Nothing is stored, and the server requires settings"},
    )
    async def read(self, request: Request) -> Response:
        """Return the stored settings, with defaults for the rest.

        Keys are never returned. If nothing is stored, `llm_api_key_set` is true when the agent
        needs no key.
        """
        users, owner = self._services.users, owner_of(request)
        stored = await users.settings(owner)
        if stored is None and self._services.config.require_settings:
            refusal = answer_for(SettingsNotFound())
            return JsonResponse(refusal.body(), 404)
        return JsonResponse(self._shown(stored, await users.secrets(owner)))

    @described(
        Tag.SETTINGS, body=Settings, answer=ChangeOutcome, raises=(BadValue, SettingsNotStored)
    )
    async def store(self, request: Request) -> Response:
        """Change the given fields of the settings and leave the others as they are.

        Raises what reading raises, BadValue, and SettingsNotStored when the storage fails.
        """
        change = await read_body(request, Settings)

        def merged(stored: Settings | None) -> Settings:
            return (stored or Settings()).merged(change)

        try:
            await self._services.users.change_settings(owner_of(request), merged)
        except BadValue:
            raise
        except StorageError as error:
            raise SettingsNotStored(f"{type(error).__name__}: {error}") from error
        return JsonResponse(ChangeOutcome(message="Settings stored"))

    @described(Tag.SETTINGS, body=ModelTrial, answer=TrialOutcome, raises=(NotAvailable,))
    async def try_model(self, request: Request) -> Response:
        """Ask the model of the settings for a word, before they are stored.

        The given fields stand in the place of the stored ones; nothing is stored. Raises what reading
        raises, and NotAvailable while too many trials are under way.
        """
        trial = await read_body(request, ModelTrial)
        if self._trials >= MOST_TRIALS:
            raise NotAvailable("Other models are being tried; try again in a moment")
        self._trials += 1
        try:
            outcome = await self._tried(
                trial, await self._services.users.settings(owner_of(request))
            )
        finally:
            self._trials -= 1
        return JsonResponse(outcome)

    async def _tried(self, trial: ModelTrial, stored: Settings | None) -> TrialOutcome:
        given = {name: value for name, value in trial if value}
        settings = (stored or Settings()).merged(Settings(**given))
        users = self._services.users
        try:
            message = await self._services.try_settings(users.agent_settings(settings))
        except NotImplementedError:
            return TrialOutcome(works=False, message=NOTHING_TO_TRY)
        except Exception as error:
            failure = failure_of(error)
            logger.info("a trial of a model failed", exc_info=error)
            text = users.masked_in(settings, failure.text)
            return TrialOutcome(works=False, message=text, reason=failure.reason)
        return TrialOutcome(works=True, message=users.masked_in(settings, message))

    @described(Tag.SETTINGS, answer=NoReturn, raises=(Gone,))
    async def reset(self, _request: Request) -> Response:
        """Refuse: this endpoint was removed. Raises Gone."""
        raise Gone("Reset settings functionality has been removed.")

    def _shown(self, stored: Settings | None, secrets: Secrets) -> ShownSettings:
        hosts = {name.value: one.host for name, one in secrets.provider_tokens.items()}
        shown = self._defaults() | {"provider_tokens_set": hosts}
        if stored is None:
            return ShownSettings.model_validate(shown)
        keys = {f"{name}_set": stored.has(name) for name in ("llm_api_key", "search_api_key")}
        return ShownSettings.model_validate(shown | stored.shown() | keys)

    def _defaults(self) -> dict[str, Any]:
        services, config = self._services, self._services.config
        return {
            "language": "en",
            "agent": config.agent_name,
            "max_iterations": config.max_iterations,
            "max_budget_per_task": config.max_budget_per_task,
            "turn_seconds": config.turn_seconds,
            "confirmation_mode": config.confirmation_mode,
            "security_analyzer": None,
            "llm_model": config.llm_model or services.agent_model or "",
            "llm_base_url": config.llm_base_url or "",
            "llm_api_key": None,
            "llm_api_key_set": config.has_model_key and not needs_key(services.agent_model),
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
