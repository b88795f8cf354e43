"""The workspace of a conversation whose loop runs, for as long as a request needs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from runtime_stub.base import Runtime
from server.errors import NotFound
from server.routes.exchange import principal_of, visible_id
from server.routes.services import Services

NOT_RUNNING = "The conversation's workspace is not running"


@asynccontextmanager
async def running_runtime(
    request: Request, services: Services, *, absent: str = NOT_RUNNING
) -> AsyncIterator[Runtime]:
    """The ready runtime of the conversation in the path; nothing is started for it.

    Raises BadKey, ConversationNotFound, and NotFound with the text `absent` where no loop is ready;
    TimeoutError when the block takes longer than an action may.
    """
    conversation_id = await visible_id(request, services.conversation_stores)
    manager = services.manager
    if not manager.is_agent_loop_running(conversation_id):
        raise NotFound(absent)
    async with (
        asyncio.timeout(services.config.action_timeout_seconds),
        manager.attach(conversation_id, principal_of(request).user_id) as conversation,
    ):
        if conversation.loop is None or not conversation.ready:
            raise NotFound(absent)
        yield conversation.loop.runtime
