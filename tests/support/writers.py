"""Writers that send messages under keys, again and again until each is acknowledged."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import orjson
from websockets.exceptions import ConnectionClosed

from tests.support.clients import message
from tests.support.invariants import History
from tests.support.payloads import Payload
from tests.support.raw_client import RawClient, raw_client
from tests.support.remote import CONVERSATIONS, Remote, remote

ACK = "43"
OUTSTANDING = 4
STOPPING = ("not_available", "closing")
GONE = (ConnectionClosed, httpx.TransportError, OSError, TimeoutError)


class Refused(Exception):
    """The server did not take the event, because it stops."""


class KeyedWriter:
    """One user's messages to one conversation, each under a key of its own.

    `acknowledged` maps keys to the ids the server gave; `open` are the keys that were sent and
    not acknowledged. `known` counts the answers that said the key was in the log already.
    """

    def __init__(
        self,
        conversation_id: str,
        name: str,
        history: History,
        on_acknowledged: Callable[[], None],
    ) -> None:
        self.conversation_id = conversation_id
        self.name = name
        self.history = history
        self.acknowledged: dict[str, int] = {}
        self.open: list[str] = []
        self.known = 0
        self._sent = 0
        self._on_acknowledged = on_acknowledged

    async def write(self, url: str, start: asyncio.Barrier) -> None:
        """From the start on send new messages until the server is gone or takes no more."""
        raise NotImplementedError

    async def repeat(self, url: str) -> None:
        """Send again, in their order, what was not acknowledged; done when all is."""
        raise NotImplementedError

    def _next(self) -> Payload:
        key = f"{self.name}-{self._sent}"
        self._sent += 1
        self.open.append(key)
        payload = self._payload(key)
        self.history.sent(key, payload["args"]["content"])
        return payload

    def _payload(self, key: str) -> Payload:
        text = "/cost 0.01" if key.endswith("7") else f"message {key}"
        return message(text) | {"client_id": key}

    def _note(self, key: str, answer: dict[str, Any]) -> None:
        self.open.remove(key)
        self.acknowledged[key] = int(answer["id"])
        self.history.acknowledged(key, int(answer["id"]))
        self.known += bool(answer["duplicate"])
        self._on_acknowledged()


class SocketWriter(KeyedWriter):
    """Writes through a socket, with several messages under way."""

    async def write(self, url: str, start: asyncio.Barrier) -> None:
        """See KeyedWriter."""
        with contextlib.suppress(Refused, *GONE):
            async with self._joined(url) as client:
                await start.wait()
                while True:
                    while len(self.open) < OUTSTANDING:
                        await self._send(client, self._next())
                    await self._take_answer(client)

    async def repeat(self, url: str) -> None:
        """See KeyedWriter."""
        async with self._joined(url) as client:
            for key in list(self.open):
                await self._send(client, self._payload(key))
            while self.open:
                await self._take_answer(client)

    @asynccontextmanager
    async def _joined(self, url: str):
        async with raw_client(url, self.conversation_id, cursor=2**50) as client:
            connected = await client.connect()
            assert connected.startswith("40{"), connected
            yield client

    async def _send(self, client: RawClient, payload: Payload) -> None:
        # The key's number serves as the number of the acknowledgement.
        number = payload["client_id"].rpartition("-")[2]
        packet = orjson.dumps(["oh_user_action", payload]).decode()
        await client.connection.send(f"42{number}{packet}")

    async def _take_answer(self, client: RawClient) -> None:
        while not (text := await client.packet()).startswith(ACK):
            continue
        number, _, body = text[len(ACK) :].partition("[")
        answer = orjson.loads(f"[{body}")[0]
        if answer["status"] != "ok":
            assert answer["code"] in STOPPING, answer
            raise Refused
        self._note(f"{self.name}-{number}", answer)


class RestWriter(KeyedWriter):
    """Writes through REST, one message at a time."""

    async def write(self, url: str, start: asyncio.Barrier) -> None:
        """See KeyedWriter."""
        with contextlib.suppress(Refused, *GONE):
            async with remote(url) as api:
                await api.client.get("/alive")
                await start.wait()
                while True:
                    payload = self._next()
                    self._note(payload["client_id"], await self._post(api, payload))

    async def repeat(self, url: str) -> None:
        """See KeyedWriter."""
        async with remote(url) as api:
            for key in list(self.open):
                self._note(key, await self._post(api, self._payload(key)))

    async def _post(self, api: Remote, payload: Payload) -> dict[str, Any]:
        path = f"{CONVERSATIONS}/{self.conversation_id}/events"
        answer = await api.client.post(path, json=payload)
        if answer.status_code == 503:
            raise Refused
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())


class Writers:
    """The writers of some conversations, started and ended together."""

    def __init__(self, conversation_ids: Sequence[str]) -> None:
        self.first_acknowledged = asyncio.Event()
        told = self.first_acknowledged.set
        self.all: list[KeyedWriter] = []
        self._histories = {one: History() for one in conversation_ids}
        for conversation_id, history in self._histories.items():
            for number in range(3):
                name = f"socket{number}"
                self.all.append(SocketWriter(conversation_id, name, history, told))
            self.all.append(RestWriter(conversation_id, "rest", history, told))

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged messages."""
        return sum(len(one.acknowledged) for one in self.all)

    @property
    def open(self) -> int:
        """The number of messages that are not acknowledged."""
        return sum(len(one.open) for one in self.all)

    @property
    def known(self) -> int:
        """The number of messages that were in the log already when they were sent again."""
        return sum(one.known for one in self.all)

    async def write(self, url: str) -> None:
        """Connect all, then write until the server is gone."""
        start = asyncio.Barrier(len(self.all))
        async with asyncio.TaskGroup() as group:
            for one in self.all:
                group.create_task(one.write(url, start))

    async def repeat(self, url: str) -> None:
        """Get everything acknowledged."""
        async with asyncio.TaskGroup() as group:
            for one in self.all:
                group.create_task(one.repeat(url))

    def check(self, conversation_id: str, log: Sequence[Payload]) -> None:
        """Check the log's invariants, and that each writer's messages stand in its order."""
        names = {one.name for one in self.all if one.conversation_id == conversation_id}
        self._histories[conversation_id].check(log, lambda key: key.rpartition("-")[0] in names)
        keys = [one["client_id"] for one in log if "client_id" in one]
        for name in names:
            numbers = [int(key.rpartition("-")[2]) for key in keys if key.startswith(f"{name}-")]
            assert numbers == list(range(len(numbers))), f"{name} is out of order"
