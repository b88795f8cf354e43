"""Conversations whose agent asks before it acts, people who decide, and what comes of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import product
from pathlib import Path
from typing import Any

import httpx

from server.conversations.conversation import ServerConversation
from server.conversations.loop_scheduler import LoopScheduler
from server.conversations.standalone import StandaloneConversationManager
from tests.support.clients import RecordingClient, command
from tests.support.live import Live, live_server
from tests.support.payloads import Payload, outcomes
from tests.support.remote import CONVERSATIONS, Remote, process_over, remote
from tests.support.servers import ServerProcess
from tests.support.waiting import until

RESUMING = "tests.support.turn_agents:CarefulResuming"
EDIT = {"command": "echo otherwise"}
COMMANDS = {"approve": "user_confirmed", "edit": "user_confirmed", "reject": "user_rejected"}
MOST_LEAD = 5
"""Turns of the event loop by which the one who decides over a socket is ahead, at most one less."""
WORDS = {"approve": "approved", "edit": "approved with changes", "reject": "rejected"}


def careful(agent: str = RESUMING, **settings: Any) -> AbstractAsyncContextManager[Live]:
    """A server whose agent asks before it acts."""
    return live_server(agent_class=agent, confirmation_mode=True, **settings)


def careful_process(
    folder: Path, **settings: object
) -> AbstractAsyncContextManager[tuple[ServerProcess, Remote]]:
    """The same as a process, and a client of it."""
    return process_over(folder, agent_class=RESUMING, confirmation_mode="true", **settings)


def is_asking(payload: Payload) -> bool:
    """Whether an event asks a person about an action."""
    waits = payload.get("args", {}).get("confirmation_state")
    return payload.get("action") == "run" and waits == "awaiting_confirmation"


async def asked(client: RecordingClient, text: str = "hi") -> int:
    """Have the agent ask; the id of the approval."""
    await client.say(text)
    return int((await client.event(is_asking))["id"])


async def listed(api: Remote, conversation_id: str) -> dict[str, Any]:
    """The conversation's approvals as they are listed."""
    answer = await api.client.get(f"{CONVERSATIONS}/{conversation_id}/approvals")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    for one in found["approvals"]:
        assert is_asking(one["action"])
        assert one["action"]["id"] == one["id"]
    return found


async def pending(api: Remote, conversation_id: str) -> list[int]:
    """The ids of a conversation's open approvals."""
    return [one["id"] for one in (await listed(api, conversation_id))["approvals"]]


async def decide(
    api: Remote, conversation_id: str, approval: int, decision: str = "approve", **body: Any
) -> httpx.Response:
    """Decide over REST; the answer."""
    return await api.client.post(
        f"{CONVERSATIONS}/{conversation_id}/approvals/{approval}",
        json={"decision": decision, **body},
    )


def decision_command(approval: int, decision: str = "approve", **arguments: Any) -> Payload:
    """The command by which a socket decides."""
    payload: Payload = command(COMMANDS[decision])
    payload["args"] |= {"of": approval, **arguments}
    return payload


def decided(log: Sequence[Payload], approval: int) -> list[Payload]:
    """The action of an approval as it stands in the log once it was decided upon."""
    return [one for one in log if one.get("cause") == approval and "action" in one]


def done(log: Sequence[Payload], approval: int) -> list[str]:
    """The results of an approval: the observations of its action as it was decided."""
    again = [one["id"] for one in decided(log, approval)]
    return [one["observation"] for one in log if one.get("cause") in again]


async def carried_out(api: Remote, conversation_id: str, approval: int) -> list[Payload]:
    """Wait until the action of an approval is answered and its turn is over; the log."""
    log: list[Payload] = []

    async def is_answered() -> bool:
        log[:] = await api.log(conversation_id)
        return bool(done(log, approval)) and outcomes(log)[-1:] == ["done"]

    await until(is_answered)
    return log


async def conversation_of(live: Live, conversation_id: str) -> ServerConversation:
    """The open conversation."""
    async with live.application.manager.attach(conversation_id, None) as conversation:
        return conversation


def loops_of(live: Live) -> LoopScheduler:
    """The scheduler that starts and stops the server's agent loops."""
    manager = live.application.manager
    assert isinstance(manager, StandaloneConversationManager)
    return manager._local.loops


async def end_loop(live: Live, conversation_id: str) -> None:
    """Close the conversation's agent loop, as for being idle."""
    await loops_of(live).stop(await conversation_of(live, conversation_id))


async def begin_end(live: Live, conversation: ServerConversation, turns: int) -> asyncio.Task[bool]:
    """Begin to close a conversation's agent loop, and let so many turns of the event loop pass."""
    closing = asyncio.create_task(loops_of(live).stop(conversation))
    for _ in range(turns):
        await asyncio.sleep(0)
    return closing


async def race_deciders(rounds: int, *, open_loop: bool) -> Counter[str]:
    """Have two people decide about one approval at the same moment, so often; who has won.

    One decides over REST and one over a socket, in every combination of decisions. Raises
    AssertionError unless one wins, the other is told who and when, and what was decided is done.
    """
    won: Counter[str] = Counter()
    pairs = list(product(COMMANDS, COMMANDS))
    async with careful(access_log=False) as live, remote(live.url) as api:
        for number in range(rounds):
            over_rest, over_socket = pairs[number % len(pairs)]
            one = await live.new()
            async with live.joined(one) as client, live.joined(one) as tab:
                approval = await asked(client)
                if not open_loop:
                    await end_loop(live, one)
                rest, socket = await _at_once(
                    *(api, tab, one, approval, over_rest, over_socket), lead=number % MOST_LEAD
                )
            log = await carried_out(api, one, approval)
            rest_won = rest.status_code == 200
            assert rest_won is (socket["status"] == "error"), (rest.text, socket)
            _check(log, approval, over_rest if rest_won else over_socket)
            refused = socket if rest_won else rest.json()
            assert refused["code"] == "already_decided"
            winner = over_rest if rest_won else over_socket
            assert f"was {WORDS[winner]} by the user at 20" in refused["message"]
            won["REST" if rest_won else "socket"] += 1
    return won


async def _at_once(
    api: Remote,
    tab: RecordingClient,
    conversation_id: str,
    approval: int,
    over_rest: str,
    over_socket: str,
    *,
    lead: int,
) -> tuple[httpx.Response, Payload]:
    body = {"args": EDIT} if over_rest == "edit" else {}
    arguments = {"edit": EDIT} if over_socket == "edit" else {}
    payload = decision_command(approval, over_socket, **arguments)
    socket = asyncio.create_task(tab.send(payload))
    for _ in range(lead):
        await asyncio.sleep(0)
    rest = await decide(api, conversation_id, approval, over_rest, **body)
    return rest, await socket


def _check(log: Sequence[Payload], approval: int, winner: str) -> None:
    assert sum(one.get("args", {}).get("of") == approval for one in log) == 1
    assert done(log, approval) == ["user_rejected" if winner == "reject" else "run"]
    (action,) = decided(log, approval)
    assert (action["args"]["command"] == EDIT["command"]) is (winner == "edit")
    assert action.get("edited_by") == ("the user" if winner == "edit" else None)
