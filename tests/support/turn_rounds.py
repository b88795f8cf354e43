"""Rounds of: ask, cut the server short, start again; every question has an answer or a word."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from events.actions import RUNNABLE
from events.event import AgentState
from server.process.watchdog import EXIT_ENDED
from tests.support.approvals import decide, pending
from tests.support.clients import joined, message
from tests.support.crash_run import unlimited_server
from tests.support.held_turns import (
    ASKS,
    EFFECTS,
    END,
    ONCE,
    RISKY,
    STAYING,
    TWICE,
    Later,
    Moment,
    NotingRuntimeBuilder,
    effects,
)
from tests.support.payloads import ends, lost, outcomes, recalls
from tests.support.remote import CONVERSATIONS, Remote, remote
from tests.support.seeds import choices
from tests.support.servers import ServerProcess

AT_ONCE = 3
"""Conversations of a round at a random moment."""
QUESTIONS = 4
"""Messages to each of them; the agent asks before it acts on the last."""
LOOK_SECONDS = 0.02
"""The time between two looks of a person at what is asked."""
DECISIONS: Sequence[Mapping[str, Any]] = (
    {"decision": "approve"},
    {"decision": "approve", "always": True},
    {"decision": "edit", "args": {"command": "echo otherwise"}},
    {"decision": "reject"},
)
CUT_SECONDS = (0.02, 0.9)
"""When the server is cut short, after the first question."""
REST_SECONDS = 60.0
LAST = "the last"
MODULE = "tests.support.held_turns"
RESUMING = "HeldAgain"
LATER_COMMANDS = {Later.IN_TOOL: ONCE, Later.IN_TEXT: RISKY}
SETTINGS = {
    "runtime_class": NotingRuntimeBuilder,
    "confirmation_mode": True,
    "shutdown_seconds": 2,
}
EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 0}
MAY_END_WITH = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (0, EXIT_ENDED)}


@dataclass(slots=True)
class TurnFigures:
    """Figures of a run of rounds."""

    storage: str
    agent: str
    seed: int | None = None
    rounds: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        when = "at named moments" if self.seed is None else f"at random moments, seed {self.seed}"
        return f"{self.agent} over {self.storage}, {when}: {self.rounds} rounds, {counted}"


@dataclass(frozen=True)
class TurnServer:
    """A server with one of the agents, and the file in which its runtime notes what it carries out."""

    process: ServerProcess
    noted: Path
    figures: TurnFigures

    @property
    def url(self) -> str:
        """The server's address."""
        return self.process.url

    def effects(self, conversation_id: str) -> Counter[str]:
        """Return the effects carried out in a conversation, and how often."""
        return Counter(what for one, what in effects(self.noted) if one == conversation_id)


async def run_turn_rounds(
    folder: Path, seed: int, rounds: int, storage: str, agent: str
) -> TurnFigures:
    """Cut short at a random moment and compare, so often. Raises AssertionError."""
    random = choices(seed)
    async with _server(folder, TurnFigures(storage, agent, seed)) as server:
        for _ in range(rounds):
            await _random_round(server, random)
            server.figures.rounds += 1
    return server.figures


async def run_held_rounds(folder: Path, rounds: int, storage: str, agent: str) -> TurnFigures:
    """Cut short turns at each named moment and compare, by SIGKILL and SIGTERM in turn.

    Raises AssertionError.
    """
    async with _server(folder, TurnFigures(storage, agent)) as server:
        for number in range(rounds):
            await _held_round(server, signal.SIGTERM if number % 2 else signal.SIGKILL)
            server.figures.rounds += 1
    return server.figures


@asynccontextmanager
async def _server(folder: Path, figures: TurnFigures) -> AsyncIterator[TurnServer]:
    noted = folder / "effects"
    settings = SETTINGS | {"agent_class": f"{MODULE}:{figures.agent}"}
    variables = {EFFECTS: str(noted)}
    async with unlimited_server(folder / "data", figures.storage, variables, **settings) as process:
        yield TurnServer(process, noted, figures)


