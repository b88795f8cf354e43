"""Agents and a runtime that stay at named moments of a turn, so that an end of the server meets them there.

Whoever stays says so by a line on the standard output, `stays CONVERSATION`. What the runtime carries
out is noted in the file that EFFECTS names, which outlives the process.
"""

import asyncio
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from events.actions import (
    Action,
    ChangeAgentStateAction,
    CmdRunAction,
    FileWriteAction,
    MessageAction,
)
from events.event import EventSource, SecurityRisk
from events.observations import Observation
from runtime_stub.agent import Agent
from runtime_stub.base import Runtime, RuntimeBuilder
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import Turn
from storage import failpoints
from tests.support.turn_agents import asked

EFFECTS = "TEST_EFFECTS"
"""The environment variable that names the file."""
FAILPOINT = "recall.begun"
END = "end "
"""A message of this and the name of a signal has the process sent it at the next FAILPOINT."""
ONCE, TWICE = "echo stay", "stay"
"""A command, and the name of a file whose writing may be repeated; the runtime stays at both."""
RISKY = "echo agreed"
"""A command that people are asked about."""
ASKS = "may I "
"""A message that begins so has its own command asked about."""
SAFE, HIGH = SecurityRisk.LOW, SecurityRisk.HIGH


class Moment(StrEnum):
    """Messages, and the moment at which a turn stays when the agent is sent one."""

    BEFORE_RECALL = "between message and recall"
    FIRST_OF_TWO = "while another message waits"
    BEFORE_TEXT = "before the first token"
    IN_TEXT = "in text"
    IN_TOOL = "in a tool"
    IN_IDEMPOTENT_TOOL = "in an idempotent tool"
    IN_OWN_ACTION = "in an action of the agent's own"
    IN_APPROVAL = "in an approval"
    IN_APPROVED = "in a tool that was approved"
    AT_END = "between the last event and turn_ended"


class Later(StrEnum):
    """Messages whose turn asks, and the moment at which the turn stays that a decision begins."""

    IN_TOOL = "in a tool that is approved later"
    IN_TEXT = "in text after a later approval"


MOMENTS = frozenset(map(str, Moment))
LATER = frozenset(map(str, Later))
STAYING = frozenset(Moment) - {Moment.BEFORE_RECALL, Moment.IN_APPROVAL}
"""Moments at which the agent or the runtime says that it stays."""
ASKING = frozenset((Moment.IN_APPROVAL, Moment.IN_APPROVED, *Later))
"""Messages whose turn asks about a command that does not name them."""


