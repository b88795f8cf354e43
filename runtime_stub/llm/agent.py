"""LlmAgent: has a language model answer, and its calls carried out, until it calls nothing more."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import ClassVar

from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.tools import ToolDefinition

from events.actions import MessageAction
from runtime_stub.agent import Agent, Example
from runtime_stub.llm.calls import MOST_REPEATS, REPEATS, TOLD_REPEATS, Calls
from runtime_stub.llm.faults import EmptyAnswer, fault_of
from runtime_stub.llm.models import (
    Choice,
    NoModel,
    choose,
    context_tokens,
    model_settings,
    opened,
)
from runtime_stub.llm.requests import Answer, Requests, TooLong
from runtime_stub.llm.speech import Speech
from runtime_stub.llm.transcript import Note, Reader, bytes_of, read_transcript
from runtime_stub.llm.window import Window
from runtime_stub.turn import NOTICE, AgentSettings, Turn, TurnFailed

INSTRUCTIONS = """\
You are a capable assistant. You can use the tools that you are given: they work in a workspace of this
conversation alone. Use them where they help, and look at what came of a call before you go on. Answer in
Markdown, briefly, in the language of the user.
"""
LANGUAGE = """
The user's language is {}: answer in it, unless the user writes in another.
"""
BYTES_READ = 8
"""Bytes of a conversation that are read for each token of the context; the rest is forgotten."""
TRIAL = "Answer with the word OK."
TRIAL_SECONDS = 30.0


class LlmAgent(Agent):
    """Asks the model that the user has chosen, or else the server's.

    What the model is told follows from the log alone: a turn that is begun again, and every later
    one, tells it the same, whatever happened to the server in between.
    """

    resumes: ClassVar[bool] = True
    examples: ClassVar[Sequence[Example]] = (
        Example(title="Write a file", message="Write a haiku about the sea into haiku.txt."),
        Example(title="Look around", message="What is in the workspace?"),
    )

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        try:
            choice = choose(turn.settings, turn.user_id)
            async with opened(choice) as model:
                await _Work(turn, choice, model).do()
        except NoModel as error:
            async with turn.say() as said:
                said.metadata[NOTICE] = True
                said.write(str(error))

    @classmethod
    async def try_settings(cls, settings: AgentSettings) -> str:
        """See Agent: ask the model for a word."""
        try:
            choice = choose(settings)
            async with opened(choice) as model:
                return await _try(choice, model, settings)
        except NoModel as error:
            raise TurnFailed(str(error)) from error


class _Work:
    """One turn with one model."""

    def __init__(self, turn: Turn, choice: Choice, model: Model) -> None:
        self._turn = turn
        self._options = turn.settings.model_options
        self._instructions = _instructions(turn.settings)
        tools = [
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=dict(tool.schema),
            )
            for tool in turn.tools
        ]
        self._overhead = bytes_of(self._instructions) + sum(
            len(json.dumps(dict(tool.schema))) for tool in turn.tools
        )
        self._calls = Calls(turn)
        self._requests = Requests(
            turn,
            model,
            choice,
            self._options,
            context_tokens(choice, turn.settings),
            tools,
            model_settings(model, self._options),
        )

    async def do(self) -> None:
        """Answer, and carry out what the model calls, until it calls nothing more."""
        turn = self._turn
        waiting = [one for one in turn.cause if isinstance(one, MessageAction)] + [*turn.news()]
        room = self._requests.context_tokens * BYTES_READ
        transcript = await read_transcript(turn.history, waiting, room)
        window = Window(turn, transcript, self._requests, self._overhead)
        while True:
            answer, speech = await self._answer(window)
            transcript.entries += speech.events
            window.measure(answer.tokens)
            if answer.limit is not None:
                raise answer.limit
            if not answer.calls:
                return
            transcript.entries += await self._calls.carry_out(answer, speech)
            repeats = self._calls.repeats
            if repeats >= MOST_REPEATS:
                await self._calls.end_loop()
                return
            if repeats == TOLD_REPEATS:
                transcript.entries.append(Note(REPEATS.format(times=repeats)))
            transcript.entries += turn.news()

    async def _answer(self, window: Window) -> tuple[Answer, Speech]:
        """Have the model answer; a request that is too long is made shorter once."""
        try:
            await window.fit()
            return await self._ask(window)
        except TooLong as error:
            too_long = error.fault
        try:
            if await window.halve():
                return await self._ask(window)
        except TooLong as error:
            too_long = error.fault
        raise too_long.failure()

    async def _ask(self, window: Window) -> tuple[Answer, Speech]:
        model = self._requests.model
        reader = Reader(model.system, self._options.vision, model.model_name)
        messages = window.transcript.messages(self._instructions, reader)
        async with Speech(self._turn, show_reasoning=self._options.show_reasoning) as speech:
            answer = await self._requests.answer(messages, speech)
        return answer, speech


def _instructions(settings: AgentSettings) -> str:
    """Return the server's instructions or our own, and the user's language, if it is known."""
    text = settings.model_options.instructions or INSTRUCTIONS
    return text + LANGUAGE.format(settings.language) if settings.language else text


async def _try(choice: Choice, model: Model, settings: AgentSettings) -> str:
    """Have a model begin an answer, and return how that went. Raises TurnFailed."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(content=TRIAL)])]
    begun = time.monotonic()
    try:
        async with (
            asyncio.timeout(min(settings.model_options.first_token_seconds, TRIAL_SECONDS)),
            model_request_stream(
                model,
                messages,
                model_settings=model_settings(model, settings.model_options),
                instrument=False,
            ) as stream,
        ):
            first = await anext(aiter(stream), None)
    except Exception as error:
        raise fault_of(error, choice.name).failure() from error
    if first is None:
        raise fault_of(EmptyAnswer(), choice.name).failure()
    return f"{choice.name} answered after {time.monotonic() - begun:.1f} s."
