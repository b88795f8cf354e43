"""The part of a conversation's log that can be read, also while the storage does not answer."""

import asyncio
from typing import NamedTuple

from starlette.requests import Request

from events.errors import StoreUnavailable
from server.routes.request import conversation_id_of, owner_of, visible_id
from server.routes.services import Services
from storage.errors import Unavailable

PATIENCE_SECONDS = 2.0
"""Seconds a read of a conversation that is open here waits for the storage to tell where its log ends."""


class Readable(NamedTuple):
    """A conversation that a request may read, up to an event."""

    conversation_id: str
    next_id: int
    """One past the last event of the log."""
    is_stale: bool = False
    """Whether the storage did not answer: the log ended there for the last clients that were served."""


async def readable_log(request: Request, services: Services) -> Readable:
    """Return the conversation in the path, and where its log ends.

    While the storage does not answer, of one that is open in this process its published end, since
    every event below that is committed, and those in the cache can be served. Raises BadKey,
    ConversationNotFound, DamagedHead, StoreUnavailable and what else the storage raises.
    """
    opened = services.manager.opened(conversation_id_of(request), owner_of(request))
    if opened is None:
        return await _stored(request, services)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _stored(request, services)
    except (TimeoutError, Unavailable, StoreUnavailable):
        if opened.stream.is_closed:  # it was deleted or closed meanwhile
            raise
        return Readable(opened.conversation_id, opened.stream.next_id, is_stale=True)


async def writable_id(request: Request, services: Services) -> str:
    """Return the id in the path, of a conversation that the requesting user may append to.

    One that is open in this process is known to be. Raises what `visible_id` does.
    """
    opened = services.manager.opened(conversation_id_of(request), owner_of(request))
    if opened is not None:
        return opened.conversation_id
    return await visible_id(request, services.conversation_stores)


async def _stored(request: Request, services: Services) -> Readable:
    conversation_id = await visible_id(request, services.conversation_stores)
    head = await services.event_store.head(conversation_id)
    return Readable(conversation_id, head.next_id)
