"""The user's secrets: named values and tokens of git hosts."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from server.errors import InvalidToken
from server.routes.endpoint import Tag, described
from server.routes.request import JsonResponse, ResponseBody, owner_of, read_body
from server.routes.services import Services
from storage.conversations.metadata import ProviderType, Text
from storage.errors import BadValue, SecretExists, SecretNotFound
from storage.users.secrets import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_HOST_CHARACTERS,
    MAX_NAME_CHARACTERS,
    CustomSecret,
    NewSecretName,
    ProviderToken,
    Secrets,
    SecretValue,
)

MAX_TOKEN_CHARACTERS = 4096

_TOKEN = re.compile(rf"[!-~]{{1,{MAX_TOKEN_CHARACTERS}}}")
Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION_CHARACTERS)]


NO_SPACE = r"^[^\x00-\x20\x7f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
"""Spelled out, for what counts as white space differs from reader to reader of a description."""


class _Body(BaseModel):
    """A body that ignores unknown fields; errors do not show its values."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class NewSecret(_Body):
    """A secret to keep."""

    name: NewSecretName
    value: SecretValue
    description: Description | None = None


class ChangedSecret(_Body):
    """Another name or description for a secret; its value stays."""

    name: NewSecretName
    description: Description | None = None


class NewToken(_Body):
    """A git host's token; an empty one keeps the stored token."""

    token: SecretStr | None = None
    host: Annotated[str, Field(max_length=MAX_HOST_CHARACTERS, pattern=NO_SPACE)] | None = None
    user_id: Annotated[Text, Field(max_length=MAX_NAME_CHARACTERS)] | None = None

    def in_place_of(
        self, provider: ProviderType, stored: ProviderToken | None
    ) -> ProviderToken | None:
        """Return the token to store; None when none is stored or given. Raise InvalidToken."""
        given = "" if self.token is None else self.token.get_secret_value().strip()
        host = self.host or None
        if given:
            if _TOKEN.fullmatch(given) is None:
                raise InvalidToken(
                    f"Invalid token. Please make sure it is a valid {provider.value} token."
                )
            return ProviderToken(token=SecretStr(given), host=host, user_id=self.user_id)
        if stored is None:
            return None
        changed = {"host": host} if "host" in self.model_fields_set else {}
        return stored.model_copy(update=changed)


class NewTokens(_Body):
    """Tokens by git host."""

    provider_tokens: dict[ProviderType, NewToken] = Field(default_factory=dict)

    def merged(self, secrets: Secrets) -> Secrets:
        """Return the stored tokens with these added or replaced. Raises InvalidToken."""
        tokens = dict(secrets.provider_tokens)
        for provider, given in self.provider_tokens.items():
            kept = given.in_place_of(provider, tokens.get(provider))
            if kept is not None:
                tokens[provider] = kept
        return secrets.with_tokens(tokens)


class NamedSecret(ResponseBody):
    """A secret without its value."""

    name: str
    description: str


class SecretList(ResponseBody):
    """The requesting user's secrets."""

    custom_secrets: list[NamedSecret]


class ChangeOutcome(ResponseBody):
    """The outcome of a change."""

    message: str


class SecretsRoutes:
    """Endpoints of the requesting user's secrets and git host tokens. No response contains a value."""

    def __init__(self, services: Services) -> None:
        self._users = services.users

    @described(Tag.SECRETS, answer=SecretList)
    async def search(self, request: Request) -> Response:
        """List the names and descriptions of the secrets, with secret values masked."""
        owner = owner_of(request)
        secrets = await self._users.secrets(owner)
        redactor = await self._users.redactor(owner)
        named = [
            NamedSecret(name=name, description=redactor.redact_text(one.description))
            for name, one in secrets.custom_secrets.items()
        ]
        return JsonResponse(SecretList(custom_secrets=named))

    @described(
        Tag.SECRETS,
        body=NewSecret,
        answer=ChangeOutcome,
        status=201,
        raises=(SecretExists, BadValue),
    )
    async def create(self, request: Request) -> Response:
        """Create a secret. Raises SecretExists, BadValue (too many) and what reading raises."""
        body = await read_body(request, NewSecret)
        secret = CustomSecret(value=body.value, description=body.description or "")
        await self._users.change_secrets(
            owner_of(request), lambda secrets: secrets.added(body.name, secret)
        )
        return JsonResponse(ChangeOutcome(message="Secret created successfully"), 201)

    @described(
        Tag.SECRETS, body=ChangedSecret, answer=ChangeOutcome, raises=(SecretNotFound, SecretExists)
    )
    async def change(self, request: Request) -> Response:
        """Change a secret's name or description. Raises SecretNotFound, SecretExists."""
        name: str = request.path_params["name"]
        body = await read_body(request, ChangedSecret)
        await self._users.change_secrets(
            owner_of(request),
            lambda secrets: secrets.renamed(name, body.name, body.description),
        )
        return JsonResponse(ChangeOutcome(message="Secret updated successfully"))

    @described(Tag.SECRETS, answer=ChangeOutcome, raises=(SecretNotFound,))
    async def delete(self, request: Request) -> Response:
        """Delete a secret; its value stays masked. Raises SecretNotFound."""
        name: str = request.path_params["name"]
        await self._users.change_secrets(owner_of(request), lambda secrets: secrets.removed(name))
        return JsonResponse(ChangeOutcome(message="Secret deleted successfully"))

    @described(Tag.SECRETS, body=NewTokens, answer=ChangeOutcome, raises=(InvalidToken,))
    async def add_providers(self, request: Request) -> Response:
        """Store tokens of git hosts. Raises InvalidToken for a text that cannot be a token."""
        body = await read_body(request, NewTokens)
        await self._users.change_secrets(owner_of(request), body.merged)
        return JsonResponse(ChangeOutcome(message="Git providers stored"))

    @described(Tag.SECRETS, answer=ChangeOutcome)
    async def unset_providers(self, request: Request) -> Response:
        """Delete the tokens of all git hosts."""
        await self._users.change_secrets(owner_of(request), lambda secrets: secrets.with_tokens({}))
        return JsonResponse(ChangeOutcome(message="Unset Git provider tokens"))
