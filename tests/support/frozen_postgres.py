"""PostgreSQL frozen under a server for a time: what goes on meanwhile, and how soon all is well again."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from events.event import AgentState
from tests.support.clients import joined
from tests.support.connect_counter import counting_connects
from tests.support.payloads import Payload
from tests.support.postgres import as_own_role, postgres_server
from tests.support.postgres_rounds import is_ready
from tests.support.remote import CONVERSATIONS, PAGE, Remote, server_over
from tests.support.waiting import until

APPEND_SECONDS = 2.0
"""The deadline of appends."""


@dataclass(slots=True)
class FrozenFigures:
    """Figures of a time in which PostgreSQL was frozen."""

    frozen_seconds: float = 0.0
    refused: int = 0
    longest_refusal_seconds: float = 0.0
    reads: int = 0
    """Whole logs that were read meanwhile, by requests and by new clients."""
    longest_read_seconds: float = 0.0
    connects: int = 0
    """Connections that were made or tried from the freeze until all was well."""
    most_connects: int = 0
    """Of these at a time."""
    ready_seconds: float = 0.0
    """From the thaw until the server was ready."""

    def __str__(self) -> str:
        return (
            f"frozen for {self.frozen_seconds:.1f} s: {self.refused} appends refused after"
            f" {self.longest_refusal_seconds:.1f} s at most, {self.reads} whole logs read in"
            f" {self.longest_read_seconds:.1f} s at most, {self.connects} connects,"
            f" {self.most_connects} at a time, ready {self.ready_seconds:.1f} s after the thaw"
        )


async def run_frozen(folder: Path, seconds: float) -> FrozenFigures:
    """Freeze PostgreSQL for so long at least. Raises AssertionError."""
    figures = FrozenFigures()
    async with (
        as_own_role(folder) as (settings, role),
        counting_connects(postgres_server(), role) as counter,
        server_over(
            folder,
            "postgres",
            append_deadline_seconds=APPEND_SECONDS,
            **settings | {"database_url": counter.url},
        ) as (server, api),
    ):
        conversation_id = await api.create("hello")
        async with joined(server.url, conversation_id) as client:
            said = await client.event(lambda one: one.get("message") == "You said: hello")
            await client.state(AgentState.AWAITING_USER_INPUT, after=said["id"])
            log = await api.log(conversation_id)
            async with joined(server.url, conversation_id) as earlier:
                await earlier.until(lambda one: one.cursor == log[-1]["id"])
            before = counter.made
            postgres_server().freeze()
            began = time.monotonic()
            try:
                await until(lambda: does_not_answer(api))
                while not figures.refused or time.monotonic() - began < seconds:
                    await _refuse(api, conversation_id, figures)
                    await _read(api, conversation_id, log, figures)
                    await _follow(server.url, conversation_id, earlier.events, figures)
                figures.frozen_seconds = time.monotonic() - began
            finally:
                postgres_server().thaw()
            began = time.monotonic()
            await until(lambda: is_ready(api))
            figures.ready_seconds = time.monotonic() - began
            figures.connects, figures.most_connects = counter.made - before, counter.most
            # Under the key of what was refused, so that it is in the log once.
            assert (await api.say(conversation_id, "once", "once")).status_code == 200
            await client.event(lambda one: one.get("message") == "You said: once")
            assert client.disconnects == []
            assert client.ids == sorted(set(client.ids))
        after = await api.log(conversation_id)
    assert after[: len(log)] == log
    assert [one["id"] for one in after] == list(range(len(after)))
    assert [one.get("client_id") for one in after].count("once") == 1
    assert figures.most_connects == 1
    return figures


async def does_not_answer(api: Remote) -> bool:
    """Return whether the server says that its storage does not answer, and asks to be left alone."""
    answer = await api.client.get("/ready")
    assert answer.status_code == 200, answer.text
    return bool(answer.json().get("degraded") == ["storage"])


async def _refuse(api: Remote, conversation_id: str, figures: FrozenFigures) -> None:
    began = time.monotonic()
    refused = await api.say(conversation_id, "once", "once")
    took = time.monotonic() - began
    assert refused.status_code == 503, refused.text
    figures.refused += 1
    figures.longest_refusal_seconds = max(figures.longest_refusal_seconds, took)


async def _read(
    api: Remote, conversation_id: str, log: list[Payload], figures: FrozenFigures
) -> None:
    began = time.monotonic()
    one = f"{CONVERSATIONS}/{conversation_id}"
    events, trajectory = await asyncio.gather(
        api.client.get(f"{one}/events", params={"limit": PAGE}),
        api.client.get(f"{one}/trajectory"),
    )
    assert (events.status_code, trajectory.status_code) == (200, 200), events.text
    assert events.json() == {"events": log, "has_more": False, "stale": True}
    assert trajectory.json()["stale"] is True
    figures.reads += 2
    figures.longest_read_seconds = max(figures.longest_read_seconds, time.monotonic() - began)


async def _follow(
    url: str, conversation_id: str, expected: list[Payload], figures: FrozenFigures
) -> None:
    """Let a new client replay the conversation."""
    async with joined(url, conversation_id) as client:
        await client.until(lambda one: one.cursor == expected[-1]["id"])
    assert client.events == expected
    figures.reads += 1
