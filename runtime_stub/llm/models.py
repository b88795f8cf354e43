"""The model that a user's settings name: which provider, at which address, with which key."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx2
from genai_prices.data_snapshot import get_snapshot
from openai import AsyncOpenAI
from pydantic import SecretStr
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from runtime_stub.errors import RuntimeFloorError
from runtime_stub.outgoing import certificates, user_agent
from runtime_stub.turn import AgentSettings, ModelOptions

CONNECT_SECONDS = 10.0
MOST_BYTES = 32 * 1024 * 1024
"""Bytes of a response that are read."""
UNKNOWN_CONTEXT = 32_000
"""Tokens that a model is taken to have room for where nothing is known of it."""
COMPATIBLE: Mapping[str, str] = MappingProxyType(
    {
        "openai": "https://api.openai.com/v1",
        "cerebras": "https://api.cerebras.ai/v1",
        "deepseek": "https://api.deepseek.com/v1",
        "fireworks_ai": "https://api.fireworks.ai/inference/v1",
        "groq": "https://api.groq.com/openai/v1",
        "lm_studio": "http://127.0.0.1:1234/v1",
        "mistral": "https://api.mistral.ai/v1",
        "ollama": "http://127.0.0.1:11434/v1",
        "openrouter": "https://openrouter.ai/api/v1",
        "together_ai": "https://api.together.xyz/v1",
        "xai": "https://api.x.ai/v1",
    }
)
"""Providers that are spoken to as OpenAI's chat completions, with their addresses."""
KEYLESS = frozenset(("lm_studio", "ollama"))
"""Providers on the machine itself, which want no key."""
NO_KEY = "none"
"""Sent in the place of a key where there is none: an endpoint on the machine itself ignores it."""
ALIASES: Mapping[str, str] = MappingProxyType(
    {"gemini": "google", "google-gla": "google", "litellm_proxy": "openai", "openai-chat": "openai"}
)
FAMILIES = (("claude", "anthropic"), ("gemini", "google"))
"""Beginnings of names that tell the provider."""
TRACES = ("x-stainless", "openai-")
"""Beginnings of headers that no provider needs."""
STAINLESS = tuple(
    f"X-Stainless-{name}"
    for name in ("Arch", "Async", "Lang", "OS", "Package-Version", "Runtime", "Runtime-Version")
)
"""Those of them that a client can be told to leave out."""

_NAME = re.compile(r"(?P<provider>[a-z0-9_.-]+)(?P<mark>[:/])(?P<name>.+)", re.DOTALL)


class NoModel(RuntimeFloorError):
    """No model can be asked with these settings; the text says why, and what to do."""


class Choice(NamedTuple):
    """A model: its provider, its name there, the address, and the key."""

    provider: str
    name: str
    address: str | None
    key: SecretStr | None


def choose(settings: AgentSettings) -> Choice:
    """Return the model that the settings name. Raises NoModel."""
    wanted = (settings.llm_model or "").strip()
    address = (settings.llm_base_url or "").strip().rstrip("/") or None
    if not wanted:
        raise NoModel(
            "No model is set. Open the settings (Ctrl ,) and enter a model, and its provider's API"
            " key; for a model of your own, the address of its endpoint, such as"
            " http://127.0.0.1:11434/v1."
        )
    if address is not None and not address.startswith(("http://", "https://")):
        raise NoModel(
            f"The address of the provider, {address}, does not begin with http:// or https://."
        )
    provider, name = _parsed(wanted, has_address=address is not None)
    key = settings.llm_api_key
    if key is not None and not key.get_secret_value().strip():
        key = None
    if address is None and key is None and provider not in KEYLESS:
        raise NoModel(f"There is no API key for {wanted}. Enter it in the settings (Ctrl ,).")
    return Choice(provider, name, address, key)


def _parsed(wanted: str, *, has_address: bool) -> tuple[str, str]:
    """Return provider and name of a model as it is spelled. Raises NoModel."""
    found = _NAME.fullmatch(wanted)
    provider = "" if found is None else ALIASES.get(found["provider"], found["provider"])
    is_native = provider in NATIVE
    if has_address:
        # What stands behind an address has names of its own, with any marks in them.
        if found is not None and (provider == "openai" or (is_native and found["mark"] == ":")):
            return provider, found["name"]
        return "openai", wanted
    if found is not None and (is_native or provider in COMPATIBLE):
        return provider, found["name"]
    if found is None or found["mark"] == ":":
        for beginning, family in FAMILIES:
            if wanted.startswith(beginning):
                return family, wanted
        if found is None:
            return "openai", wanted
    raise NoModel(
        f"The provider of {wanted} is not known. Enter the address of its endpoint in the settings"
        " (Ctrl ,)."
    )


