"""Whatever a log holds, each provider accepts the messages that are made of it: its fake refuses what it refuses."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from hypothesis import event, given, settings, strategies as st
from pydantic import SecretStr
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelRequest, ModelResponse
from pydantic_ai.models import Model

from events.actions import (
    AgentFinishAction,
    AgentRejectAction,
    AgentThinkAction,
    CmdRunAction,
    CondensationAction,
    FileEditAction,
    MCPAction,
    MessageAction,
    RecallAction,
)
from events.event import ConfirmationState, Event, EventSource, Interruption, RecallType
from events.observations import (
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    NullObservation,
    UserRejectObservation,
)
from runtime_stub.conformance.agent import HistoryDouble
from runtime_stub.llm.models import Choice, opened
from runtime_stub.llm.transcript import BadCall, Note, Reader, read_transcript
from tests.support.model_endpoint import ModelEndpoint, ModelRequest as Asked, model_endpoint
from tests.support.model_wires import WIRES, signature

USER, AGENT = EventSource.USER, EventSource.AGENT
NAMES = {**dict.fromkeys(WIRES, "model-x"), "mistral": "mistral-x", "deepseek": "deepseek-v4-x"}
"""The models that are asked: one of each interface, and those that are stricter than OpenAI's."""
KEY = SecretStr("sk-1")
texts = st.sampled_from(["", " ", "\n\t", "Hello", "Größe 🙂", "x" * 300])
ids = st.sampled_from(["call-0", "call-1", "functions.run:0", "", "é", "y" * 90, "event-3"])
names = st.sampled_from(["run", "teleport", "functions.run", "", "a tool", "z" * 99])
pictures = st.sampled_from(
    [
        "data:image/png;base64,iVBORw0KGgo=",
        "data:image/gif;base64,R0lGODlh",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png;base64,",
        "data:image/png;base64,%%",
        "http://127.0.0.1:9/a.png",
        "file:///etc/passwd",
    ]
)
signed = st.sampled_from(
    [
        None,
        *(
            {"signature": signature(one), "provider_name": one}
            for one in ("openai", "anthropic", "google")
        ),
        {"signature": signature("r"), "provider_name": "anthropic", "id": "redacted_thinking"},
        {"provider_name": "google", "provider_details": {"thought_signature": signature("g")}},
        "no signature at all",
    ]
)


@st.composite
def metadata(draw):
    """The metadata of a text or a thought."""
    found = {"thinking": draw(signed)}
    if draw(st.booleans()):
        found["thoughts"] = draw(st.lists(signed.filter(lambda one: one != {}), max_size=2))
    return found if draw(st.booleans()) else None


def users(text, urls):
    return [MessageAction(content=text, source=USER, image_urls=urls)]


def taken(cause):
    return [RecallAction(recall_type=RecallType.KNOWLEDGE, cause=cause, source=USER)]


def said(text, cut, more):
    changes = {"interrupted": cut, "tool_call_metadata": more}
    return [MessageAction(content=text, source=AGENT, **changes)]


def thought(text, more):
    return [AgentThinkAction(thought=text, source=AGENT, tool_call_metadata=more)]


def ended(ending):
    return [ending(source=AGENT)]


def summary(first, last, text):
    return [
        CondensationAction(
            forgotten_events_start_id=min(first, last),
            forgotten_events_end_id=last,
            summary=text,
            summary_offset=0,
        )
    ]


@st.composite
def called_at_once(draw):
    response = draw(st.none() | st.sampled_from(["r1", "r2"]))
    return draw(st.lists(calls(response), min_size=1, max_size=3))


def steps(log):
    """The next events of a log: those of a step."""
    earlier = st.integers(0, max(0, len(log) - 1))
    cuts = st.none() | st.sampled_from(Interruption)
    return st.one_of(
        st.builds(users, texts, st.none() | st.lists(pictures, max_size=3)),
        st.builds(taken, earlier),
        st.builds(said, texts, cuts, metadata()),
        st.builds(thought, texts, metadata()),
        called_at_once(),
        st.builds(lambda one: [one], results(earlier)),
        st.builds(ended, st.sampled_from([AgentFinishAction, AgentRejectAction])),
        st.builds(summary, earlier, earlier, texts),
        st.builds(
            lambda place, refused: agreed(log, place, refused=refused), earlier, st.booleans()
        ),
    )


@st.composite
def calls(draw, response):
    """An action that a model called, or an agent without one."""
    action = draw(
        st.sampled_from(
            [
                CmdRunAction(command="ls"),
                CmdRunAction(command=""),
                FileEditAction(path="a", command="view"),
                MCPAction(name="clock", arguments={}),
            ]
        )
    )
    called = {"function_name": draw(names), "tool_call_id": draw(ids), "total_calls_in_response": 1}
    called["model_response"] = {"id": response, "thinking": draw(signed)} if response else {}
    if response and draw(st.booleans()):
        called["model_response"]["thoughts"] = draw(st.lists(signed, max_size=2))
    made = draw(st.sampled_from([None, called]))
    return action.model_copy(update={"source": AGENT, "tool_call_metadata": made})


