"""Secrets as they are stored: names and descriptions readable, every value sealed; sans-IO."""

import json
from typing import Any

from storage.errors import Damaged, WrongKey
from storage.files.checked import checked_body, with_checksum
from storage.secrets.cipher import Cipher, Place
from storage.secrets.model import Secrets

KIND = "secrets"
"""Names the record in its envelope, in the places of its values and on every medium."""

_SEALED_FIELDS = {"custom_secrets": "value", "provider_tokens": "token"}


def encode_secrets(secrets: Secrets, user_id: str | None, cipher: Cipher) -> bytes:
    """The record of an owner."""
    body: dict[str, Any] = {}
    for group, field in _SEALED_FIELDS.items():
        body[group] = {}
        for name, one in getattr(secrets, group).items():
            value = getattr(one, field).get_secret_value()
            sealed = cipher.seal(value, Place(user_id, KIND, f"{group}/{name}"))
            body[group][str(name)] = one.model_dump(mode="json", exclude={field}) | {field: sealed}
    return with_checksum(KIND, json.dumps(body).encode())


def decode_secrets(raw: bytes, user_id: str | None, cipher: Cipher | None) -> Secrets:
    """What `encode_secrets` was given for that owner. Raises WrongKey, Damaged."""
    if cipher is None:
        raise WrongKey("there are sealed secrets and no key")
    text = checked_body(KIND, raw, "a user's record of secrets")
    try:
        body = json.loads(text)
        opened = {
            group: {
                name: one
                | {field: cipher.open(one[field], Place(user_id, KIND, f"{group}/{name}"))}
                for name, one in body[group].items()
            }
            for group, field in _SEALED_FIELDS.items()
        }
        return Secrets.model_validate(opened)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Not chained: what the error quotes may be a secret that has just been opened.
        raise Damaged(f"a user's secrets cannot be read: {type(error).__name__}") from None
