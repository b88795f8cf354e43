"""Records, settings and secrets of a V0 directory as those of a storage; values are never quoted."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from pydantic import ValidationError

from events.transfer.v0.conversion import moment_of
from storage.conversations.metadata import ConversationMetadata, default_title
from storage.users.secrets import CustomSecret, ProviderToken, Secrets
from storage.users.settings import Settings

MOMENTS = ("created_at", "last_updated_at")


class Converted(NamedTuple):
    """A record, and what of the old one did not fit."""

    record: ConversationMetadata
    notes: tuple[str, ...]


def record_of(
    conversation_id: str,
    user_id: str | None,
    found: Mapping[str, Any] | None,
    zone: tzinfo | None,
    begin: datetime | None,
) -> Converted:
    """Return the record of a conversation; `begin` is the moment of its first event, if it has one.

    Raises ZoneNeeded.
    """
    notes: list[str] = []
    if found is None:
        notes.append("its metadata cannot be read, and was made anew")
    values = {
        name: value
        for name, value in (found or {}).items()
        if name in ConversationMetadata.model_fields and value is not None
    }
    for name in MOMENTS:
        values[name] = moment_of(values.get(name), zone)
    values["created_at"] = values["created_at"] or begin or datetime(1970, 1, 1, tzinfo=UTC)
    values["conversation_id"] = conversation_id
    values.setdefault("user_id", user_id)
    if values.get("title") == default_title(conversation_id):
        del values["title"]  # it was given none
    while True:
        try:
            return Converted(ConversationMetadata.model_validate(values), tuple(notes))
        except ValidationError as error:
            misfits = {str(one["loc"][0]) for one in error.errors(include_input=False)}
            notes += (f"the {name} of its metadata does not fit" for name in sorted(misfits))
            values = {name: value for name, value in values.items() if name not in misfits}


class UserData(NamedTuple):
    """The settings and secrets of the one user, and what of them did not fit, by name only."""

    settings: Settings | None
    secrets: Secrets
    notes: tuple[str, ...]

    def masks(self) -> dict[str, str]:
        """Return every secret value under a unique name."""
        own = {} if self.settings is None else self.settings.masks()
        return {**own, **self.secrets.masks()}


def user_data_of(settings: Mapping[str, Any] | None, secrets: Mapping[str, Any] | None) -> UserData:
    """Return the settings and secrets of a V0 directory, which holds them in clear."""
    notes: list[str] = []
    kept = None if settings is None else _settings_of(settings, notes)
    found: dict[str, Any] = {**(_object((settings or {}).get("secrets_store"))), **(secrets or {})}
    tokens: dict[str, ProviderToken] = {}
    for name, one in _object(found.get("provider_tokens")).items():
        try:
            secret = ProviderToken.model_validate(one)
            Secrets.model_validate({"provider_tokens": {name: secret}})
        except ValidationError:
            notes.append(f"the token of {name} was left out: it does not fit")
        else:
            tokens[name] = secret
    custom: dict[str, CustomSecret] = {}
    for name, one in _object(found.get("custom_secrets")).items():
        value = _object(one)
        try:
            fields = {"value": value.get("secret"), "description": value.get("description") or ""}
            named = CustomSecret.model_validate(fields)
            Secrets.model_validate({"custom_secrets": {name: named}})
        except ValidationError:
            notes.append(f"the secret {name} was left out: it does not fit")
        else:
            custom[name] = named
    return UserData(
        kept,
        Secrets.model_validate({"custom_secrets": custom, "provider_tokens": tokens}),
        tuple(notes),
    )


def _settings_of(found: Mapping[str, Any], notes: list[str]) -> Settings:
    values = {
        name: value
        for name, value in found.items()
        if name in Settings.model_fields and value not in (None, "")
    }
    while True:
        try:
            return Settings.model_validate(values)
        except ValidationError as error:
            misfits = {str(one["loc"][0]) for one in error.errors(include_input=False)}
            notes += (
                f"the setting {name} was left out: it does not fit" for name in sorted(misfits)
            )
            values = {name: value for name, value in values.items() if name not in misfits}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
