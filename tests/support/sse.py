"""A client of a conversation's stream of Server-Sent Events, which holds what it was sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.support.stream_view import StreamView
from tests.support.waiting import WAIT_SECONDS


@dataclass
class Frame:
    """One frame: the cursor behind it, its name and its data."""

    id: str
    name: str
    data: Any


@dataclass
class SseView(StreamView):
    """The texts and events a client holds, and its cursor."""

    cursor: str = ""
    notices: list[Any] = field(default_factory=list)

    def take(self, frame: Frame) -> None:
        """Hold what a frame brings; no event is missing between it and the last one."""
        if frame.name == "event":
            assert frame.data["id"] == (self.ids[-1] + 1 if self.events else 0)
            self.take_event(frame.data)
        elif frame.name == "notice":
            self.notices.append(frame.data)
        else:
            self.take_delta(frame.data)
        self.cursor = frame.id or self.cursor


@asynccontextmanager
async def sse_frames(
    url: str,
    conversation_id: str,
    cursor: str = "",
    *,
    client: httpx.AsyncClient | None = None,
    **options: Any,
) -> AsyncIterator[AsyncIterator[Frame]]:
    """Connect behind a cursor; gives the frames as they come. Leaving the block cuts it."""
    headers = {"Last-Event-ID": cursor} if cursor else {}
    path = f"{url}/api/conversations/{conversation_id}/stream"
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=WAIT_SECONDS))
        streaming = client.stream("GET", path, headers=headers, params=options)
        response = await stack.enter_async_context(streaming)
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _parsed(response)


class Following:
    """Follows a conversation by its stream."""

    def __init__(self, frames: AsyncIterator[Frame]) -> None:
        self.view = SseView()
        self._frames = frames

    async def until(self, fits: Callable[[SseView], object]) -> None:
        """Read on until the view fits."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not fits(self.view):
                self.view.take(await anext(self._frames))

    async def shown(self, text: str) -> None:
        """Read on until this is what is shown of a text that is being written."""
        await self.until(lambda view: text in view.held.values())


@asynccontextmanager
async def following(url: str, conversation_id: str) -> AsyncIterator[Following]:
    """Follow a conversation from its beginning."""
    async with sse_frames(url, conversation_id) as frames:
        yield Following(frames)


async def text_begun(url: str, conversation_id: str) -> None:
    """Wait until a client is shown a text that is being written."""
    async with following(url, conversation_id) as followed:
        await followed.until(lambda seen: seen.held)


async def _parsed(response: httpx.Response) -> AsyncIterator[Frame]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "data" in fields:
                data = orjson.loads(fields["data"])
                yield Frame(fields.get("id", ""), fields["event"], data)
            fields = {}
