"""How a conversation is shown: its record, and what its loop and connections are doing."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from server.conversations.manager import AgentLoopInfo, ConversationManager, ConversationStatus
from server.routes.exchange import ResponseBody
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationTrigger,
    ProviderType,
    default_title,
)
from storage.unicode_text import one_line


class ConversationInfo(ResponseBody):
    """A conversation as pages and lists show it."""

    conversation_id: str
    title: str
    created_at: datetime
    last_updated_at: datetime | None
    last_message_at: datetime | None
    status: ConversationStatus
    runtime_status: str | None
    selected_repository: str | None
    selected_branch: str | None
    git_provider: ProviderType | None
    trigger: ConversationTrigger | None
    num_connections: int
    url: str | None
    session_api_key: str | None
    pr_number: list[int]
    # Pages open the socket of this protocol for exactly this version.
    conversation_version: Literal["V0"] = "V0"
    sub_conversation_ids: list[str] = Field(default_factory=list, max_length=0)


def conversation_infos(
    manager: ConversationManager, user_id: str | None, records: Sequence[ConversationMetadata]
) -> list[ConversationInfo]:
    """The conversations as pages and lists show them, in the order of the records."""
    ids = {record.conversation_id for record in records}
    loops = {
        info.conversation_id: info
        for info in manager.get_agent_loop_info(user_id, filter_to_sids=ids)
    }
    connections = Counter(manager.get_connections(user_id, filter_to_sids=ids).values())
    return [
        _info(record, loops.get(record.conversation_id), connections[record.conversation_id])
        for record in records
    ]


def status_of(
    manager: ConversationManager, user_id: str | None, conversation_id: str
) -> ConversationStatus:
    """What one conversation's loop is doing."""
    found = manager.get_agent_loop_info(user_id, filter_to_sids={conversation_id})
    return found[0].status if found else ConversationStatus.STOPPED


def _info(
    record: ConversationMetadata, loop: AgentLoopInfo | None, num_connections: int
) -> ConversationInfo:
    status = ConversationStatus.STOPPED if loop is None else loop.status
    return ConversationInfo(
        conversation_id=record.conversation_id,
        title=one_line(record.title or "") or default_title(record.conversation_id),
        created_at=record.created_at,
        last_updated_at=record.last_updated_at,
        last_message_at=record.last_message_at,
        status=status,
        runtime_status=None if loop is None else loop.runtime_status,
        selected_repository=record.selected_repository,
        selected_branch=record.selected_branch,
        git_provider=record.git_provider,
        trigger=record.trigger,
        num_connections=num_connections,
        url=None if loop is None else loop.url,
        session_api_key=None if loop is None else loop.session_api_key,
        pr_number=record.pr_number,
    )
