"""Client to server: every message acknowledged, a few of each client in flight."""

import asyncio
import gc
import json
import time
from typing import Any

import picows

from benchmarks.clients import (
    BenchError,
    Client,
    Control,
    any_problem,
    connect_all,
    event_id,
    raise_problems,
    until,
)
from benchmarks.machine import Meter
from benchmarks.payload import PREFIX, text

ACK = b"43"


class Sender(Client):
    """Sends messages to a conversation of its own and checks what comes back."""

    def __init__(self) -> None:
        super().__init__()
        action = {"action": "message", "args": {"content": text()}}
        self._tail = json.dumps(["oh_user_action", action], separators=(",", ":")).encode()
        self.sent = 0
        self.acknowledged = 0
        self.first: int | None = None
        self.echoed = 0
        self.sending = False

    def begin(self, first: int, in_flight: int) -> None:
        """Send the first few; the id of the first is due to be `first`."""
        self.first = first
        self.resume(in_flight)

    def resume(self, in_flight: int) -> None:
        """Send again, as many at once."""
        self.sending = True
        for _ in range(in_flight):
            self._send()

    def on_event(self, data: bytes) -> None:
        """Its own message comes back as an event, where the server does that."""
        if self.first is None or not data.startswith(PREFIX):
            return
        found = event_id(data)
        if found < self.first:
            return
        if found != self.first + self.echoed and self.problem is None:
            self.problem = f"event {found} came where {self.first + self.echoed} was due"
        self.echoed += 1

    def on_other(self, transport: picows.WSTransport, data: bytes) -> None:
        """Take an acknowledgement: it must be the next one's, with the next id."""
        if not data.startswith(ACK):
            super().on_other(transport, data)
            return
        due = self.acknowledged
        if not data.startswith(b"43%d[" % due) or event_id(data) != (self.first or 0) + due:
            self.problem = self.problem or f"acknowledgement {due} was due: {data[:80]!r}"
        self.acknowledged = due + 1
        if self.sending:
            self._send()

    def _send(self) -> None:
        self.send(b"42%d" % self.sent + self._tail)
        self.sent += 1


async def receive(job: dict[str, Any]) -> dict[str, float]:
    """`clients` clients, each with its conversation, `in_flight` messages of each on their way."""
    control = await Control.open(job["control"])
    options = {"echo": True} if job.get("echo") else {}
    names = await control.ask("new", count=job["clients"], **options)
    senders = await connect_all(job["port"], names, Sender)
    await asyncio.sleep(0.2)
    firsts = await control.ask("next_ids", conversations=names)
    for sender, first in zip(senders, firsts, strict=True):
        sender.begin(first, job["in_flight"])
    await _run(senders, 0.3, echoes=job["echoes"])
    warmed = sum(sender.sent for sender in senders)
    gc.collect()
    gc.disable()
    meter = Meter(job["pid"])
    began = time.perf_counter()
    for sender in senders:
        sender.resume(job["in_flight"])
    await _run(senders, job["seconds"] - (time.perf_counter() - began), echoes=job["echoes"])
    figures = meter.stop()
    raise_problems(senders)
    committed = await control.ask("next_ids", conversations=names)
    for sender, first, end in zip(senders, firsts, committed, strict=True):
        if end - first != sender.acknowledged:
            raise BenchError(f"{end - first} committed, {sender.acknowledged} acknowledged")
    messages = sum(sender.sent for sender in senders) - warmed
    for sender in senders:
        sender.close()
    return figures | {
        "messages": messages,
        "cpu_per_message_us": figures["server_cpu"] / messages * 1e6,
        "messages_per_s": messages / figures["wall"],
    }


async def _run(senders: list[Sender], seconds: float, *, echoes: bool) -> None:
    """Let them send for a while; wait for every answer."""
    await asyncio.sleep(seconds)
    for sender in senders:
        sender.sending = False

    def settled() -> bool:
        return any_problem(senders) or all(
            one.acknowledged == one.sent and (not echoes or one.echoed == one.sent)
            for one in senders
        )

    await until(settled, "every message was acknowledged and seen")
