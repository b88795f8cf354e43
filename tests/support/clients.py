"""A client as the V0 page is one: it records what it gets and keeps the page's cursor."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlencode

import socketio

from events.event import AgentState
from tests.support.checker import Received
from tests.support.described import described_as
from tests.support.payloads import Payload, is_error_state, is_state
from tests.support.waiting import WAIT_SECONDS


class ConnectRefused(Exception):
    """The server refused; `payload` is what the client was told."""

    def __init__(self, payload: Any) -> None:
        super().__init__(str(payload))
        self.payload = payload


class RecordingClient:
    """A V0 client over python-socketio.

    `payloads` holds everything that came as `oh_event`; `connections` the log's events of each
    connection. `cursor` is the id of the last one received, which a state `error` does not move.
    A value of `query` that is None leaves the parameter out.
    """

    def __init__(
        self,
        url: str,
        conversation_id: str | None,
        *,
        cursor: int = -1,
        query: dict[str, str | None] | None = None,
        transports: tuple[str, ...] = ("websocket",),
        reconnection: bool = False,
        headers: dict[str, str] | None = None,
        auth: Any = None,
    ) -> None:
        self.cursor = cursor
        self.payloads: list[Payload] = []
        self.connections: list[Received] = []
        self.disconnects: list[str] = []
        self.refusals = 0
        self._url = url
        self.conversation_id = conversation_id
        self._query = query or {}
        self._transports = list(transports)
        self._headers = headers or {}
        self._auth = auth
        self.undescribed: list[Payload] = []
        """Notices that the AsyncAPI document does not describe."""
        self._changed = asyncio.Condition()
        self._told: Any = None
        self.io = socketio.AsyncClient(
            reconnection=reconnection,
            reconnection_delay=0.05,
            reconnection_delay_max=0.5,
            randomization_factor=0.0,
        )
        self.io.on("connect", self._on_connect)
        self.io.on("connect_error", self._on_refused)
        self.io.on("disconnect", self._on_disconnect)
        self.io.on("oh_event", self._on_event)

    @property
    def events(self) -> list[Payload]:
        """The log's events of all connections, in order."""
        return [event for one in self.connections for event in one.events]

    @property
    def ids(self) -> list[int]:
        """Their ids."""
        return [event["id"] for event in self.events]

    async def connect(self) -> None:
        """Connect. Raises ConnectRefused."""
        try:
            # A callable, so that a reconnection asks from the cursor on.
            await self.io.connect(
                self._address,
                headers=self._headers,
                auth=self._auth,
                transports=self._transports,
                wait_timeout=WAIT_SECONDS,
            )
        except socketio.exceptions.ConnectionError as error:
            raise ConnectRefused(self._told) from error

    async def until(self, condition: Callable[[Self], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait until the condition holds; it is looked at whenever something happened."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def event(self, fits: Callable[[Payload], bool]) -> Payload:
        """The first payload that fits, waiting for it."""
        await self.until(lambda _: any(fits(payload) for payload in self.payloads))
        return next(payload for payload in self.payloads if fits(payload))

    async def state(self, wanted: str, *, after: int = -1) -> Payload:
        """The first state of that name with a higher id."""
        return await self.event(
            lambda payload: (
                is_state(payload)
                and payload["extras"]["agent_state"] == wanted
                and payload["id"] > after
            )
        )

    async def send(self, payload: object, event: str = "oh_user_action") -> Any:
        """Emit, and return the acknowledgement."""
        return await self.io.call(event, payload, timeout=WAIT_SECONDS)

    async def say(self, content: str, **fields: object) -> Any:
        """Send a user's message, and return the acknowledgement."""
        return await self.send(message(content) | fields)

    async def set_to_work(self, content: str) -> Any:
        """Send a message to an agent once it rests, and wait until it works; the acknowledgement."""
        rests = await self.state(AgentState.AWAITING_USER_INPUT)
        said = await self.say(content)
        await self.state(AgentState.RUNNING, after=rests["id"])
        return said

    async def emit(self, payload: object, event: str = "oh_user_action") -> None:
        """Emit without asking for an acknowledgement."""
        await self.io.emit(event, payload)

    async def close(self) -> None:
        """Disconnect, in whatever state the client is."""
        await self.io.shutdown()
        if self.io.eio.http is not None:
            await self.io.eio.http.close()

    def _address(self) -> str:
        asked: dict[str, str | None] = {
            "conversation_id": self.conversation_id,
            "latest_event_id": str(self.cursor),
            "providers_set": "",
            "session_api_key": None,
        }
        given = {name: text for name, text in (asked | self._query).items() if text is not None}
        return f"{self._url}?{urlencode(given)}"

    async def _on_connect(self) -> None:
        self.connections.append(Received(self.cursor))
        await self._tell()

    async def _on_refused(self, payload: Any = None) -> None:
        self._told = payload
        self.refusals += 1
        await self._tell()

    async def _on_disconnect(self, reason: str) -> None:
        self.disconnects.append(reason)
        await self._tell()

    async def _on_event(self, payload: Payload) -> None:
        self.payloads.append(payload)
        if type(payload.get("id")) is int:
            self.connections[-1].events.append(payload)
            if not is_error_state(payload):
                self.cursor = payload["id"]
        elif not described_as("oh_event.notice.", payload):
            self.undescribed.append(payload)
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def message(content: str, **args: object) -> Payload:
    """A user's message as the page sends it."""
    return {"action": "message", "args": {"content": content, "image_urls": [], **args}}


def command(state: str) -> Payload:
    """A request for a state as the page sends it."""
    return {"action": "change_agent_state", "args": {"agent_state": state}}


@asynccontextmanager
async def joined(url: str, conversation_id: str, **options: Any) -> AsyncIterator[RecordingClient]:
    """A connected client, closed at the end. Raises AssertionError for what is not described."""
    client = RecordingClient(url, conversation_id, **options)
    try:
        await client.connect()
        yield client
    finally:
        await client.close()
    assert client.undescribed == []
