"""Cases of what a model's provider does, each tried on a server, and what the server wrote."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx

from events.event import AgentState
from runtime_stub.turn import Reason
from tests.support import model_endpoint as words
from tests.support.model_endpoint import (
    PLANTED,
    PLANTED_BODY,
    PLANTED_HEADER,
    Answer,
    model_endpoint,
)
from tests.support.payloads import Payload, is_answer, is_state
from tests.support.remote import Remote
from tests.support.servers import server_process
from tests.support.sse import Frame, SseView, sse_frames

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
NEVER_WRITTEN = (PLANTED, PLANTED_BODY, PLANTED_HEADER, KEY)
"""Texts of the provider's, and a key, that must be nowhere."""
ENDS = (AgentState.AWAITING_USER_INPUT, AgentState.ERROR)
AGAIN = words.plain("At the second try.")


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
    provider: str = "openai"


def done(answer: Answer, *texts: str, requests: int = 1) -> Case:
    """An answer that is as good as any."""
    return Case([answer], texts, requests=requests)


def passes(answer: Answer) -> Case:
    """A fault that is gone at the next request."""
    return Case([answer, AGAIN])


def stays(answer: Answer, reason: Reason, *, requests: int = 2, cut: Sequence[str] = ()) -> Case:
    """A fault that ends the turn."""
    return Case([answer] * requests, (), reason, cut, requests)


BEGUN = "Good morning to "
FAULTS: Mapping[str, Case] = {
    "split inside a character": done(words.split_characters("Größe: 1 €"), "Größe: 1 €"),
    "no usage": done(words.plain("Good morning.", usage=False), "Good morning."),
    "hang after 3 once": passes(words.hang(3)),
    "429 once": passes(words.refused(429, "rate_limit", **{"Retry-After": "1"})),
    "429": stays(words.refused(429, **{"Retry-After": "0"}), Reason.MODEL_BUSY),
    "429 for an hour": stays(
        words.refused(429, **{"Retry-After": "3600"}), Reason.MODEL_BUSY, requests=1
    ),
    "503": stays(words.refused(503, "overloaded"), Reason.MODEL_BUSY),
    "no credit": stays(words.refused(429, "insufficient_quota"), Reason.MODEL_FAILED, requests=1),
    "500 once": passes(words.refused(500)),
    "500": stays(words.refused(500), Reason.MODEL_FAILED),
    "401": stays(words.refused(401), Reason.MODEL_REFUSED_KEY, requests=1),
    "403": stays(words.refused(403), Reason.MODEL_FAILED, requests=1),
    "403 for the key": stays(
        words.refused(403, "invalid_api_key"), Reason.MODEL_REFUSED_KEY, requests=1
    ),
    "404": stays(words.refused(404), Reason.MODEL_FAILED, requests=1),
    "400 length": stays(
        words.refused(400, "context_length_exceeded"), Reason.CONTEXT_TOO_LONG, requests=1
    ),
    "400": stays(words.refused(400, "invalid"), Reason.MODEL_FAILED, requests=1),
    "cut before the first token": passes(words.cut(0)),
    "cut after 3": stays(words.cut(3), Reason.MODEL_UNREACHABLE, cut=[BEGUN]),
    "half a frame": passes(words.half_a_frame()),
    "an error in the stream once": passes(words.error_in_stream(3)),
    "an error in the stream": stays(words.error_in_stream(3), Reason.MODEL_FAILED, cut=[BEGUN]),
    "compressed": stays(words.compressed(), Reason.MODEL_FAILED, requests=1),
    "empty once": passes(words.empty()),
    "empty": stays(words.empty(), Reason.MODEL_FAILED),
    "declined": stays(words.declined(), Reason.MODEL_FAILED, requests=1),
    "garbage arguments once": passes(words.garbage_arguments()),
    "unknown tool once": passes(words.unknown_tool()),
    "unknown tool": stays(words.unknown_tool(), Reason.MODEL_FAILED, requests=3),
}
"""What any provider may do, whichever its interface, and what comes of it."""