@asynccontextmanager
async def opened(choice: Choice) -> AsyncIterator[Model]:
    """Yield a model; its connections are closed with the block. Raises NoModel."""
    make = NATIVE.get(choice.provider, _open_compatible)
    async with make(choice) as model:
        yield model


def context_tokens(choice: Choice, settings: AgentSettings) -> int:
    """Return how many tokens the model takes in all."""
    chosen = settings.model_options.context_tokens
    if chosen is not None:
        return chosen
    try:
        _, model = get_snapshot().find_provider_model(
            choice.name, None, choice.provider, choice.address
        )
    except LookupError:
        return UNKNOWN_CONTEXT
    return model.context_window or UNKNOWN_CONTEXT


def model_settings(choice: Choice, options: ModelOptions) -> ModelSettings:
    """Return what a provider has to be told besides the conversation."""
    settings = ModelSettings(extra_headers={"User-Agent": user_agent()})
    if choice.provider == "anthropic":  # which cuts an answer at a few thousand tokens otherwise
        settings["max_tokens"] = options.reserve_tokens
    return settings


class AnswerTooLong(Exception):
    """A provider sends more than any answer has."""


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of a response, up to a number; they are read by a decoder that holds a whole line."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield them. Raises AnswerTooLong."""
        left = MOST_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise AnswerTooLong
            yield chunk

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Bound the response, which must not be compressed: no number of bytes says how long that is."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise AnswerTooLong
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


async def _without_traces(request: httpx2.Request) -> None:
    """Take out the headers that tell about the machine, or come from its environment."""
    for name in [one for one in request.headers if one.lower().startswith(TRACES)]:
        del request.headers[name]
    request.headers["Accept-Encoding"] = "identity"


@asynccontextmanager
async def _open_compatible(choice: Choice) -> AsyncIterator[Model]:
    address = choice.address or COMPATIBLE[choice.provider]
    key = NO_KEY if choice.key is None else choice.key.get_secret_value()
    async with (
        httpx2.AsyncClient(
            verify=certificates(),
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            event_hooks={"request": [_without_traces], "response": [_bound]},
        ) as http,
        AsyncOpenAI(
            api_key=key,
            base_url=address,
            http_client=http,
            max_retries=0,
        ) as client,
    ):
        yield OpenAIChatModel(choice.name, provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def _open_anthropic(choice: Choice) -> AsyncIterator[Model]:
    sdk = _needed("anthropic", "anthropic")
    models = _needed("anthropic", "pydantic_ai.models.anthropic")
    providers = _needed("anthropic", "pydantic_ai.providers.anthropic")
    key = NO_KEY if choice.key is None else choice.key.get_secret_value()
    async with sdk.AsyncAnthropic(
        api_key=key,
        base_url=choice.address or "https://api.anthropic.com",
        max_retries=0,
        default_headers=dict.fromkeys(STAINLESS, sdk.Omit()),
    ) as client:
        client.auth_token = None  # of the environment, for whichever address
        provider = providers.AnthropicProvider(anthropic_client=client)
        yield models.AnthropicModel(choice.name, provider=provider)


@asynccontextmanager
async def _open_google(choice: Choice) -> AsyncIterator[Model]:
    models = _needed("google", "pydantic_ai.models.google")
    providers = _needed("google", "pydantic_ai.providers.google")
    key = NO_KEY if choice.key is None else choice.key.get_secret_value()
    address = {} if choice.address is None else {"base_url": choice.address}
    provider = providers.GoogleProvider(api_key=key, **address)
    async with provider:
        yield models.GoogleModel(choice.name, provider=provider)


NATIVE: Mapping[str, Callable[[Choice], AbstractAsyncContextManager[Model]]] = MappingProxyType(
    {"anthropic": _open_anthropic, "google": _open_google}
)
"""Providers with interfaces of their own, each by one more extra."""


def _needed(extra: str, module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NoModel(
            f"Models of {extra.capitalize()} need one more package on the server:"
            f" pip install 'parley-server[llm,{extra}]'."
        ) from error
