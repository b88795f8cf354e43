"""The agent's answer to a message: waits for the end of the turn that takes the message up."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import orjson
from pydantic import Field

from events.event import EventSource
from events.stream import EventStream
from server.routes.request import Query

LONGEST_SECONDS = 3600
RECALL = b'"action":"recall"'
MESSAGE = b'"action":"message"'
TURN_ENDED = b'"observation":"turn_ended"'


class AnswerQuery(Query):
    """Whether to wait for the agent."""

    wait: Literal["", "turn"] = Field(
        default="", description="`turn`: respond when the turn that takes the message up has ended."
    )
    seconds: int = Field(
        default=300,
        ge=1,
        le=LONGEST_SECONDS,
        description="Seconds to wait at most; after that the response has no `outcome`.",
    )


@dataclass(slots=True)
class TurnAnswer:
    """The outcome of a turn. `turn` and `outcome` are None as long as they are not known."""

    turn: int | None = None
    outcome: str | None = None
    reason: str | None = None
    messages: list[str] = field(default_factory=list)
    """The agent's messages of the turn, in order."""


async def answer_to(stream: EventStream, message_id: int, seconds: float) -> TurnAnswer:
    """Wait until the turn that takes a message up has ended, or the seconds are over."""
    answer = TurnAnswer()
    try:
        async with asyncio.timeout(seconds):
            async for event in stream.follow(message_id):
                if _takes(answer, event.body, message_id):
                    break
    except TimeoutError:
        pass  # what is known by now is the answer
    return answer


def _takes(answer: TurnAnswer, body: bytes, message_id: int) -> bool:
    """Take note of the next event; return whether it ends the turn."""
    if answer.turn is None:
        payload = orjson.loads(body) if RECALL in body else {}
        if payload.get("action") == "recall" and payload.get("cause") == message_id:
            answer.turn = payload.get("turn", payload["id"])
        return False
    if MESSAGE not in body and TURN_ENDED not in body:
        return False
    payload = orjson.loads(body)
    if payload.get("turn") != answer.turn:
        return False
    if payload.get("observation") == "turn_ended":
        answer.outcome = payload["extras"]["outcome"]
        answer.reason = payload["extras"].get("reason") or None
        return True
    if payload.get("action") == "message" and payload.get("source") == EventSource.AGENT:
        answer.messages.append(payload["args"]["content"])
    return False
