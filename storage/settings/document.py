"""Settings as they are stored: keys and tool servers sealed, the rest readable; sans-IO."""

import json

from storage.errors import Damaged, WrongKey
from storage.files.checked import checked_body, with_checksum
from storage.secrets.cipher import Cipher, Place
from storage.settings.model import KEY_FIELDS, Settings

KIND = "settings"
"""Names the record in its envelope, in the places of its values and on every medium."""

_MCP = "mcp_config"


def encode_settings(settings: Settings, user_id: str | None, cipher: Cipher) -> bytes:
    """The record of an owner. Tool servers are sealed as a whole: addresses may hold keys, too."""
    values = settings.model_dump(mode="json", exclude={*KEY_FIELDS, _MCP}, exclude_none=True)
    secrets = {
        name: getattr(settings, name).get_secret_value()
        for name in KEY_FIELDS
        if settings.has(name)
    }
    if settings.mcp_config is not None:
        secrets[_MCP] = json.dumps(settings.mcp_config.revealed())
    sealed = {
        name: cipher.seal(value, Place(user_id, KIND, name)) for name, value in secrets.items()
    }
    body = json.dumps({"values": values, "sealed": sealed})
    return with_checksum(KIND, body.encode())


def decode_settings(raw: bytes, user_id: str | None, cipher: Cipher | None) -> Settings:
    """What `encode_settings` was given for that owner. Raises WrongKey, Damaged."""
    if cipher is None:
        raise WrongKey("there are sealed settings and no key")
    text = checked_body(KIND, raw, "a user's record of settings")
    try:
        body = json.loads(text)
        opened = {
            name: cipher.open(value, Place(user_id, KIND, name))
            for name, value in body["sealed"].items()
        }
        if _MCP in opened:
            opened[_MCP] = json.loads(opened[_MCP])
        return Settings.model_validate(body["values"] | opened)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Not chained: what the error quotes may be a secret that has just been opened.
        raise Damaged(f"a user's settings cannot be read: {type(error).__name__}") from None