class Watch:
    """A person who follows a conversation, and knows what is shown."""

    def __init__(self) -> None:
        self.view = SseView()
        self.told: list[str] = []
        self._known: set[str] = set()
        self._changed = asyncio.Condition()

    async def follow(self, frames: AsyncIterator[Frame]) -> Payload:
        """Follow until the turn is at its end; the state then."""
        async for frame in frames:
            async with self._changed:
                self.view.take(frame)
                self.told.append(str(frame))
                self._changed.notify_all()
            if frame.name == "event" and self._is_end(frame.data):
                return cast("Payload", frame.data)
        raise AssertionError("the stream ended")

    async def begun(self) -> None:
        """Wait until an event is shown, from when on no notice is missed."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.view.events)

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
    told: list[str]
    """All that a client was sent meanwhile: events, pieces and notices."""

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
        return [one for one in self.endpoint.requests if one.model == model]

    async def _answer(self, reply: words.Reply) -> None:
        await self.watches[reply.request.model].begun()
        answers = self.answers[reply.request.model]
        await (answers.popleft() if answers else AGAIN)(reply)

    async def _shown(self, reply: words.Reply) -> None:
        await self.watches[reply.request.model].shown()


async def outcome_of(url: str, provider: Provider, model: str, case: Case) -> Outcome:
    """Have the agent answer a message while the provider does what the case says."""
    provider.answers[model] = deque(case.answers)
    watch = provider.watches[model] = Watch()
    chosen = {
        "llm_base_url": provider.endpoint.url_of(case.provider),
        "llm_model": f"{case.provider}:{model}",
        "llm_api_key": KEY,
    }
    headers = {"x-forwarded-user": model}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        answer = await client.post("/api/settings", json=chosen)
        assert answer.status_code == 200, answer.text
        api = Remote(client)
        created = await api.create("Hello")
        async with asyncio.timeout(90), sse_frames(url, created, client=client) as frames:
            end = await watch.follow(frames)
        notices = [str(one) for one in watch.view.notices]
        log = await api.log(created)
        return Outcome(log, provider.requests(model), end, notices, watch.told)


@dataclass
class Run:
    """Every case on one server, each for a user of its own; and all that the server wrote."""

    outcomes: dict[str, Outcome]
    written: bytes
    """All that is in the data directory."""
    printed: bytes
    """The server's log and output."""
    counted: str
    """Its figures."""

    def holding(self, planted: str) -> list[str]:
        """The places in which a text is found."""
        told = {
            "log of events": [str(one.log) for one in self.outcomes.values()],
            "what clients were sent": [text for one in self.outcomes.values() for text in one.told],
            "data directory": [self.written.decode("latin-1")],
            "log of the server": [self.printed.decode("latin-1")],
            "figures": [self.counted],
        }
        return [place for place, texts in told.items() if any(planted in text for text in texts)]


async def run_cases(folder: Path, cases: Mapping[str, Case], storage: str = "sqlite") -> Run:
    """Try every case on one server with this storage."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with (
        model_endpoint() as endpoint,
        server_process(
            folder, "--storage", storage, environment=SETTINGS, log_bytes=2**30
        ) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        provider = Provider(endpoint)

        async def of_case(number: int, case: Case) -> Outcome:
            async with gate:
                return await outcome_of(server.url, provider, f"model-{number}", case)

        tasks = [of_case(number, case) for number, case in enumerate(cases.values())]
        outcomes = dict(zip(cases, await asyncio.gather(*tasks), strict=True))
        counted = (await client.get("/metrics")).text
        await server.stop()
        files = await asyncio.to_thread(lambda: [*folder.rglob("*")])
        written = b"".join(path.read_bytes() for path in files if path.is_file())
        printed = server.stderr + (await server.printed()).encode()
        return Run(outcomes, written, printed, counted)
