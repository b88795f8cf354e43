"""Requests to a model: streamed, repeated where that may help, their usage reported."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from events.errors import EventsError
from runtime_stub.errors import RuntimeFloorError
from runtime_stub.llm.faults import Declined, EmptyAnswer, Fault, fault_of
from runtime_stub.llm.models import Choice, wants_thoughts
from runtime_stub.llm.speech import Gathered
from runtime_stub.llm.transcript import MODEL, SIGNATURE, bytes_of
from runtime_stub.turn import LimitReached, ModelOptions, Reason, Turn, TurnOver, Usage

BYTES_OF_A_TOKEN = 3.5
"""Bytes, not characters: a word of Chinese has as many tokens as one of English, in fewer characters."""
FIRST_WAIT = 0.5
"""Seconds before the first repetition, at most; before each further one twice as many."""
ORDERED = frozenset(("anthropic",))
"""Providers that want to see their thoughts again in the place where they were."""
UNSIGNED = "reasoning_content"
"""The field of thoughts that some providers want back without having signed them."""
THOUGHT_SIGNATURE = "thought_signature"
"""The detail of a text or a call that Google has signed."""
TROUBLES = {
    Reason.MODEL_BUSY: "The model is busy",
    Reason.MODEL_UNREACHABLE: "The model cannot be reached",
}


class TooLong(RuntimeFloorError):
    """The request is longer than the model takes."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


@dataclass(slots=True)
class Answer:
    """A model's answer without its texts: its calls, and the tokens of request and answer.

    `signed` is what the provider has signed of each call, in their order. `limit` is the limit that the
    answer's usage has reached; it ends the turn once the texts are told.
    """

    calls: Sequence[ToolCallPart] = ()
    signed: Sequence[dict[str, Any]] = ()
    tokens: int = 0
    limit: LimitReached | None = None


