"""Which keys an address asks for, as OpenAPI says it."""

from collections.abc import Mapping, Sequence
from typing import Any

from server.access.auth import KEY_HEADER
from server.routes.admin.access import KEY_HEADER as ADMIN_KEY_HEADER

KEY_NAME = "sessionKey"
ADMIN_KEY_NAME = "adminKey"
ADMIN_BEARER_NAME = "adminBearer"
ADMIN_PATH, API_PATH = "/api/admin/", "/api/"

SECURITY_SCHEMES: Mapping[str, Mapping[str, str]] = {
    KEY_NAME: {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "The setting `session_api_key`; none is asked for where it is not set.",
    },
    ADMIN_KEY_NAME: {
        "type": "apiKey",
        "in": "header",
        "name": ADMIN_KEY_HEADER,
        "description": "The setting `admin_key`; where it is not set, only this machine itself is"
        " let in.",
    },
    ADMIN_BEARER_NAME: {
        "type": "http",
        "scheme": "bearer",
        "description": "The same key as a Bearer token.",
    },
}


class KeysAsked:
    """What a server asks for: none of the keys that are not set."""

    def __init__(self, *, keyless: bool, admin_keyless: bool) -> None:
        self._names: Mapping[str, Sequence[str]] = {
            ADMIN_PATH: () if admin_keyless else (ADMIN_KEY_NAME, ADMIN_BEARER_NAME),
            API_PATH: () if keyless else (KEY_NAME,),
        }

    def at(self, path: str) -> list[dict[str, list[Any]]]:
        """The `security` of an address's operations: one of these will do."""
        asked = (names for start, names in self._names.items() if path.startswith(start))
        return [{name: []} for name in next(asked, ())]
