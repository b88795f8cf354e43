"""Whatever a model's provider does, the turn ends in the reason for it or goes on; and quotes nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

import httpx
import pytest
import pytest_asyncio

from events.event import AgentState
from runtime_stub.turn import Reason
from tests.support import model_endpoint as words
from tests.support.model_endpoint import PLANTED, PLANTED_HEADER, Answer, model_endpoint
from tests.support.payloads import Payload, is_answer, is_state
from tests.support.remote import Remote
from tests.support.servers import server_process
from tests.support.sse import Frame, SseView, sse_frames

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-the-users-own-key-424242"
SECONDS = 5
"""Seconds that the model may be silent."""
SETTINGS = {
    "PARLEY_AGENT_CLASS": "llm",
    "PARLEY_LLM_TRIES": "2",
    "PARLEY_LLM_FIRST_TOKEN_SECONDS": str(SECONDS),
    "PARLEY_LLM_TOKEN_SECONDS": str(SECONDS),
    "PARLEY_LOG_LEVEL": "debug",
    "PARLEY_USER_AUTH_CLASS": "tests.support.extensions:HeaderAuth",
}
AT_ONCE = 10
"""Cases that are tried at the same time."""
ENDS = (AgentState.AWAITING_USER_INPUT, AgentState.ERROR)
AGAIN = words.plain("At the second try.")
LOOP = (
    "I have done the same thing 6 times, each time with the same result, and stopped."
    " How shall I go on?"
)
LONG = "word " * 5_000


@dataclass(frozen=True)
class Case:
    """The answers of the provider, and what comes of them."""

    answers: Sequence[Answer]
    says: Sequence[str] = ("At the second try.",)
    """The texts that are whole."""
    reason: Reason | str = ""
    cut: Sequence[str] = ()
    """The texts that were cut short, and kept."""
    requests: int = 2


def done(answer: Answer, *texts: str, requests: int = 1) -> Case:
    """An answer that is as good as any."""
    return Case([answer], texts, requests=requests)


def passes(answer: Answer) -> Case:
    """A fault that is gone at the next request."""
    return Case([answer, AGAIN])


def stays(answer: Answer, reason: Reason, *, requests: int = 2, cut: Sequence[str] = ()) -> Case:
    """A fault that ends the turn."""
    return Case([answer] * requests, (), reason, cut, requests)


RUN = ("run", '{"command": "echo one"}')
READ = ("run", '{"command": "echo two"}')
BEGUN = "Good morning to "
CASES = {
    "plain": done(words.plain("Good morning."), "Good morning."),
    "no usage": done(words.plain("Good morning.", usage=False), "Good morning."),
    "split inside a character": done(words.split_characters("Größe: 1 €"), "Größe: 1 €"),
    "huge": done(words.plain(LONG), LONG),
    "reasoning": done(words.reasoning("Let me see.", "Yes."), "Yes."),
    "hang once": passes(words.hang()),
    "hang": stays(words.hang(), Reason.MODEL_UNREACHABLE),
    "hang after 3 once": passes(words.hang(3)),
    "hang after 3": stays(words.hang(3), Reason.MODEL_UNREACHABLE, cut=[BEGUN]),
    "429 once": passes(words.refused(429, "rate_limit", **{"Retry-After": "1"})),
    "429": stays(words.refused(429, **{"Retry-After": "0"}), Reason.MODEL_BUSY),
    "429 for an hour": stays(
        words.refused(429, **{"Retry-After": "3600"}), Reason.MODEL_BUSY, requests=1
    ),
    "no credit": stays(words.refused(429, "insufficient_quota"), Reason.MODEL_FAILED, requests=1),
    "500 once": passes(words.refused(500)),
    "500": stays(words.refused(500), Reason.MODEL_FAILED),
    "503": stays(words.refused(503), Reason.MODEL_BUSY),
    "401": stays(words.refused(401), Reason.MODEL_REFUSED_KEY, requests=1),
    "403": stays(words.refused(403), Reason.MODEL_REFUSED_KEY, requests=1),
    "404": stays(words.refused(404), Reason.MODEL_FAILED, requests=1),
    "400 length": stays(
        words.refused(400, "context_length_exceeded"), Reason.CONTEXT_TOO_LONG, requests=1
    ),
    "400": stays(words.refused(400, "invalid"), Reason.MODEL_FAILED, requests=1),
    "cut before the first token": passes(words.cut(0)),
    "cut after 3 once": passes(words.cut(3)),
    "cut after 3": stays(words.cut(3), Reason.MODEL_UNREACHABLE, cut=[BEGUN]),
    "half a frame": passes(words.half_a_frame()),
    "an error in the stream once": passes(words.error_in_stream(3)),
    "an error in the stream": stays(words.error_in_stream(3), Reason.MODEL_FAILED, cut=[BEGUN]),
    "no model": stays(words.no_model(), Reason.MODEL_FAILED, requests=1),
    "empty once": passes(words.empty()),
    "empty": stays(words.empty(), Reason.MODEL_FAILED),
    "garbage arguments once": passes(words.garbage_arguments()),
    "garbage arguments": stays(words.garbage_arguments(), Reason.MODEL_FAILED, requests=3),
    "unknown tool once": passes(words.unknown_tool()),
    "unknown tool": stays(words.unknown_tool(), Reason.MODEL_FAILED, requests=3),
    "two calls at once": passes(words.calls(RUN, READ)),
    "loop": Case(
        [words.calls(RUN)] * 6,
        [LOOP],
        requests=6,
    ),
}


class Watch:
    """A person who follows a conversation, and knows what is shown."""

    def __init__(self) -> None:
        self.view = SseView()
        self._known: set[str] = set()
        self._changed = asyncio.Condition()

    async def follow(self, frames: AsyncIterator[Frame]) -> Payload:
        """Follow until the turn is at its end; the state then."""
        async for frame in frames:
            async with self._changed:
                self.view.take(frame)
                self._changed.notify_all()
            if frame.name == "event" and self._is_end(frame.data):
                return cast("Payload", frame.data)
        raise AssertionError("the stream ended")

    async def shown(self) -> None:
        """Wait until a further text is shown."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.view.held.keys() - self._known)
        self._known |= self.view.held.keys()

    def _is_end(self, event: Payload) -> bool:
        ended = any(one.get("observation") == "turn_ended" for one in self.view.events)
        return ended and is_state(event) and event["extras"]["agent_state"] in ENDS


