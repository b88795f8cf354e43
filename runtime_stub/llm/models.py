"""The model that a user's settings name: which provider, at which address, with which key."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httpx2
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from openai import AsyncOpenAI
from pydantic import SecretStr
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.deepseek import DeepSeekProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from runtime_stub.errors import RuntimeFloorError
from runtime_stub.look_ups import look_ups_for
from runtime_stub.outgoing import (
    Counted,
    LookedUp,
    certificates,
    load_certificates,
    unless_proxied,
    user_agent,
)
from runtime_stub.turn import MODEL_FAMILIES, AgentSettings, ModelOptions

CONNECT_SECONDS = 10.0
MOST_BYTES = 32 * 1024 * 1024
"""Bytes of a response that are read."""
UNKNOWN_CONTEXT = 32_000
"""Tokens that a model is taken to have room for where nothing is known of it."""
ADDRESSES: Mapping[str, str] = MappingProxyType(
    {
        "anthropic": "https://api.anthropic.com",
        "google": "https://generativelanguage.googleapis.com",
    }
)
"""The addresses of the providers with interfaces of their own."""
VERSIONS: Mapping[str, str] = MappingProxyType({"anthropic": "/v1", "google": "/v1beta"})
"""The ends of addresses that their clients add by themselves."""
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
HEADERS = frozenset(
    (
        *("host", "connection", "content-length", "content-type", "transfer-encoding", "accept"),
        *("anthropic-version", "anthropic-beta"),
    )
)
"""The headers of the providers' clients that are sent; others tell of the machine, or are its environment's."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_SENDABLE = re.compile(r"[ -~]+")
"""Characters that a header may have."""
_THINKING = re.compile(r"\b(deepseek|kimi|glm)", re.IGNORECASE)
"""Models whose providers want `reasoning_content` back with the calls that followed it."""
_NAME = re.compile(r"(?P<provider>[a-z0-9_.-]+)(?P<mark>[:/])(?P<name>.+)", re.DOTALL)


class NoModel(RuntimeFloorError):
    """No model can be asked with these settings; the text says why, and what to do."""


class Choice(NamedTuple):
    """A model: its provider, its name there, the address, and the key; the seconds that connecting may take.

    `user_id` is the user for whom its host is looked up.
    """

    provider: str
    name: str
    address: str | None
    key: SecretStr | None
    connect_seconds: float = CONNECT_SECONDS
    user_id: str | None = None


def choose(settings: AgentSettings, user_id: str | None = None) -> Choice:
    """Return the model that the settings of a user name. Raises NoModel."""
    wanted = (settings.llm_model or "").strip()
    address = _address_in(settings)
    if not wanted:
        raise NoModel(
            "No model is set. Open the settings (Ctrl ,) and enter a model, and its provider's API"
            " key; for a model of your own, the address of its endpoint, such as"
            " http://127.0.0.1:11434/v1."
        )
    provider, name = _parsed(wanted, has_address=address is not None)
    key = _key_in(settings)
    if address is None and key is None and provider not in KEYLESS:
        raise NoModel(f"There is no API key for {wanted}. Enter it in the settings (Ctrl ,).")
    return Choice(provider, name, address, key, user_id=user_id)


def _address_in(settings: AgentSettings) -> str | None:
    """Return the address that the settings have, without what was pasted around it. Raises NoModel."""
    address = (settings.llm_base_url or "").strip().rstrip("/")
    if not address:
        return None
    # What is wrong is not quoted: an address may hold a password.
    if not address.startswith(("http://", "https://")):
        raise NoModel("The address of the provider does not begin with http:// or https://.")
    try:
        is_whole = bool(httpx2.URL(address).host) and urlsplit(address).port != 0
    except (httpx2.InvalidURL, ValueError):
        is_whole = False
    if not is_whole or _BLANK.search(address):
        raise NoModel(
            "The address of the provider is none: it has a blank or a line break in it, no host, or a"
            " port that is no number. Enter it anew in the settings (Ctrl ,)."
        )
    return address


def _key_in(settings: AgentSettings) -> SecretStr | None:
    """Return the key that the settings have, without what was pasted around it. Raises NoModel."""
    key = settings.llm_api_key
    text = "" if key is None else key.get_secret_value().strip()
    if not text:
        return None
    if not _SENDABLE.fullmatch(text):
        raise NoModel(
            "The API key has a character in it that no request can carry: a line break, or one that"
            " is no letter of English, figure or mark. Copy it anew into the settings (Ctrl ,)."
        )
    return SecretStr(text)


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
        for beginning, family in MODEL_FAMILIES.items():
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
    await load_certificates()
    if not _prices.cache_info().currsize:
        await asyncio.to_thread(_prices)
    make = NATIVE.get(choice.provider, _open_compatible)
    async with make(choice) as model:
        yield model


@cache
def _prices() -> DataSnapshot:
    """Return the prices and sizes of models, which are loaded the first time: that takes a tenth of a second."""
    return get_snapshot()


def context_tokens(choice: Choice, settings: AgentSettings) -> int:
    """Return how many tokens the model takes in all."""
    chosen = settings.model_options.context_tokens
    if chosen is not None:
        return chosen
    try:
        _, model = _prices().find_provider_model(choice.name, None, choice.provider, choice.address)
    except LookupError:
        return UNKNOWN_CONTEXT
    return model.context_window or UNKNOWN_CONTEXT


