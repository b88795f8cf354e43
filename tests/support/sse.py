"""A client of a conversation's stream of Server-Sent Events, which holds what it was sent."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

READ_SECONDS = 20.0


@dataclass(slots=True)
class Frame:
    """One frame: the cursor behind it, its name and its data."""

    id: str
    name: str
    data: Any


@dataclass(slots=True)
class SseView:
    """What a client holds over any number of connections, and its cursor."""

    cursor: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    notices: list[Any] = field(default_factory=list)
    opened: int = 0
    dropped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """The ids of its events, in the order in which they came."""
        return [event["id"] for event in self.events]

    def take(self, frame: Frame) -> None:
        """Hold what a frame brings; fail where it does not fit to what is held."""
        if frame.name == "event":
            assert frame.data["id"] == (self.ids[-1] + 1 if self.events else 0)
            self.events.append(frame.data)
            held = self.held.pop(frame.data.get("partial", ""), "")
            assert frame.data.get("args", {}).get("content", "").startswith(held)
        elif frame.name == "notice":
            self.notices.append(frame.data)
        else:
            self.take_delta(frame.data)
        self.cursor = frame.id or self.cursor

    def take_delta(self, delta: dict[str, Any]) -> None:
        """Hold what is told of partials."""
        if delta["type"] == "open":
            self.opened += 1
            named = {one["id"]: one["at"] for one in delta["partials"]}
            self.held = {one: text for one, text in self.held.items() if one in named}
            assert {one: len(self.held.get(one, "")) for one in named} == named
        elif delta["type"] == "text":
            text = self.held.get(delta["id"], "")
            assert delta["at"] == len(text)
            assert delta["to"] == len(text) + len(delta["text"])
            self.held[delta["id"]] = text + delta["text"]
        else:
            del self.held[delta["id"]]
            self.dropped.append((delta["id"], delta["why"]))


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
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=READ_SECONDS))
        streaming = client.stream("GET", path, headers=headers, params=options)
        response = await stack.enter_async_context(streaming)
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _parsed(response)


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
