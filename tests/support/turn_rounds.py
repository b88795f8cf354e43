"""Rounds of: ask, cut the server short at a random moment, start again; every question has an answer or a word."""

import asyncio
import contextlib
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from events.event import AgentState
from tests.support.clients import joined, message
from tests.support.remote import CONVERSATIONS, Remote, remote
from tests.support.seeds import choices
from tests.support.servers import ServerProcess, server_process

AT_ONCE = 3
"""Conversations of a round."""
QUESTIONS = 4
"""Messages to each of them."""
CUT_SECONDS = (0.02, 0.6)
"""When the server is cut short, after the first question."""
REST_SECONDS = 15.0
LOST = "AGENT_ERROR$TURN_LOST"
SETTINGS = {
    "PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1000",
    "PARLEY_MAX_ITERATIONS": "1000000",
    "PARLEY_SHUTDOWN_SECONDS": "2",
}


@dataclass(slots=True)
class TurnFigures:
    """What a run of rounds did."""

    seed: int
    storage: str
    agent: str
    rounds: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return (
            f"{self.agent} over {self.storage}, seed {self.seed}: {self.rounds} rounds, {counted}"
        )


async def run_turn_rounds(
    data_dir: Path, seed: int, rounds: int, storage: str, agent: str
) -> TurnFigures:
    """Cut short and compare so often over one data directory. Raises AssertionError."""
    random = choices(seed)
    figures = TurnFigures(seed, storage, agent)
    environment = SETTINGS | {
        "PARLEY_STORAGE": storage,
        "PARLEY_AGENT_CLASS": f"tests.support.turn_agents:{agent}",
    }
    async with server_process(data_dir, environment=environment) as server:
        for _ in range(rounds):
            await _round(server, random, figures)
            figures.rounds += 1
    return figures


async def _round(server: ServerProcess, random: Random, figures: TurnFigures) -> None:
    async with remote(server.url) as api:
        created = await api.create_many(AT_ONCE)
        asking = [asyncio.create_task(_ask(api, one)) for one in created]
        await asyncio.sleep(random.uniform(*CUT_SECONDS))
        if random.random() < 0.5:
            await server.kill()
            figures.counts["killed"] += 1
        else:
            assert await server.stop(signal.SIGTERM) == 0
            figures.counts["stopped"] += 1
        asked = await asyncio.gather(*asking)
    await server.start()
    async with remote(server.url) as api:
        for conversation_id, acknowledged in zip(created, asked, strict=True):
            await _rest(server.url, conversation_id)
            log = await api.log(conversation_id)
            _check(log, acknowledged, figures)
            await api.delete(conversation_id)


async def _ask(api: Remote, conversation_id: str) -> dict[int, str]:
    """Send questions until the server is gone; those that were acknowledged, by id."""
    acknowledged: dict[int, str] = {}
    address = f"{CONVERSATIONS}/{conversation_id}/events"
    with contextlib.suppress(httpx.TransportError):
        for number in range(QUESTIONS):
            text = f"question {number}"
            payload = message(text) | {"client_id": text}
            answer = await api.client.post(address, json=payload)
            if answer.status_code != 200:
                break
            acknowledged[answer.json()["id"]] = text
    return acknowledged


async def _rest(url: str, conversation_id: str) -> None:
    """Open a conversation, and wait until its agent has answered what it was still asked."""
    async with joined(url, conversation_id) as client:
        said = await client.say("the last")

        def rests(_: Any) -> bool:
            states = [
                event["extras"]["agent_state"]
                for event in client.events
                if event.get("observation") == "agent_state_changed" and event["id"] > said["id"]
            ]
            heard = any(_text(event).startswith("Answer to the last") for event in client.events)
            return heard and states[-1:] == [AgentState.AWAITING_USER_INPUT]

        await client.until(rests, seconds=REST_SECONDS)


def _check(log: list[dict[str, Any]], asked: dict[int, str], figures: TurnFigures) -> None:
    """Compare a log with what was acknowledged. Raises AssertionError."""
    assert [event["id"] for event in log] == list(range(len(log)))
    answers = Counter(
        _text(event) for event in log if event["source"] == "agent" and "interrupted" not in event
    )
    told = Counter(
        event.get("cause") for event in log if event.get("extras", {}).get("error_id") == LOST
    )
    for event_id, text in asked.items():
        answered = answers[f"Answer to {text}."]
        # Of several messages of a turn one may be answered when the turn is cut short.
        assert answered <= 1, (text, log)
        assert told[event_id] <= 1, (text, log)
        assert answered + told[event_id] >= 1, (text, log)
        figures.counts["answered" if answered else "told"] += 1
    names = {event["id"]: event["args"]["command"] for event in log if event.get("action") == "run"}
    done = Counter(names[event["cause"]] for event in log if event.get("observation") == "run")
    assert all(times == 1 for times in done.values()), done
    ended = Counter(event["turn"] for event in log if event.get("observation") == "turn_ended")
    assert all(times == 1 for times in ended.values()), ended
    figures.counts["begun again"] += sum(
        times - 1
        for times in Counter(
            event["cause"] for event in log if event.get("action") == "recall"
        ).values()
    )


def _text(event: dict[str, Any]) -> str:
    return str(event.get("args", {}).get("content", "")) if event.get("action") == "message" else ""
