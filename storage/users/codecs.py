"""The stored form of settings and secrets: every secret value sealed, the rest readable; sans-IO."""

import json
from typing import Any

from storage.errors import Damaged, WrongKey
from storage.files.format import checked_body, with_checksum
from storage.sealing.cipher import Cipher, SecretLocation
from storage.users.secrets import Secrets
from storage.users.settings import KEY_FIELDS, Settings

SETTINGS_KIND = "settings"
SECRETS_KIND = "secrets"
"""Each names its record in the envelope, in the places of its values and on every medium."""

_MCP = "mcp_config"
_SEALED_FIELDS = {"custom_secrets": "value", "provider_tokens": "token"}


def encode_settings(settings: Settings, user_id: str | None, cipher: Cipher) -> bytes:
    """Return the settings record of an owner. Tool servers are sealed whole: URLs may hold keys."""
    values = settings.model_dump(mode="json", exclude={*KEY_FIELDS, _MCP}, exclude_none=True)
    secrets = {
        name: getattr(settings, name).get_secret_value()
        for name in KEY_FIELDS
        if settings.has(name)
    }
    if settings.mcp_config is not None:
        secrets[_MCP] = json.dumps(settings.mcp_config.revealed())
    sealed = {
        name: cipher.seal(value, SecretLocation(user_id, SETTINGS_KIND, name))
        for name, value in secrets.items()
    }
    body = json.dumps({"values": values, "sealed": sealed})
    return with_checksum(SETTINGS_KIND, body.encode())


def decode_settings(raw: bytes, user_id: str | None, cipher: Cipher | None) -> Settings:
    """Return what `encode_settings` was given for that owner. Raise WrongKey, Damaged."""
    if cipher is None:
        raise WrongKey("there are sealed settings and no key")
    text = checked_body(SETTINGS_KIND, raw, "a user's record of settings")
    try:
        body = json.loads(text)
        opened = {
            name: cipher.open(value, SecretLocation(user_id, SETTINGS_KIND, name))
            for name, value in body["sealed"].items()
        }
        if _MCP in opened:
            opened[_MCP] = json.loads(opened[_MCP])
        return Settings.model_validate(body["values"] | opened)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Not chained: what the error quotes may be a secret that has just been opened.
        raise Damaged(f"a user's settings cannot be read: {type(error).__name__}") from None


def encode_secrets(secrets: Secrets, user_id: str | None, cipher: Cipher) -> bytes:
    """Return the secrets record of an owner."""
    body: dict[str, Any] = {}
    for group, field in _SEALED_FIELDS.items():
        body[group] = {}
        for name, one in getattr(secrets, group).items():
            value = getattr(one, field).get_secret_value()
            sealed = cipher.seal(value, SecretLocation(user_id, SECRETS_KIND, f"{group}/{name}"))
            body[group][str(name)] = one.model_dump(mode="json", exclude={field}) | {field: sealed}
    return with_checksum(SECRETS_KIND, json.dumps(body).encode())


def decode_secrets(raw: bytes, user_id: str | None, cipher: Cipher | None) -> Secrets:
    """Return what `encode_secrets` was given for that owner. Raise WrongKey, Damaged."""
    if cipher is None:
        raise WrongKey("there are sealed secrets and no key")
    text = checked_body(SECRETS_KIND, raw, "a user's record of secrets")
    try:
        body = json.loads(text)
        opened = {
            group: {
                name: one
                | {
                    field: cipher.open(
                        one[field], SecretLocation(user_id, SECRETS_KIND, f"{group}/{name}")
                    )
                }
                for name, one in body[group].items()
            }
            for group, field in _SEALED_FIELDS.items()
        }
        return Secrets.model_validate(opened)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Not chained: what the error quotes may be a secret that has just been opened.
        raise Damaged(f"a user's secrets cannot be read: {type(error).__name__}") from None