@dataclass(slots=True)
class Requests:
    """The requests of one turn to one model."""

    turn: Turn
    model: Model
    choice: Choice
    options: ModelOptions
    context_tokens: int
    tools: Sequence[ToolDefinition] = ()
    settings: ModelSettings = field(default_factory=ModelSettings)

    async def answer(self, messages: Sequence[ModelMessage], heard: Gathered) -> Answer:
        """Have the model answer; its texts go to `heard` as they come.

        A request whose answer has not begun is repeated where that may help. An answer that breaks
        off is taken back and asked for again, once. Raises TooLong, TurnFailed, and LimitReached
        for a limit that is reached before there is an answer.
        """
        failed, taken_back = 0, False
        while True:
            try:
                return await self._stream(list(messages), heard)
            except (RuntimeFloorError, EventsError):
                raise
            except Exception as error:
                fault = fault_of(error, self.choice.name)
                failed += 1
                if heard.begun or heard.ended:
                    may_repeat = fault.passes and not taken_back and not heard.ended
                    taken_back = True
                else:
                    may_repeat = fault.passes and failed < self.options.tries
                if not may_repeat:
                    raise (TooLong(fault) if fault.too_long else fault.failure()) from error
            await self._wait(fault, failed, heard)

    async def _wait(self, fault: Fault, failed: int, heard: Gathered) -> None:
        """Take back what was shown, say what is wrong, and wait before the next request."""
        seconds = fault.wait
        if seconds is None:
            seconds = FIRST_WAIT * 2.0 ** (failed - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        trouble = TROUBLES.get(fault.reason, "The model failed")
        if heard.begun:
            trouble = "The answer broke off"
        # What nobody was shown goes as well: thoughts without words, and the beginning of a summary.
        await heard.begin_anew(fault.text)
        self.turn.status(f"{trouble}; trying again in {max(1, round(seconds))} s.")
        await asyncio.sleep(seconds)

    async def _stream(self, messages: list[ModelMessage], heard: Gathered) -> Answer:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.options.first_token_seconds
        async with AsyncExitStack() as stack:
            async with asyncio.timeout_at(due):
                stream = await stack.enter_async_context(self._request(messages))
            events = aiter(stream)
            try:
                async with asyncio.timeout_at(due):
                    event = await anext(events, None)
                while event is not None:
                    await _hear(event, heard, self.model)
                    async with asyncio.timeout(self._pause_after(event)):
                        event = await anext(events, None)
            except BaseException:
                if heard.begun:
                    # What was answered has to be paid all the same.
                    with suppress(TurnOver, LimitReached):
                        self._report(stream.get(), messages)
                raise
            response = stream.get()
        calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
        answer = Answer(calls, [_signed(call, self.model.system) for call in calls])
        try:
            answer.tokens = self._report(response, messages)
        except LimitReached as error:
            answer.limit = error
        if not calls and not heard.text.strip():
            is_declined = response.finish_reason == "content_filter"
            raise answer.limit or (Declined if is_declined else EmptyAnswer)
        return answer

    def _pause_after(self, event: ModelResponseStreamEvent) -> float:
        """Return the seconds that a model may be silent then: longer where it thinks without a word."""
        match event:
            case PartStartEvent(part=ThinkingPart(content="")):
                return self.options.first_token_seconds
            case _:
                return self.options.token_seconds

    def _request(
        self, messages: list[ModelMessage]
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        return model_request_stream(
            self.model,
            messages,
            model_settings=self.settings,
            model_request_parameters=ModelRequestParameters(function_tools=list(self.tools)),
            instrument=False,
        )

    def _report(self, response: ModelResponse, messages: Sequence[ModelMessage]) -> int:
        """Report what a request used, and return its tokens. Raises LimitReached."""
        used = response.usage
        prompt, completion = used.input_tokens, used.output_tokens
        is_known = bool(prompt or completion)
        if not is_known:
            prompt = tokens_of(sum(_bytes_of(one) for one in messages))
            completion = tokens_of(_bytes_of(response))
        usage = Usage(
            model=self.choice.name,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=used.cache_read_tokens,
            cost=_cost_of(response) if is_known else None,
            estimated=not is_known,
            context_window=self.context_tokens,
        )
        self.turn.report(usage)
        return prompt + completion


def tokens_of(length: int) -> int:
    """Return about how many tokens a text of so many bytes is."""
    return int(length / BYTES_OF_A_TOKEN)


async def _hear(event: ModelResponseStreamEvent, heard: Gathered, model: Model) -> None:
    provider = model.system
    match event:
        case PartStartEvent(part=TextPart(content=text) as part):
            await heard.say(text)
            _sign_text(heard, part, provider)
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text) as delta):
            await heard.say(text)
            _sign_text(heard, delta, provider)
        case PartStartEvent(part=ThinkingPart() as part):
            await heard.thought()
            if provider in ORDERED:
                await heard.said()
            if part.id == UNSIGNED and wants_thoughts(model):
                named = {"id": part.id, "provider_name": provider, MODEL: model.model_name}
                heard.keep(named)
            await heard.think(part.content)
            await _sign(heard, part.signature, part.id, part.provider_name or provider)
        case PartDeltaEvent(delta=ThinkingPartDelta() as delta):
            await heard.think(delta.content_delta or "")
            await _sign(heard, delta.signature_delta, None, delta.provider_name or provider)
        case PartStartEvent(index=place, part=ToolCallPart() as call):
            await heard.thought()
            heard.call(place, call.tool_call_id, call.tool_name, _json_of(call.args))
        case PartDeltaEvent(index=place, delta=ToolCallPartDelta() as more):
            heard.more(place, _json_of(more.args_delta))
        case _:
            pass


def _json_of(arguments: str | dict[str, Any] | None) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""


async def _sign(heard: Gathered, signature: str | None, part_id: str | None, provider: str) -> None:
    if signature:
        named = {} if part_id is None else {"id": part_id}
        await heard.sign({"signature": signature, "provider_name": provider, **named})


def _sign_text(heard: Gathered, part: TextPart | TextPartDelta, provider: str) -> None:
    signed = _signed(part, provider)
    if signed:
        heard.sign_text(signed[SIGNATURE])


def _signed(part: TextPart | TextPartDelta | ToolCallPart, provider: str) -> dict[str, Any]:
    """Return what a provider wants to see again of a text or a call, as metadata has it."""
    details = part.provider_details
    signature = details.get(THOUGHT_SIGNATURE) if isinstance(details, dict) else None
    if not signature:
        return {}
    kept = {THOUGHT_SIGNATURE: signature}
    return {SIGNATURE: {"provider_name": part.provider_name or provider, "provider_details": kept}}


def _cost_of(response: ModelResponse) -> float | None:
    """Return the price in USD; None where it is not known."""
    try:
        return float(response.cost().total_price)
    except (LookupError, AssertionError, ValueError):
        return None


def _bytes_of(message: ModelMessage) -> int:
    found = bytes_of(getattr(message, "instructions", None) or "")
    for part in message.parts:
        content = getattr(part, "content", None) or getattr(part, "args", None) or ""
        if isinstance(content, list):  # with pictures, which are no text
            content = "".join(one for one in content if isinstance(one, str))
        found += bytes_of(content if isinstance(content, str) else str(content))
    return found
