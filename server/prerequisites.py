"""What must be stored before a conversation may begin or be joined."""

from server.errors import ModelKeyMissing, ServerError, SettingsNotFound
from storage.users.settings import Settings

KEYLESS_PROVIDERS = ("bedrock/", "lemonade/")
"""Prefixes of models that are reached without an API key."""


def needs_key(model: str | None) -> bool:
    """Whether an agent that declares `model` needs an API key."""
    return model is not None and not model.startswith(KEYLESS_PROVIDERS)


def missing(
    settings: Settings | None, *, require_settings: bool, model: str | None
) -> ServerError | None:
    """What is missing in a user's settings, None where none are stored; None when nothing is."""
    if require_settings and settings is None:
        return SettingsNotFound("Settings not found")
    if needs_key(model) and not (settings is not None and settings.has("llm_api_key")):
        return ModelKeyMissing("The agent's model needs an API key")
    return None
