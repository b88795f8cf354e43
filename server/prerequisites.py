"""What must be stored before a conversation may begin or be joined."""

from server.errors import ModelKeyMissing, ServerError, SettingsNotFound

KEYLESS_PROVIDERS = ("bedrock/", "lemonade/")
"""Prefixes of models that are reached without an API key."""


def needs_key(model: str | None) -> bool:
    """Whether an agent that declares `model` needs an API key."""
    return model is not None and not model.startswith(KEYLESS_PROVIDERS)


def missing(*, require_settings: bool, model: str | None) -> ServerError | None:
    """What is missing as long as no settings are stored; None when nothing is."""
    if require_settings:
        return SettingsNotFound("Settings not found")
    return ModelKeyMissing("The agent's model needs an API key") if needs_key(model) else None