@dataclass
class Outcome:
    """The outcome of a turn in the log, and the requests that the provider saw."""

    log: list[Payload]
    requests: list[words.ModelRequest]
    end: Payload
    notices: list[str]

    def texts(self, *, interrupted: bool) -> list[str]:
        """The agent's texts."""
        found = [one for one in self.log if is_answer(one)]
        return [one["args"]["content"] for one in found if ("interrupted" in one) is interrupted]

    @property
    def reason(self) -> str:
        """The reason of the last state."""
        return str(self.end["extras"]["reason"])


class Provider:
    """Answers each model's requests by the answers of its case."""

    def __init__(self, endpoint: words.ModelEndpoint) -> None:
        self.endpoint = endpoint
        self.answers: dict[str, deque[Answer]] = {}
        self.watches: dict[str, Watch] = {}
        endpoint.otherwise = self._answer
        endpoint.before_fault = self._shown

    def requests(self, model: str) -> list[words.ModelRequest]:
        """The requests to a model."""
        return [one for one in self.endpoint.requests if one.body["model"] == model]

    async def _answer(self, reply: words.Reply) -> None:
        answers = self.answers[reply.request.body["model"]]
        await (answers.popleft() if answers else AGAIN)(reply)

    async def _shown(self, reply: words.Reply) -> None:
        await self.watches[reply.request.body["model"]].shown()


async def outcome_of(url: str, provider: Provider, model: str, case: Case) -> Outcome:
    """Have the agent answer a message while the provider does what the case says."""
    provider.answers[model] = deque(case.answers)
    watch = provider.watches[model] = Watch()
    chosen = {"llm_base_url": provider.endpoint.url, "llm_model": model, "llm_api_key": KEY}
    headers = {"x-forwarded-user": model}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        answer = await client.post("/api/settings", json=chosen)
        assert answer.status_code == 200, answer.text
        api = Remote(client)
        created = await api.create("Hello")
        async with asyncio.timeout(90), sse_frames(url, created, client=client) as frames:
            end = await watch.follow(frames)
        notices = [str(one) for one in watch.view.notices]
        return Outcome(await api.log(created), provider.requests(model), end, notices)


