"""A client that polls over HTTP, by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import orjson

from tests.support.waiting import WAIT_SECONDS

RECORD_SEPARATOR = "\x1e"


class PollingClient:
    """One Engine.IO session over long polls. `packets` holds what came and was not taken."""

    def __init__(self, http: httpx.AsyncClient, engine_id: str) -> None:
        self.packets: list[str] = []
        self._http = http
        self._asked = {"EIO": "4", "transport": "polling", "sid": engine_id}

    async def send(self, packet: str) -> httpx.Response:
        """Post one packet."""
        return await self._http.post("/socket.io/", params=self._asked, content=packet)

    async def poll(self) -> httpx.Response:
        """Poll once; answered when there is something."""
        return await self._http.get("/socket.io/", params=self._asked)

    async def packet(self) -> str:
        """The next packet, polling for it."""
        while not self.packets:
            answer = await self.poll()
            assert answer.status_code == 200, answer.text
            self.packets += answer.text.split(RECORD_SEPARATOR)
        return self.packets.pop(0)

    async def connect(self) -> str:
        """Ask for the namespace, and return the answer's packet."""
        answer = await self.send("40")
        assert answer.text == "OK", (answer.status_code, answer.text)
        return await self.packet()


@asynccontextmanager
async def polling_client(url: str, **query: str) -> AsyncIterator[PollingClient]:
    """An opened session on which CONNECT was not sent yet."""
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as http:
        yield await polling_through(http, **query)


async def polling_through(http: httpx.AsyncClient, **query: str) -> PollingClient:
    """The same through a client that knows the way."""
    asked = {"EIO": "4", "transport": "polling"} | query
    opening = await http.get("/socket.io/", params=asked)
    assert opening.text.startswith("0{"), opening.text
    return PollingClient(http, orjson.loads(opening.text[1:])["sid"])