def model_settings(model: Model, options: ModelOptions) -> ModelSettings:
    """Return what a provider has to be told besides the conversation: to show what the model thinks anyway."""
    if not options.show_reasoning:
        return ModelSettings()
    asked: Mapping[str, Any] = {}
    if model.system == "anthropic" and model.profile.get("thinking_enabled_by_default"):
        asked = {"anthropic_thinking": {"type": "adaptive", "display": "summarized"}}
    elif model.system == "google" and model.profile.get("supports_thinking"):
        asked = {"google_thinking_config": {"include_thoughts": True}}
    return cast("ModelSettings", asked)


class AnswerTooLong(Exception):
    """A provider sends more than any answer has."""


def _counter() -> Callable[[bytes], None]:
    """Return a counter of one response's bytes, as its decoder holds a whole line.

    It raises AnswerTooLong.
    """
    left = MOST_BYTES

    def count(chunk: bytes) -> None:
        nonlocal left
        left -= len(chunk)
        if left < 0:
            raise AnswerTooLong

    return count


async def _bound(response: httpx2.Response) -> None:
    """Bound the response, which must not be compressed: no number of bytes says how long that is."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise AnswerTooLong
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = Counted(response.stream, _counter())


@asynccontextmanager
async def _connections(
    choice: Choice, key_header: str, key: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield the client by which a provider is reached; its requests carry the key in that header."""
    # The agent has clocks of its own for the answer; some providers' clients would set others.
    clocks = httpx2.Timeout(None, connect=choice.connect_seconds)

    async def prepare(request: httpx2.Request) -> None:
        for name in [one for one in request.headers if one.lower() not in HEADERS]:
            del request.headers[name]
        request.headers |= {
            "User-Agent": user_agent(),
            "Accept-Encoding": "identity",
            key_header: key,
        }
        request.extensions["timeout"] = clocks.as_dict()

    looked_up = LookedUp(partial(look_ups_for("models").addresses, choice.user_id))
    async with httpx2.AsyncClient(
        verify=certificates(),
        mounts=unless_proxied(looked_up),
        timeout=clocks,
        event_hooks={"request": [prepare], "response": [_bound]},
    ) as http:
        yield http


def _bearer(key: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {key}"


def _key(choice: Choice) -> str:
    return NO_KEY if choice.key is None else choice.key.get_secret_value()


def _address(choice: Choice) -> str:
    """Return the address of a provider with an interface of its own, as its client wants it."""
    address = choice.address or ADDRESSES[choice.provider]
    return address.removesuffix(VERSIONS[choice.provider])


@asynccontextmanager
async def _open_compatible(choice: Choice) -> AsyncIterator[Model]:
    address, key = choice.address or COMPATIBLE[choice.provider], _key(choice)
    async with (
        _connections(choice, *_bearer(key)) as http,
        AsyncOpenAI(api_key=key, base_url=address, http_client=http, max_retries=0) as client,
    ):
        yield OpenAIChatModel(
            choice.name, provider=OpenAIProvider(openai_client=client), profile=_profile(choice)
        )


def _profile(choice: Choice) -> ModelProfile | None:
    """Return what DeepSeek's models want that others do not; None for any other model."""
    name = choice.name.lower()
    is_deepseek = choice.provider == "deepseek" or name.startswith("deepseek-")
    return DeepSeekProvider.model_profile(name) if is_deepseek else None


def wants_thoughts(model: Model) -> bool:
    """Return whether a model wants its thoughts again, which nobody has signed: its calls stand on them."""
    return model.system == "openai" and bool(_THINKING.search(model.model_name))


@asynccontextmanager
async def _open_anthropic(choice: Choice) -> AsyncIterator[Model]:
    sdk = await _needed("anthropic", "anthropic")
    models = await _needed("anthropic", "pydantic_ai.models.anthropic")
    providers = await _needed("anthropic", "pydantic_ai.providers.anthropic")
    address, key = _address(choice), _key(choice)
    async with (
        _connections(choice, *_bearer(key)) as http,
        sdk.AsyncAnthropic(
            api_key=key, base_url=address, http_client=http, max_retries=0
        ) as client,
    ):
        provider = providers.AnthropicProvider(anthropic_client=client)
        yield models.AnthropicModel(choice.name, provider=provider)


@asynccontextmanager
async def _open_google(choice: Choice) -> AsyncIterator[Model]:
    sdk = await _needed("google", "google.genai")
    models = await _needed("google", "pydantic_ai.models.google")
    providers = await _needed("google", "pydantic_ai.providers.google")
    key = _key(choice)
    # Its client reads the certificates anew otherwise, for each kind of connection.
    verified = dict.fromkeys(("verify", "ssl"), certificates())
    async with _connections(choice, "X-Goog-Api-Key", key) as http:
        options = sdk.types.HttpOptions(
            base_url=_address(choice),
            httpx_async_client=http,
            async_client_args=verified,
        )
        client = sdk.Client(vertexai=False, api_key=key, http_options=options)
        try:
            provider = providers.GoogleProvider(client=client)
            yield models.GoogleModel(choice.name, provider=provider)
        finally:
            client.close()


NATIVE: Mapping[str, Callable[[Choice], AbstractAsyncContextManager[Model]]] = MappingProxyType(
    {"anthropic": _open_anthropic, "google": _open_google}
)
"""Providers with interfaces of their own, each by one more extra."""


async def _needed(extra: str, module: str) -> Any:
    """Return a module that an extra brings. Raises NoModel."""
    try:
        # The first time it takes a second, in which the server has other things to do.
        return await asyncio.to_thread(import_module, module)
    except ImportError as error:
        raise NoModel(
            f"Models of {extra.capitalize()} need one more package on the server:"
            f" pip install 'parley-server[llm,{extra}]'."
        ) from error