async def _random_round(server: TurnServer, random: Random) -> None:
    process, figures = server.process, server.figures
    async with remote(server.url) as api:
        created = await api.create_many(AT_ONCE)
        asking = [asyncio.create_task(_ask(api, one)) for one in created]
        # With choices of its own each: how many there are depends on the moment of the cut.
        people = [choices(random.randrange(2**31)) for _ in range(AT_ONCE + 1)]
        deciding = [
            asyncio.create_task(_decide(api, one, person, figures))
            for one, person in zip(created, people[1:], strict=True)
        ]
        await asyncio.sleep(random.uniform(*CUT_SECONDS))
        number = random.choice((signal.SIGKILL, signal.SIGTERM))
        code = await process.stop(number)
        # A stop that takes too long, on a machine without time for it, ends as a kill does.
        assert code in MAY_END_WITH[number]
        figures.counts[number.name if code == EXIT_CODES[number] else "too long a stop"] += 1
        asked = await asyncio.gather(*asking)
        await asyncio.gather(*deciding)
    await process.start()
    async with remote(server.url) as api:
        for conversation_id, acknowledged in zip(created, asked, strict=True):
            for approval in await pending(api, conversation_id):
                decision = people[0].choice(DECISIONS)
                answer = await decide(api, conversation_id, approval, **decision)
                assert answer.status_code == 200, answer.text
                figures.counts["decided later"] += 1
            # A turn that is begun again may ask again.
            deciding_on = asyncio.create_task(_decide(api, conversation_id, people[0], figures))
            await _rest(server.url, conversation_id)
            deciding_on.cancel()
            log = await api.log(conversation_id)
            _check(log, acknowledged, figures)
            _check_effects(server.effects(conversation_id))
            await api.delete(conversation_id)


async def _ask(api: Remote, conversation_id: str) -> dict[int, str]:
    """Send questions until the server is gone; those that were acknowledged, by id."""
    acknowledged: dict[int, str] = {}
    with contextlib.suppress(httpx.TransportError):
        for number in range(1, QUESTIONS + 1):
            text = f"{ASKS if number == QUESTIONS else 'question '}{number}"
            event_id = await _post(api, conversation_id, text)
            if event_id is None:
                break
            acknowledged[event_id] = text
    return acknowledged


