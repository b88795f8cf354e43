"""The actions of a conversation's agent that wait for a person: list, decide, ask again; and what needs none."""

import asyncio
from typing import Any, Literal

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from events.errors import DamagedRecord
from events.event import AgentState
from server.errors import AlreadyDecided, ApprovalExpired, ApprovalNotFound, BadEdit
from server.routes.endpoint import Tag, described
from server.routes.events import APPENDING, EventAccepted, keyed
from server.routes.request import (
    JsonResponse,
    RequestBody,
    ResponseBody,
    idempotency_key,
    owner_of,
    read_body,
    visible_id,
)
from server.routes.services import Services

COMMANDS = {
    "approve": AgentState.USER_CONFIRMED,
    "edit": AgentState.USER_CONFIRMED,
    "reject": AgentState.USER_REJECTED,
}
LONGEST_REASON = 2000
ID_DIGITS = 18
SHOWN_CHARACTERS = 40


class Approval(ResponseBody):
    """An action that waits for a person; its id is that of the event that asks."""

    id: int
    action: dict[str, Any] = Field(description="The event that asks, as it is stored.")
    expires_at: str | None = None
    expired: bool = Field(default=False, description="Whether it has to be asked again first.")


class ApprovalList(ResponseBody):
    """The approvals that are open, ascending, and the kinds of action that need none."""

    approvals: list[Approval]
    allowed: list[str]


class DecisionToTake(RequestBody):
    """A person's answer: `edit` approves the action with other arguments.

    The agent reads the reason of a refusal.
    """

    decision: Literal["approve", "reject", "edit"]
    args: dict[str, Any] | None = Field(
        default=None, description="With `edit`: the arguments that change; the others stay."
    )
    reason: str = Field(default="", max_length=LONGEST_REASON)
    always: bool = Field(
        default=False,
        description="With `approve` and `edit`: later actions of this kind in this conversation need"
        " no approval.",
    )


class AllowanceRevoked(ResponseBody):
    """Whether the kind of action was allowed until now."""

    revoked: bool


class Renewal(RequestBody):
    """Asks an approval again; nothing more can be said of it."""


class DecisionTaken(EventAccepted):
    """The decision is durable: the id of its event, whether its key was known."""


class ApprovalRoutes:
    """`/approvals` of one conversation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @described(Tag.CONVERSATIONS, answer=ApprovalList, raises=(DamagedRecord,))
    async def search(self, request: Request) -> Response:
        """List the actions that wait for a person, the oldest first, and what is allowed.

        Starts no agent.
        """
        conversation_id = await visible_id(request, self._services.conversation_stores)
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            stream, approvals = conversation.stream, conversation.approvals
            found = [
                Approval(
                    id=approval,
                    action=orjson.loads(asked.body),
                    expires_at=approvals.expires_at(approval),
                    expired=approvals.is_expired(approval),
                )
                for approval in approvals.open_ids
                async for asked in stream.search_events(approval, approval)
            ]
            allowed = approvals.allowed
        return JsonResponse(ApprovalList(approvals=found, allowed=allowed))

    @described(
        Tag.CONVERSATIONS,
        body=DecisionToTake,
        answer=DecisionTaken,
        takes_key=True,
        raises=(ApprovalNotFound, AlreadyDecided, ApprovalExpired, BadEdit, *APPENDING),
    )
    async def decide(self, request: Request) -> Response:
        """Approve one action, as it is or changed, or reject it; of two decisions the first counts."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        taken = await read_body(request, DecisionToTake)
        approval = _id_of(request.path_params["approval"])
        arguments: dict[str, Any] = {"agent_state": COMMANDS[taken.decision], "of": approval}
        if taken.reason:
            arguments["thought"] = taken.reason
        if taken.decision == "edit":
            arguments["edit"] = taken.args or {}
        key = idempotency_key(request)
        self._services.check_intake()
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            approvals = conversation.approvals
            question = approvals.get(approval)
            if question is None:
                ended = await approvals.end_in_log(conversation.stream, approval)
                if key is None or ended.client_id != key:
                    raise ended.refusal(approval)
            elif taken.args and taken.decision != "edit":
                raise BadEdit("The field `args` belongs to the decision `edit`")
            elif taken.always:
                arguments["always"] = question.action.kind
            command = {"action": "change_agent_state", "args": arguments}
            accepted = await manager.accept(conversation, keyed(request, command))
        return JsonResponse({"success": True, **accepted.body()})

    @described(
        Tag.CONVERSATIONS,
        body=Renewal,
        answer=DecisionTaken,
        takes_key=True,
        raises=(ApprovalNotFound, AlreadyDecided, *APPENDING),
    )
    async def renew(self, request: Request) -> Response:
        """Ask again about one action, so that its time begins anew; decides nothing."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        await read_body(request, Renewal)
        approval = _id_of(request.path_params["approval"])
        key = idempotency_key(request)
        self._services.check_intake()
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            approvals = conversation.approvals
            if approval not in approvals.open_ids:
                ended = await approvals.end_in_log(conversation.stream, approval)
                raise ended.refusal(approval)
            appended = await asyncio.shield(conversation.ask_again(approval, key))
        answer = {"success": True, "id": appended.id, "duplicate": appended.duplicate}
        return JsonResponse(answer)

    @described(Tag.CONVERSATIONS, answer=AllowanceRevoked, raises=APPENDING)
    async def revoke(self, request: Request) -> Response:
        """Have people asked again about a kind of action; the response follows when that is durable."""
        conversation_id = await visible_id(request, self._services.conversation_stores)
        kind = request.path_params["kind"]
        self._services.check_intake()
        manager = self._services.manager
        async with manager.attach(conversation_id, owner_of(request)) as conversation:
            appending = conversation.ask_always(kind)
            if appending is not None:
                await asyncio.shield(appending)
        return JsonResponse(AllowanceRevoked(revoked=appending is not None))


def _id_of(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > ID_DIGITS:
        raise ApprovalNotFound(f"There is no approval {text[:SHOWN_CHARACTERS]}")
    return int(text)
