"""The calls of a model's answer: carried out by the turn, answered to the model, counted where they repeat."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from pydantic_ai.messages import ToolCallPart

from events.actions import Action, LoopRecoveryAction
from events.event import Event, EventSource
from events.observations import LoopDetectionObservation, Observation
from runtime_stub.llm.requests import Answer
from runtime_stub.llm.speech import Speech
from runtime_stub.llm.transcript import UNSHOWN, BadCall, Entry, text_of
from runtime_stub.tools import BadArguments, Tool, arguments_of
from runtime_stub.turn import NOTICE, Draft, Reason, ToolCall, Turn, TurnFailed

BAD_IN_A_ROW = 3
"""Answers with a call that no tool takes, one after the other, that end a turn."""
TOLD_REPEATS = 4
"""Times that the same was done with the same result, after which the model is told."""
MOST_REPEATS = 6
"""Times that the same was done with the same result, at which the turn ends."""
LONGEST_CIRCLE = 2
"""Steps of a circle that is noticed."""
REPEATS = "You have done this {times} times, each time with the same result. Do something else."
LOOP = (
    "I have done the same thing {times} times, each time with the same result, and stopped."
    " How shall I go on?"
)


class Step(NamedTuple):
    """The calls that were made at once, and their outcomes."""

    asked: tuple[tuple[str, str], ...]
    found: tuple[str, ...]


class Calls:
    """The calls of one turn. Methods raise what the turn raises."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._tools: Mapping[str, Tool] = {tool.name: tool for tool in turn.tools}
        self._bad_in_a_row = 0
        self._steps: list[Step] = []
        self._answers = 0

    async def carry_out(self, answer: Answer, speech: Speech) -> Sequence[Entry]:
        """Carry out the calls of one answer side by side, and return what the model is told of it.

        `speech` has what is shown of them. Raises TurnFailed after too many answers with calls that no
        tool takes.
        """
        self._answers += 1
        response = f"{self._turn.id}-{self._answers}"
        bad: list[BadCall] = []
        good: list[tuple[Action, ToolCall]] = []
        shown: list[Draft | None] = []
        for call, signed in zip(answer.calls, answer.signed, strict=True):
            taken = self._action(call, response, signed)
            if isinstance(taken, BadCall):
                bad.append(taken)
            else:
                recorded = {"id": response, **signed}
                told = ToolCall(call.tool_call_id, call.tool_name, len(answer.calls), recorded)
                good.append((taken, told))
                shown.append(speech.drafts.take(call.tool_call_id))
        _add_thoughts(good, bad, speech.take_unshown())
        speech.drafts.drop()
        self._count_bad(bad)
        observations = await self._acted(good, shown)
        acted = [_recorded(*one) for one in zip(good, observations, strict=True)]
        self._steps.append(
            Step(
                tuple((call.name, str(arguments_of(action))) for action, call in good),
                tuple(text_of(one) for one in observations),
            )
        )
        # What was recorded comes first: so the thoughts before it are first, as they were.
        return [*acted, *bad, *observations]

    @property
    def repeats(self) -> int:
        """Times that the last steps were done one after the other with the same results."""
        return max(_repeats(self._steps, length) for length in range(1, LONGEST_CIRCLE + 1))

    async def end_loop(self) -> None:
        """Record that the agent repeats itself, and ask the user what to do."""
        text = LOOP.format(times=self.repeats)
        async with self._turn.doing(LoopRecoveryAction(option=3)) as step:
            step.result(observation=LoopDetectionObservation(content=text))
        async with self._turn.say() as said:
            said.metadata[NOTICE] = True
            said.write(text)

    def _action(
        self, call: ToolCallPart, response: str, signed: Mapping[str, Any]
    ) -> Action | BadCall:
        arguments = _arguments_of(call)
        tool = self._tools.get(call.tool_name)
        if tool is None:
            told = f"There is no tool {call.tool_name}. There are: {', '.join(self._tools)}."
        elif arguments is None:
            told = f"The arguments of {call.tool_name} were no JSON object. Call it again."
        else:
            try:
                return tool.action(arguments)
            except BadArguments as error:
                told = str(error)
        return BadCall(response, call.tool_call_id, call.tool_name, arguments or {}, told, signed)

    def _count_bad(self, bad: Sequence[BadCall]) -> None:
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        if self._bad_in_a_row >= BAD_IN_A_ROW:
            raise TurnFailed(
                f"The model called its tools wrongly {BAD_IN_A_ROW} times in a row.",
                Reason.MODEL_FAILED,
            )

    async def _acted(
        self, good: Sequence[tuple[Action, ToolCall]], shown: Sequence[Draft | None]
    ) -> Sequence[Observation]:
        acts = [
            self._turn.act(action, call=call, draft=draft)
            for (action, call), draft in zip(good, shown, strict=True)
        ]
        found = await asyncio.gather(*acts, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return [one for one in found if isinstance(one, Observation)]


def _add_thoughts(
    good: list[tuple[Action, ToolCall]], bad: list[BadCall], unshown: Sequence[dict[str, Any]]
) -> None:
    """Have the first call take along the thoughts before it that are not shown."""
    more = {UNSHOWN: list(unshown)}
    if unshown and good:
        action, call = good[0]
        good[0] = (action, replace(call, response={**call.response, **more}))
    elif unshown and bad:
        bad[0] = replace(bad[0], signed={**bad[0].signed, **more})


def _recorded(made: tuple[Action, ToolCall], observation: Observation) -> Event:
    """Return an action as it stands in the log."""
    action, call = made
    return action.model_copy(
        update={
            "id": observation.cause,
            "source": EventSource.AGENT,
            "tool_call_metadata": call.metadata(),
        }
    )


def _arguments_of(call: ToolCallPart) -> dict[str, Any] | None:
    """Return the arguments of a call; None where they are no JSON object."""
    given: Any = call.args
    if isinstance(given, str):
        try:
            # No NaN and no half of a character, which no request could hold that tells of the call.
            given = orjson.loads(given or "{}")
        except ValueError:
            return None
    given = {} if given is None else given
    return given if isinstance(given, dict) else None


def _repeats(steps: Sequence[Step], length: int) -> int:
    """Return how often the last `length` steps stand at the end, one time after the other."""
    last = steps[-length:]
    if len(last) < length or not any(step.asked for step in last):
        return 0
    times = 1
    while steps[-length * (times + 1) : -length * times] == last:
        times += 1
    return times