def results(earlier):
    """An observation of something before it."""
    output = st.builds(
        lambda content, code, cause: CmdOutputObservation(
            content=content,
            command="",
            metadata=CmdOutputMetadata(exit_code=code),
            cause=cause,
            source=AGENT,
        ),
        texts,
        st.integers(-1, 2),
        earlier,
    )
    others = st.builds(
        lambda kind, content, cause: kind(content=content, cause=cause, source=AGENT),
        st.sampled_from([ErrorObservation, NullObservation, UserRejectObservation]),
        texts,
        earlier,
    )
    return output | others


def agreed(log, place, *, refused):
    """An action in the form a person has agreed to, or the word that he has not."""
    asked = log[place] if log else None
    if not isinstance(asked, CmdRunAction):
        return []
    if refused:
        return [UserRejectObservation(content="No.", cause=place, source=AGENT)]
    state = ConfirmationState.CONFIRMED
    changes = {"cause": place, "confirmation_state": state, "command": "ls -l", "edited_by": "ann"}
    return [asked.model_copy(update=changes)]


@st.composite
def logs(draw):
    """A log of any events, in any order."""
    log: list[Event] = []
    for _ in range(draw(st.integers(0, 14))):
        for one in draw(steps(log)):
            log.append(one.model_copy(update={"id": len(log)}))
    return log


notes = st.lists(
    st.builds(Note, st.just("Do something else."))
    | st.builds(
        BadCall,
        response=st.sampled_from(["r1", "r2"]),
        id=ids,
        name=names,
        arguments=st.just({}),
        told=st.just("There is no such tool."),
        signed=st.builds(lambda one: {"thinking": one, "thoughts": [one]}, signed),
    ),
    max_size=3,
)


class Providers:
    """The three models, open, and the fake that answers for all of them."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.endpoint: ModelEndpoint
        self._runner = runner
        self._stack = AsyncExitStack()
        self._models: dict[str, Model] = {}

    def open(self) -> None:
        """Open them."""
        self._runner.run(self._open())

    def close(self) -> None:
        """Close them."""
        self._runner.run(self._stack.aclose())

    def ask(self, provider, log, entries, *, vision):
        """Ask a model with what is told of a log; the messages, and the request as it arrived."""
        return self._runner.run(self._ask(provider, log, entries, vision=vision))

    async def _open(self) -> None:
        self.endpoint = await self._stack.enter_async_context(model_endpoint())
        for name, asked in NAMES.items():
            provider = name if name in WIRES else "openai"
            choice = Choice(provider, asked, self.endpoint.url_of(provider), KEY)
            self._models[name] = await self._stack.enter_async_context(opened(choice))

    async def _ask(self, provider, log, entries, *, vision):
        model = self._models[provider]
        transcript = await read_transcript(HistoryDouble(log), [], 10**6)
        transcript.entries += entries
        reader = Reader(model.system, vision, model.model_name)
        messages = transcript.messages("Be brief.", reader)
        async with model_request_stream(model, list(messages), instrument=False) as stream:
            async for _ in stream:
                pass
        return messages, self.endpoint.requests.pop()


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    """They stay open for all examples."""
    with asyncio.Runner() as runner:
        opened_for_all = Providers(runner)
        opened_for_all.open()
        yield opened_for_all
        opened_for_all.close()


@settings(max_examples=40)
@given(log=logs(), more=notes, vision=st.booleans())
@pytest.mark.parametrize("provider", NAMES)
def test_each_provider_accepts_what_it_is_told_of_any_log(providers, provider, log, more, vision):
    messages, asked = providers.ask(provider, log, more, vision=vision)

    assert providers.endpoint.faults == []
    kinds = [ModelRequest, ModelResponse] * len(messages)
    assert [type(one) for one in messages] == kinds[: len(messages)]
    assert isinstance(messages[-1], ModelRequest)
    check(asked, vision=vision)
    event(f"{min(len(messages) // 2, 4)} answers")


def check(asked: Asked, *, vision: bool) -> None:
    """No text is empty, every call has its result, and a picture is for those who see."""
    told = asked.told
    assert all(one.text.strip() for one in told if one.who in ("user", "assistant", "result"))
    assert [one.who for one in told].count("call") == [one.who for one in told].count("result")
    if not vision:
        assert [one for one in told if one.who == "picture"] == []
    assert not any("/etc/passwd" in one.text for one in told)
    for one, after in pairwise(told):
        assert (one.who, after.who) != ("call", "user")