class Held(Agent):
    """Answers each message for itself: an action, then a text that is written in pieces.

    A turn that begins with the name of a moment stays there first, until the process is gone.
    """

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        text = asked(turn)
        if text.startswith(END):
            _end_at_failpoint(signal.Signals[text.removeprefix(END)])
            _say_that_it_stays(turn.conversation_id)
        elif turn.attempt == 1 and text in MOMENTS:
            await self._stay_at(Moment(text), turn)
        elif text in LATER:
            command = ONCE if text == Later.IN_TOOL else RISKY
            await turn.act(CmdRunAction(command=command, security_risk=HIGH))
        begun, waiting = await self._before(turn)
        decided = any(isinstance(event, ChangeAgentStateAction) for event in turn.cause)
        for event in turn.cause:
            if isinstance(event, MessageAction) and event.id in waiting:
                command = f"echo {event.id}"
                if command not in begun:
                    risk = HIGH if event.content.startswith(ASKS) else SAFE
                    await turn.act(CmdRunAction(command=command, security_risk=risk))
                await self._answer(turn, event.content)
        for event in waiting.values() if decided else ():
            asked_about = event.content.startswith(ASKS) and f"echo {event.id}" in begun
            if event.content in ASKING or asked_about:
                if event.content == Later.IN_TEXT and turn.attempt == 1:
                    await self._stay_in_text(turn)
                await self._answer(turn, event.content)

    async def _answer(self, turn: Turn, text: str) -> None:
        async with turn.say() as answer:
            for piece in ("Answer ", "to ", text, "."):
                answer.write(piece)
                await asyncio.sleep(0.02)

    async def _before(self, turn: Turn) -> tuple[set[str], dict[int | None, MessageAction]]:
        """Commands that earlier turns have begun, and by their ids messages that none has answered."""
        begun: set[str] = set()
        said: set[str] = set()
        asked_for: list[MessageAction] = []
        async for event in turn.history.events():
            if isinstance(event, CmdRunAction):
                begun.add(event.command)
            elif isinstance(event, MessageAction) and event.source == EventSource.USER:
                asked_for.append(event)
            elif isinstance(event, MessageAction) and event.interrupted is None:
                said.add(event.message.removeprefix("Answer to ").removesuffix("."))
        asked_for += [one for one in turn.cause if isinstance(one, MessageAction)]
        return begun, {one.id: one for one in asked_for if one.content not in said}

    async def _stay_in_text(self, turn: Turn) -> None:
        async with turn.say() as answer:
            answer.write("Answer to")
            await _stay(turn.conversation_id)

    async def _stay_at(self, moment: Moment, turn: Turn) -> None:
        name = turn.conversation_id
        match moment:
            case Moment.FIRST_OF_TWO:
                await _stay(name)
            case Moment.BEFORE_TEXT:
                async with turn.say():
                    await _stay(name)
            case Moment.IN_TEXT:
                await self._stay_in_text(turn)
            case Moment.IN_TOOL:
                await turn.act(CmdRunAction(command=ONCE, security_risk=SAFE))
            case Moment.IN_IDEMPOTENT_TOOL:
                await turn.act(FileWriteAction(path=TWICE, content=""))
            case Moment.IN_OWN_ACTION:
                async with turn.doing(CmdRunAction(command=ONCE, security_risk=SAFE)):
                    _note(name, ONCE)
                    await _stay(name)
            case Moment.IN_APPROVAL | Moment.IN_APPROVED:
                command = RISKY if moment is Moment.IN_APPROVAL else ONCE
                await turn.act(CmdRunAction(command=command, security_risk=HIGH))
            case Moment.AT_END:
                await self._answer(turn, moment)
                await _stay(name)
            case Moment.BEFORE_RECALL:
                pass


class HeldAgain(Held):
    """The same, and begun again where it was cut short; then it does not stay."""

    resumes: ClassVar[bool] = True


class NotingRuntime(StubRuntime):
    """Notes the commands and the files written, and stays the first time at ONCE and TWICE."""

    idempotent: ClassVar[frozenset[str]] = frozenset(("write",))

    def __init__(self, conversation_id: str) -> None:
        super().__init__()
        self._conversation_id = conversation_id

    async def perform(self, action: Action) -> Observation:
        """See Runtime."""
        what = action.path if isinstance(action, FileWriteAction) else ""
        what = action.command if isinstance(action, CmdRunAction) else what
        first = (self._conversation_id, what) not in effects(Path(os.environ[EFFECTS]))
        _note(self._conversation_id, what)
        if first and what in (ONCE, TWICE):
            await _stay(self._conversation_id)
        return await super().perform(action)


class NotingRuntimeBuilder(RuntimeBuilder):
    """Builds them."""

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        """See RuntimeBuilder."""
        return NotingRuntime(conversation_id)


def effects(path: Path) -> list[tuple[str, str]]:
    """Return the effects noted in a file: conversations, and what was carried out there."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [(name, what) for name, _, what in (line.partition(" ") for line in lines)]


def _note(conversation_id: str, what: str) -> None:
    with Path(os.environ[EFFECTS]).open("a", encoding="utf-8") as file:
        file.write(f"{conversation_id} {what}\n")


async def _stay(conversation_id: str) -> None:
    _say_that_it_stays(conversation_id)
    await asyncio.Event().wait()


def _say_that_it_stays(conversation_id: str) -> None:
    sys.stdout.write(f"stays {conversation_id}\n")
    sys.stdout.flush()


def _end_at_failpoint(number: signal.Signals) -> None:
    def end() -> None:
        failpoints.disable_all()
        os.kill(os.getpid(), number)

    failpoints.enable(FAILPOINT, end)
