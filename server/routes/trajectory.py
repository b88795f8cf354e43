"""A conversation's events as one document to keep."""

import asyncio
from collections.abc import AsyncIterator

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from events.errors import DamagedRecord
from events.filter import is_hidden
from events.serialization import trajectory_form
from server.routes.describing import Tag, described
from server.routes.event_json import EventJson
from server.routes.exchange import JsonResponse, ResponseBody, visible_id
from server.routes.services import Services

CHUNK_BYTES = 64 * 1024


class Trajectory(ResponseBody):
    """The events of a conversation; the answer is written in this form, event by event."""

    trajectory: list[EventJson]


class TrajectoryRoutes:
    """`/trajectory` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.EVENTS, answer=Trajectory, raises=(DamagedRecord,))
    async def export(self, request: Request) -> Response:
        """All events but the hidden ones, without bulky extras, written while they are read.

        What fails after the beginning breaks the connection, so that half is not taken for all.
        """
        conversation_id = await visible_id(request, self._services.conversation_stores)
        head = await self._services.event_store.head(conversation_id)
        chunks = self._chunks(conversation_id, head.next_id)
        # Read before the status is sent, so that a log that cannot be read is answered as such.
        first = await anext(chunks)
        return StreamingResponse(_chain(first, chunks), media_type=JsonResponse.media_type)

    async def _chunks(self, conversation_id: str, next_id: int) -> AsyncIterator[bytes]:
        chunk = bytearray(b'{"trajectory":[')
        separator = b""
        position = 0
        while position < next_id:
            page = await self._services.page_reader.read(conversation_id, position, next_id)
            position = page[-1].id + 1
            for event in page:
                payload = orjson.loads(event.body)
                if is_hidden(payload):
                    continue
                chunk += separator + orjson.dumps(trajectory_form(payload))
                separator = b","
                if len(chunk) >= CHUNK_BYTES:
                    yield bytes(chunk)
                    chunk.clear()
                    await asyncio.sleep(0)
            # A page out of the cache is read without waiting, and others want their turn.
            await asyncio.sleep(0)
        yield bytes(chunk + b"]}")


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
