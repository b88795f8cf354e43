"""Conversations as a page of V0 leads them, and every byte that it is sent of their events."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import orjson

from tests.support.raw_client import EVENT, RawClient, payload_of, raw_client
from tests.support.waiting import WAIT_SECONDS

READY = "awaiting_user_input"
ADDED = re.compile(r',"(?:turn|partial|interrupted)":(?:"[^"]*"|\d+)')
"""Fields that events have got since, and that clients of V0 ignore."""
TIMESTAMP = re.compile(r'"timestamp":"[^"]*"')
VERSION = re.compile(r'"openhands_version":"[^"]*"')
NUMBER = re.compile(r'"(id|cause)":(\d+)')


def said(text: str) -> dict[str, Any]:
    """Return a message as the page sends it."""
    when = {"timestamp": "2026-03-02T09:15:07.120Z"}
    return {
        "action": "message",
        "args": {"content": text, "image_urls": [], "file_urls": [], **when},
    }


def asked_for(state: str) -> dict[str, Any]:
    """Return the request for a state that a button of the page sends."""
    return {"action": "change_agent_state", "args": {"agent_state": state}}


@dataclass(frozen=True)
class Script:
    """A conversation: how it is created, and what the page sends, each with what it then waits for.

    It waits for a state of the agent, or for a text that begins a message.
    """

    steps: tuple[tuple[dict[str, Any], str], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    creation: Mapping[str, Any] = field(default_factory=dict)
    begins: str = READY
    """The state in which the page finds it."""


RECORDING = [
    said("Tidy up") | {"source": "user", "id": 0},
    {"source": "agent", "action": "think", "args": {"thought": "Let me look."}},
    {"source": "agent", "action": "write", "args": {"path": "a.txt", "content": "one\n"}},
    {"source": "agent", "action": "run", "args": {"command": "cat a.txt"}},
    {"source": "agent", "observation": "run", "content": "one", "extras": {"command": "cat a.txt"}},
    {"source": "agent", "action": "read", "args": {"path": "missing"}},
    {"source": "agent", "action": "message", "args": {"content": "Half of it is done."}},
    said("Go on") | {"source": "user"},
    {"source": "agent", "action": "finish", "args": {"final_thought": "All of it."}},
]

SCRIPTS = {
    "messages": Script(
        (
            (said("hello"), READY),
            (said("/run echo hi\n/run exit 3"), READY),
            (said("/write a.txt one\n/read a.txt\n/edit a.txt one => two\n/read missing"), READY),
            (said("/think So.\n/cost 0.25"), READY),
            (said("/ask What next?"), READY),
            (said("Größe \U0001f511"), READY),
            (said("/finish Done"), "finished"),
            (said("once more"), READY),
        )
    ),
    "an error": Script(((said("/error planned"), "error"), (said("and again"), READY))),
    "decisions": Script(
        (
            (said("/run echo one"), "awaiting_user_confirmation"),
            (asked_for("user_confirmed"), READY),
            (said("/run echo two"), "awaiting_user_confirmation"),
            (asked_for("user_rejected"), READY),
        ),
        settings={"confirmation_mode": True},
    ),
    "a stop": Script(
        ((said("/slow 3 600000"), "Message 1 of 3"), (asked_for("stopped"), "stopped"))
    ),
    "a recording": Script(
        ((said("And now?"), READY),),
        creation={"replay_json": orjson.dumps(RECORDING).decode()},
        begins="finished",
    ),
    "a first message": Script((), creation={"initial_user_msg": "/run echo hi\nhello"}),
}


@dataclass
class Told:
    """The packets a page was sent: those of events in their order, and notices in any.

    Ids are counted anew in the order in which they came, since events that clients of V0 are not
    sent have ids, too; moments, the version and the conversation's id are left out.
    """

    events: list[str] = field(default_factory=list)
    notices: set[str] = field(default_factory=set)
    ids: dict[str, int] = field(default_factory=dict)

    def take(self, packet: str, conversation_id: str) -> None:
        """Note a packet."""
        text = packet.replace(conversation_id, "C")
        text = text.replace(f"Conversation {conversation_id[:5]}", "Conversation C")
        text = TIMESTAMP.sub('"timestamp":""', text)
        if '"status_update":true' in text:
            self.notices.add(text)
            return
        text = VERSION.sub('"openhands_version":""', ADDED.sub("", text))
        self.events.append(NUMBER.sub(self._counted, text))

    def _counted(self, found: re.Match[str]) -> str:
        name, number = found.groups()
        place = self.ids.setdefault(number, len(self.ids)) if name == "id" else self.ids[number]
        return f'"{name}":{place}'


async def create(url: str, script: Script) -> str:
    """Create the conversation; its id, once its agent is ready."""
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client:
        answer = await client.post("/api/conversations", json=dict(script.creation))
        assert answer.status_code == 200, answer.text
        conversation_id = str(answer.json()["conversation_id"])
    async with raw_client(url, conversation_id) as first:
        await first.connect()
        await _until(first, script.begins, lambda _: None)
    return conversation_id


async def lead(url: str, conversation_id: str, script: Script) -> Told:
    """Join a conversation that is ready, and lead it; what the page was sent."""
    told = Told()
    note = partial(told.take, conversation_id=conversation_id)
    query = {"providers_set": "", "session_api_key": "null"}
    async with raw_client(url, conversation_id, query=query) as client:
        await client.connect()
        await _until(client, script.begins, note)
        for payload, awaited in script.steps:
            await client.emit(payload)
            await _until(client, awaited, note)
    return told


async def _until(client: RawClient, awaited: str, note: Callable[[str], None]) -> None:
    """Read up to a state or a message; nothing but events comes as an event of Socket.IO."""
    while True:
        packet = await client.packet()
        assert packet.startswith(EVENT), packet
        note(packet)
        payload = payload_of(packet)
        if payload.get("extras", {}).get("agent_state") == awaited:
            return
        if str(payload.get("message", "")).startswith(awaited):
            return