@dataclass
class Run:
    """Every case on one server, each for a user of its own; and all that the server wrote."""

    outcomes: dict[str, Outcome]
    written: bytes
    printed: bytes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("server")
    gate = asyncio.Semaphore(AT_ONCE)
    async with (
        model_endpoint() as endpoint,
        server_process(folder, environment=SETTINGS) as server,
    ):
        provider = Provider(endpoint)

        async def of_case(number: int, case: Case) -> Outcome:
            async with gate:
                return await outcome_of(server.url, provider, f"model-{number}", case)

        tasks = [of_case(number, case) for number, case in enumerate(CASES.values())]
        outcomes = dict(zip(CASES, await asyncio.gather(*tasks), strict=True))
        await server.stop()
        files = await asyncio.to_thread(lambda: [*folder.rglob("*")])
        written = b"".join(path.read_bytes() for path in files if path.is_file())
        return Run(outcomes, written, server.stderr)


@pytest.mark.parametrize("name", CASES)
async def test_a_turn_recovers_from_what_the_provider_does_or_ends_in_the_reason_for_it(run, name):
    case, outcome = CASES[name], run.outcomes[name]

    assert outcome.texts(interrupted=False) == list(case.says)
    assert outcome.texts(interrupted=True) == list(case.cut)
    assert outcome.reason == case.reason
    assert len(outcome.requests) == case.requests


async def test_nothing_that_a_provider_sends_in_an_error_is_written_or_logged(run):
    for planted in (PLANTED, PLANTED_HEADER, KEY):
        assert planted.encode() not in run.written
        assert planted.encode() not in run.printed
        assert all(planted not in str(outcome.log) for outcome in run.outcomes.values())


async def test_a_provider_that_names_a_time_is_asked_again_after_it_and_people_are_told(run):
    outcome = run.outcomes["429 once"]
    first, second = outcome.requests

    assert second.came_at - first.came_at >= 1.0
    assert any("The model is busy; trying again in 1 s." in one for one in outcome.notices)


async def test_a_call_that_no_tool_takes_is_answered_to_the_model(run):
    unknown = run.outcomes["unknown tool once"].requests[1].messages[-1]
    garbage = run.outcomes["garbage arguments once"].requests[1].messages[-1]

    assert (unknown["role"], garbage["role"]) == ("tool", "tool")
    assert unknown["content"].startswith("There is no tool teleport. There are: ")
    assert garbage["content"] == "The arguments of run were no JSON object. Call it again."


async def test_two_calls_at_once_are_both_carried_out_and_answered_in_their_order(run):
    second = run.outcomes["two calls at once"].requests[1]

    assert [one["content"] for one in second.messages if one["role"] == "tool"] == ["one", "two"]


async def test_a_model_that_repeats_itself_is_told_so_before_its_turn_ends(run):
    requests = run.outcomes["loop"].requests
    hints = [one.messages[-1]["content"] for one in requests if one.messages[-1]["role"] == "user"]

    assert hints[1] == (
        "You have done this 4 times, each time with the same result. Do something else."
    )
    kinds = [one.get("observation") for one in run.outcomes["loop"].log]
    assert kinds.count("loop_detection") == 1


async def test_a_stream_without_usage_is_counted_by_its_characters_and_marked(run):
    counted, reported = (
        [one["llm_metrics"] for one in run.outcomes[name].log if "llm_metrics" in one][-1]
        for name in ("no usage", "plain")
    )

    assert counted["estimated"] is True
    assert counted["accumulated_token_usage"]["completion_tokens"] == len("Good morning.") // 3.5
    assert "estimated" not in reported
    assert reported["accumulated_token_usage"]["completion_tokens"] == 7


async def test_what_a_model_thinks_is_shown_as_a_thought(run):
    thoughts = [
        one["args"]["thought"]
        for one in run.outcomes["reasoning"].log
        if one.get("action") == "think"
    ]
    assert thoughts == ["Let me see."]
