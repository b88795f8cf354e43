"""Servers asked over REST, in another process or in this one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import orjson
from httpx import AsyncClient, Response

from events.event import EventFlag, StoredEvent
from server.app import create_app
from server.config.settings import ServerConfig
from tests.support.clients import message
from tests.support.payloads import Payload
from tests.support.servers import (
    LoopServer,
    ServerProcess,
    environment_of,
    server_process,
    serving,
)
from tests.support.waiting import WAIT_SECONDS

CONVERSATIONS = "/api/conversations"
PAGE = 100
AT_ONCE = 16


class Remote:
    """Conversations of a server, by their REST routes."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def create(self, message: str | None = None) -> str:
        """A new conversation's id."""
        body = {} if message is None else {"initial_user_msg": message}
        answer = await self.client.post(CONVERSATIONS, json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["conversation_id"])

    async def create_many(self, number: int, message: str | None = None) -> list[str]:
        """New conversations' ids, made several at a time."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> str:
            async with gate:
                return await self.create(message)

        return list(await asyncio.gather(*(one() for _ in range(number))))

    async def show(self, conversation_id: str) -> dict[str, Any]:
        """The conversation as it is shown."""
        answer = await self.client.get(f"{CONVERSATIONS}/{conversation_id}")
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def delete(self, conversation_id: str) -> None:
        """Delete a conversation."""
        answer = await self.client.delete(f"{CONVERSATIONS}/{conversation_id}")
        assert answer.status_code == 200, answer.text

    async def listed(self) -> dict[str, dict[str, Any]]:
        """Every conversation as lists show it, by id."""
        found: dict[str, dict[str, Any]] = {}
        page_id: str | None = None
        while True:
            query = {"limit": "100"} | ({} if page_id is None else {"page_id": page_id})
            answer = await self.client.get(CONVERSATIONS, params=query)
            assert answer.status_code == 200, answer.text
            found |= {one["conversation_id"]: one for one in answer.json()["results"]}
            page_id = answer.json()["next_page_id"]
            if page_id is None:
                return found

    async def log(self, conversation_id: str) -> list[Payload]:
        """All events of a conversation as they are stored."""
        found: list[Payload] = []
        while True:
            answer = await self.client.get(
                f"{CONVERSATIONS}/{conversation_id}/events",
                params={"start_id": len(found), "limit": PAGE},
            )
            assert answer.status_code == 200, answer.text
            found += answer.json()["events"]
            if not answer.json()["has_more"]:
                return found

    async def post(self, conversation_id: str, payload: Payload) -> dict[str, Any]:
        """Append an event; the answer."""
        answer = await self.client.post(f"{CONVERSATIONS}/{conversation_id}/events", json=payload)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def say(self, conversation_id: str, text: str, key: str) -> Response:
        """Send a message of the user under a key; the answer, whichever it is."""
        payload = message(text) | {"client_id": key}
        return await self.client.post(f"{CONVERSATIONS}/{conversation_id}/events", json=payload)


def as_stored(log: list[Payload]) -> list[StoredEvent]:
    """The events as records of a log."""
    return [StoredEvent(one["id"], EventFlag.SPECIAL, orjson.dumps(one)) for one in log]


@asynccontextmanager
async def remote(url: str) -> AsyncIterator[Remote]:
    """A REST client of that server."""
    async with AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client:
        yield Remote(client)


@asynccontextmanager
async def server_over(
    folder: Path, kind: str, **settings: Any
) -> AsyncIterator[tuple[LoopServer, Remote]]:
    """A server over a data directory, and a client of it."""
    config = ServerConfig(**{"data_dir": folder, "storage_kind": kind, **settings})
    async with (
        create_app(config) as application,
        serving(config, application) as server,
        remote(server.url) as asked,
    ):
        yield server, asked


@asynccontextmanager
async def process_over(
    folder: Path, **settings: object
) -> AsyncIterator[tuple[ServerProcess, Remote]]:
    """A server process over a data directory, with these settings, and a client of it."""
    async with (
        server_process(folder, environment=environment_of(**settings)) as server,
        remote(server.url) as asked,
    ):
        yield server, asked
