"""A user's secrets: named values for the workspace, and tokens of git hosts."""

import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
)

from storage.conversations.metadata import ProviderType, Text
from storage.errors import BadValue, SecretExists, SecretNotFound

MAX_SECRETS = 200
MAX_NAME_CHARACTERS = 128
MAX_VALUE_CHARACTERS = 64 * 1024
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_ALL_CHARACTERS = 1024 * 1024
"""Characters of all values of a user: each is searched for in all events of the user's agents."""
MAX_HOST_CHARACTERS = 253

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME_CHARACTERS}}}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _named(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"a name is 1 to {MAX_NAME_CHARACTERS} letters, digits and _ . -")
    return name


def _addressable(name: str) -> str:
    if name in (".", ".."):
        raise ValueError("a name is not . or .., which no browser can ask for")
    return _named(name)


def _encodable(value: SecretStr) -> SecretStr:
    try:
        value.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("the value cannot be encoded in UTF-8") from None
    return value


SecretName = Annotated[
    str,
    AfterValidator(_named),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]
"""1 to 128 letters, digits and `_ . -`."""

NewSecretName = Annotated[
    str,
    AfterValidator(_addressable),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_NAME.pattern}$", "not": {"enum": [".", ".."]}}
    ),
]
"""The same for a new secret, whose name must not be `.` or `..` in a URL."""

SecretValue = Annotated[
    SecretStr, Field(min_length=1, max_length=MAX_VALUE_CHARACTERS), AfterValidator(_encodable)
]


class CustomSecret(BaseModel):
    """One named value and what it is for."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    value: SecretValue
    description: Annotated[Text, Field(max_length=MAX_DESCRIPTION_CHARACTERS)] = ""


class ProviderToken(BaseModel):
    """The token of one git host; `host` is None for the provider's own address."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    token: SecretValue
    host: Annotated[Text, Field(max_length=MAX_HOST_CHARACTERS)] | None = None
    user_id: Annotated[Text, Field(max_length=MAX_NAME_CHARACTERS)] | None = None


class Secrets(BaseModel):
    """All secrets of one user. Immutable: changes return a new object."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    custom_secrets: Mapping[SecretName, CustomSecret] = Field(default_factory=dict)
    provider_tokens: Mapping[ProviderType, ProviderToken] = Field(default_factory=dict)

    def added(self, name: str, secret: CustomSecret) -> Self:
        """Return these secrets and one more. Raises SecretExists, BadValue (bad name, or too much)."""
        if name in self.custom_secrets:
            raise SecretExists(name)
        if len(self.custom_secrets) >= MAX_SECRETS:
            raise BadValue(f"The limit of {MAX_SECRETS} secrets is reached; delete some")
        total = sum(len(one.value) for one in (*self.custom_secrets.values(), secret))
        if total > MAX_ALL_CHARACTERS:
            raise BadValue(
                f"All secrets together would have {total:,} characters, and {MAX_ALL_CHARACTERS:,}"
                " is the limit; delete some"
            )
        return self._named({**self.custom_secrets, _checked(name): secret})

    def renamed(self, name: str, new_name: str, description: str | None) -> Self:
        """Return these secrets with one renamed; a `description` of None stays, as the value does.

        Raises SecretNotFound, SecretExists, BadValue (a bad name).
        """
        secret = self._find(name)
        if new_name != name and new_name in self.custom_secrets:
            raise SecretExists(new_name)
        if description is not None:
            secret = CustomSecret(value=secret.value, description=description)
        items = self.custom_secrets.items()
        checked = _checked(new_name)
        return self._named(
            {checked if key == name else key: secret if key == name else one for key, one in items}
        )

    def removed(self, name: str) -> Self:
        """Return these secrets without one. Raises SecretNotFound."""
        self._find(name)
        rest = {key: one for key, one in self.custom_secrets.items() if key != name}
        return self._named(rest)

    def with_tokens(self, tokens: Mapping[ProviderType, ProviderToken]) -> Self:
        """Return these secrets with the tokens of git hosts replaced."""
        return type(self)(custom_secrets=self.custom_secrets, provider_tokens=dict(tokens))

    def environment(self) -> dict[str, str]:
        """Return the environment of the workspace's commands: names to values.

        Tokens are `GITHUB_TOKEN` and the like; a secret of the same name wins. Secrets whose name
        cannot be a variable's are left out.
        """
        tokens = {
            f"{provider.value.upper()}_TOKEN": one.token.get_secret_value()
            for provider, one in self.provider_tokens.items()
        }
        return tokens | {
            name: one.value.get_secret_value()
            for name, one in self.custom_secrets.items()
            if _VARIABLE.fullmatch(name)
        }

    def masks(self) -> dict[str, str]:
        """Return every secret value under a unique name."""
        tokens = {
            f"provider_tokens/{provider.value}": one.token.get_secret_value()
            for provider, one in self.provider_tokens.items()
        }
        return tokens | {
            f"custom_secrets/{name}": one.value.get_secret_value()
            for name, one in self.custom_secrets.items()
        }

    def _find(self, name: str) -> CustomSecret:
        if name not in self.custom_secrets:
            raise SecretNotFound(name)
        return self.custom_secrets[name]

    def _named(self, secrets: Mapping[str, CustomSecret]) -> Self:
        return type(self)(custom_secrets=secrets, provider_tokens=self.provider_tokens)


def _checked(name: str) -> str:
    try:
        return _addressable(name)
    except ValueError as error:
        raise BadValue(f"name: {error}") from None
