"""Conversations whose agents misbehave, one plan each, and what became of them."""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Any

from tests.support.misbehaving import CLOSING, HELD, Plan
from tests.support.raw_client import raw_client
from tests.support.remote import CONVERSATIONS, Remote
from tests.support.servers import ServerProcess

State = dict[str, str]
ENDINGS = frozenset(("awaiting_user_input", "error"))
"""States in which a conversation stays that was given something to do."""
OUTCOME_SECONDS = 60.0
TASK = "/run echo hello > a.txt\n/cost 0.1"
"""Makes an agent act, and its runtime."""
CLASSES = {
    "PARLEY_AGENT_CLASS": "tests.support.misbehaving:MisbehavingAgent",
    "PARLEY_RUNTIME_CLASS": "tests.support.misbehaving:MisbehavingRuntimeBuilder",
    "PARLEY_ALLOW_SET_CONVERSATION_ID": "true",
    "PARLEY_MAX_CONCURRENT_CONVERSATIONS": "100000",
    "PARLEY_RUNTIME_START_SECONDS": "3",
    "PARLEY_ACTION_TIMEOUT_SECONDS": "3",
    "PARLEY_AGENT_CLOSE_SECONDS": "2",
    "PARLEY_SLOW_CALLBACK_SECONDS": "0",
}
"""Settings of a server in which plans are carried out."""


async def begin(api: Remote, url: str, planned: Plan, number: int) -> str:
    """Create a conversation with a task, and wait until it is at work or beyond; its id."""
    conversation_id = f"{planned.callback}--{planned.fault}--{number}"
    body = {"conversation_id": conversation_id, "initial_user_msg": TASK}
    created = await api.client.post(CONVERSATIONS, json=body)
    assert created.status_code == 200, created.text
    await _until(url, conversation_id, {"running", *ENDINGS})
    return conversation_id


async def hold_up(api: Remote, server: ServerProcess, planned: Plan) -> None:
    """Have an agent hold the server up for ever; done when it does."""
    conversation_id = f"{planned.callback}--{planned.fault}--{server.pid}"
    body = {"conversation_id": conversation_id, "initial_user_msg": TASK}
    asked = asyncio.create_task(api.client.post(CONVERSATIONS, json=body))
    assert await server.line() == HELD
    asked.cancel()  # it may be answered or not
    await asyncio.wait([asked])


async def ends_in_time(server: ServerProcess) -> tuple[int, float]:
    """Stop a server; its exit code, and the seconds it took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    code = await server.stop()
    return code, clock() - began


async def carry_out(api: Remote, url: str, planned: Plan, number: int) -> str | None:
    """Give a conversation a task, see how it ends, and stop it; what is wrong with that, if anything."""
    conversation_id = f"{planned.callback}--{planned.fault}--{number}"
    title = f"{planned.callback}, {planned.fault}"
    try:
        async with asyncio.timeout(OUTCOME_SECONDS):
            body = {"conversation_id": conversation_id, "initial_user_msg": TASK}
            created = await api.client.post(CONVERSATIONS, json=body)
            assert created.status_code == 200, created.text
            wanted = planned.outcomes()
            ends = {"running"} if wanted == {"running"} else ENDINGS
            state = await _until(url, conversation_id, ends)
            stopped = await api.client.post(f"{CONVERSATIONS}/{conversation_id}/stop")
            assert stopped.status_code == 200, stopped.text
            if planned.callback in CLOSING:
                told = map(_state_of, await api.log(conversation_id))
                state = [one for one in told if one is not None][-1]
    except TimeoutError:
        return f"{title}: no end"
    if state["agent_state"] not in wanted:
        return f"{title}: {state} and not {' or '.join(sorted(wanted))}"
    if state["agent_state"] == "error" and not state["reason"]:
        return f"{title}: an error without a reason"
    return None


async def _until(url: str, conversation_id: str, states: AbstractSet[str]) -> State:
    async with raw_client(url, conversation_id) as client:
        assert (await client.connect()).startswith("40{")
        while True:
            state = _state_of(await client.event(OUTCOME_SECONDS))
            if state is not None and state["agent_state"] in states:
                return state


def _state_of(payload: Any) -> State | None:
    if payload.get("observation") != "agent_state_changed":
        return None
    found: State = payload["extras"]
    return found
