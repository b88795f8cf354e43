"""Servers whose agent asks the fake model with settings of a user."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pydantic_ai.models.anthropic
import pydantic_ai.models.google  # noqa: F401 - both take seconds, which no test should be charged with
from pydantic import SecretStr

from events.event import AgentState
from storage.users.settings import Settings
from tests.support.clients import joined
from tests.support.live import Live, live_server
from tests.support.model_endpoint import ModelEndpoint
from tests.support.payloads import Payload
from tests.support.remote import remote

MODELS = {
    "openai": "gpt-4o",
    "anthropic": "anthropic:claude-opus-5",
    "google": "google:gemini-2.5-flash",
}
"""A model of each provider, with a known price."""
MODEL = "gpt-x"
KEY = "sk-the-users-own-key-987654"


@asynccontextmanager
async def asking_server(
    agent_class: str, model: ModelEndpoint, provider: str | None = None, /, **options: Any
) -> AsyncIterator[Live]:
    """A server with this agent, whose user has chosen the fake model and entered a key.

    The model is spoken to as that provider's, and as OpenAI's where there is none.
    """
    chosen = Settings(
        llm_base_url=model.url_of(provider or "openai"),
        llm_model=MODEL if provider is None else MODELS[provider],
        llm_api_key=SecretStr(KEY),
    )
    async with live_server(agent_class=agent_class, **options) as live:
        await live.users.change_settings(None, lambda _: chosen)
        yield live


async def asked(live: Live, *texts: str) -> list[Payload]:
    """Ask the agent one after the other in one conversation, and return its log."""
    one = await live.new()
    async with joined(live.url, one) as client, remote(live.url) as api:
        await client.state(AgentState.AWAITING_USER_INPUT)
        for text in texts:
            said = await client.say(text)
            await client.state(AgentState.AWAITING_USER_INPUT, after=said["id"])
        return await api.log(one)