async def _decide(api: Remote, conversation_id: str, random: Random, figures: TurnFigures) -> None:
    """Decide what is asked, until the server is gone."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            address = f"{CONVERSATIONS}/{conversation_id}/approvals"
            found = await api.client.get(address)
            for one in found.json()["approvals"] if found.status_code == 200 else ():
                answer = await decide(api, conversation_id, one["id"], **random.choice(DECISIONS))
                figures.counts["decided"] += answer.status_code == 200
            await asyncio.sleep(LOOK_SECONDS)


async def _post(api: Remote, conversation_id: str, text: str) -> int | None:
    """Send a message under its text as key; the id, None where the server is about to end."""
    answer = await api.say(conversation_id, text, text)
    return int(answer.json()["id"]) if answer.status_code == 200 else None


async def _held_round(server: TurnServer, number: signal.Signals) -> None:
    """Have a turn stay at each moment, and end the process between a message and its `recall`."""
    process, asked = server.process, dict[Moment, dict[int, str]]()
    async with remote(server.url) as api:
        later = await _ask_later(server, api)
        created = dict(zip(Moment, await api.create_many(len(Moment)), strict=True))
        for moment, conversation_id in created.items():
            if moment is not Moment.BEFORE_RECALL:
                asked[moment] = await _acknowledged(api, conversation_id, moment)
        await _until_asked(server.url, created[Moment.IN_APPROVAL], RISKY)
        await _until_asked(server.url, created[Moment.IN_APPROVED], ONCE)
        await _agree(api, created[Moment.IN_APPROVED])
        staying = {created[moment] for moment in STAYING}
        while staying:
            staying.remove(await _next_that_stays(process))
        first_of_two = Moment.FIRST_OF_TWO
        asked[first_of_two] |= await _acknowledged(api, created[first_of_two], "second")
        ending = await api.create()
        await api.post(ending, message(f"{END}{number.name}"))
        assert await _next_that_stays(process) == ending
        with contextlib.suppress(httpx.TransportError):
            await _post(api, created[Moment.BEFORE_RECALL], Moment.BEFORE_RECALL)
        assert await process.ended() == EXIT_CODES[number]
        server.figures.counts[number.name] += 1
    await process.start()
    async with remote(server.url) as api:
        # The server has it, whether or not it could still say so: the key tells.
        again = await _acknowledged(api, created[Moment.BEFORE_RECALL], Moment.BEFORE_RECALL)
        asked[Moment.BEFORE_RECALL] = again
        await _agree(api, created[Moment.IN_APPROVAL])
        await asyncio.gather(*(_rest(server.url, one) for one in created.values()))
        for moment, conversation_id in created.items():
            log = await api.log(conversation_id)
            _check_held(moment, log, asked[moment], server, conversation_id, number)
        for conversation_id in (*created.values(), ending):
            await api.delete(conversation_id)
    await _cut_again(server, later, number)


async def _ask_later(server: TurnServer, api: Remote) -> dict[Later, str]:
    """Have turns ask that stay once a decision has begun them again; their conversations."""
    later = [one for one in Later if one is Later.IN_TOOL or server.figures.agent == RESUMING]
    created = dict(zip(later, await api.create_many(len(later)), strict=True))
    for one, conversation_id in created.items():
        await _acknowledged(api, conversation_id, one)
        await _until_asked(server.url, conversation_id, LATER_COMMANDS[one])
    return created


async def _cut_again(
    server: TurnServer, created: Mapping[Later, str], number: signal.Signals
) -> None:
    """Agree to what was asked before the process ended, and end it while the turns of that stay."""
    process, figures = server.process, server.figures
    async with remote(server.url) as api:
        for conversation_id in created.values():
            await _agree(api, conversation_id)
        staying = set(created.values())
        while staying:
            staying.remove(await _next_that_stays(process))
        assert await process.stop(number) == EXIT_CODES[number]
    await process.start()
    async with remote(server.url) as api:
        for one, conversation_id in created.items():
            await _rest(server.url, conversation_id)
            log = await api.log(conversation_id)
            asked = {event["id"]: one for event in log if event.get("client_id") == one}
            assert len(asked) == 1
            _check(log, asked, figures)
            cut = "crashed" if number is signal.SIGKILL else "interrupted"
            assert outcomes(log)[:2] == ["waiting", cut], log
            assert bool(lost(log)) is (figures.agent != RESUMING), log
            done = server.effects(conversation_id)
            assert done[LATER_COMMANDS[one]] == 1, log
            _check_effects(done)
            await api.delete(conversation_id)


async def _acknowledged(api: Remote, conversation_id: str, text: str) -> dict[int, str]:
    event_id = await _post(api, conversation_id, text)
    assert event_id is not None
    return {event_id: text}


async def _next_that_stays(process: ServerProcess) -> str:
    word, _, conversation_id = (await process.line()).partition(" ")
    assert word == "stays"
    return conversation_id


async def _until_asked(url: str, conversation_id: str, command: str) -> None:
    async with joined(url, conversation_id) as client:
        await client.state(AgentState.AWAITING_USER_CONFIRMATION)
        await client.event(lambda event: event.get("args", {}).get("command") == command)


async def _agree(api: Remote, conversation_id: str) -> None:
    (approval,) = await pending(api, conversation_id)
    answer = await decide(api, conversation_id, approval)
    assert answer.status_code == 200, answer.text


async def _rest(url: str, conversation_id: str) -> None:
    """Open a conversation, and wait until its agent has answered what it was still asked."""
    async with joined(url, conversation_id) as client:
        said = await client.say(LAST)

        def rests(_: Any) -> bool:
            states = [
                event["extras"]["agent_state"]
                for event in client.events
                if event.get("observation") == "agent_state_changed" and event["id"] > said["id"]
            ]
            heard = any(_text(event).startswith(f"Answer to {LAST}") for event in client.events)
            return heard and states[-1:] == [AgentState.AWAITING_USER_INPUT]

        await client.until(rests, seconds=REST_SECONDS)


def _check_held(
    moment: Moment,
    log: list[dict[str, Any]],
    asked: Mapping[int, str],
    server: TurnServer,
    conversation_id: str,
    number: signal.Signals,
) -> None:
    """Compare the log of a turn that stayed at a moment. Raises AssertionError."""
    resumes, killed = server.figures.agent == RESUMING, number is signal.SIGKILL
    ended = outcomes(log)
    if moment is Moment.IN_APPROVAL:
        assert ended == ["waiting", "done", "done"], log
    elif moment is not Moment.BEFORE_RECALL:
        assert ended[0] == ("crashed" if killed else "interrupted"), log
    _check(log, asked, server.figures)
    answered = [event_id for event_id, text in asked.items() if _answers(log)[text]]
    told = [event_id for event_id in asked if lost(log).count(event_id)]
    if resumes:
        assert (answered, told) == (list(asked), []), log
    elif moment is Moment.AT_END:
        assert (answered, told) == (list(asked), list(asked)), log
    elif moment is not Moment.BEFORE_RECALL:
        assert told == list(asked)[:1], log
    elif killed:
        assert told == [], log
    done = server.effects(conversation_id)
    again = moment is Moment.IN_IDEMPOTENT_TOOL and killed
    _check_effects(done, twice=TWICE if again else None)
    carried_out = moment in (Moment.IN_TOOL, Moment.IN_OWN_ACTION, Moment.IN_APPROVED)
    assert (ONCE in done) == carried_out
    assert (RISKY in done) == (moment is Moment.IN_APPROVAL)


def _check_effects(done: Counter[str], twice: str | None = None) -> None:
    """Nothing was carried out twice but what may be."""
    assert {what: times for what, times in done.items() if times != 1} == (
        {} if twice is None else {twice: 2}
    )


def _check(log: list[dict[str, Any]], asked: Mapping[int, str], figures: TurnFigures) -> None:
    """Compare a log with what was acknowledged. Raises AssertionError."""
    assert [event["id"] for event in log] == list(range(len(log)))
    for unique in ("client_id", "partial"):
        named = Counter(event[unique] for event in log if event.get(unique) is not None)
        assert all(times == 1 for times in named.values()), named
    answers, told = _answers(log), Counter(lost(log))
    ended_by_people = _ended_by_people(log)
    for event_id, text in asked.items():
        assert log[event_id]["args"]["content"] == text
        # Of several messages of a turn one may be answered when the turn is cut short.
        assert answers[text] <= 1, (text, log)
        assert told[event_id] <= 1, (text, log)
        by_people = event_id in ended_by_people
        assert answers[text] + told[event_id] + by_people >= 1, (text, log)
        figures.counts["answered" if answers[text] else "told"] += 1
    closed = Counter(
        event.get("cause")
        for event in log
        if "observation" in event or event.get("action") in RUNNABLE
    )
    for event in log:
        if event.get("action") in RUNNABLE:
            assert closed[event["id"]] == 1, (event, log)
    ended = Counter(event["turn"] for event in ends(log))
    assert all(times == 1 for times in ended.values()), ended
    recalled = Counter(event.get("cause") for event in recalls(log))
    figures.counts["begun again"] += sum(times - 1 for times in recalled.values())


def _answers(log: list[dict[str, Any]]) -> Counter[str]:
    """Count the answers to messages, by their texts."""
    return Counter(
        _text(event).removeprefix("Answer to ").removesuffix(".")
        for event in log
        if event["source"] == "agent" and "interrupted" not in event
    )


def _ended_by_people(log: list[dict[str, Any]]) -> set[int]:
    """Messages whose turn had ended while it asked, and whose question somebody refused or wrote past."""
    found: set[int] = set()
    for event in log:
        cause = event.get("cause")
        question = {} if cause is None else log[cause]
        waits = question.get("args", {}).get("confirmation_state") == "awaiting_confirmation"
        refused = event.get("args", {}).get("confirmation_state") == "rejected"
        if waits and (refused or event.get("observation") == "error"):
            turn = question["turn"]
            found |= {one["cause"] for one in recalls(log) if turn in (one["id"], one.get("turn"))}
    return found


def _text(event: dict[str, Any]) -> str:
    return str(event.get("args", {}).get("content", "")) if event.get("action") == "message" else ""
