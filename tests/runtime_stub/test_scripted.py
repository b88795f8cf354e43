"""ScriptedAgent: what it does with each message, and that a cancelled step loses nothing."""

import asyncio
import json

import pytest

from events.actions import (
    Action,
    AgentFinishAction,
    AgentThinkAction,
    CmdRunAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    MessageAction,
)
from events.event import EventSource, SecurityRisk
from events.observations import CmdOutputObservation
from runtime_stub.instructions import MAX_BIG_BYTES
from runtime_stub.scripted import ScriptedAgent, ScriptedFailure


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


def tell(agent: ScriptedAgent, text: str) -> None:
    agent.observe(MessageAction(content=text, source=EventSource.USER))


async def steps(agent: ScriptedAgent) -> list[Action]:
    taken = []
    while (action := await agent.step()) is not None:
        taken.append(action)
    return taken


async def replies(agent: ScriptedAgent, text: str) -> list[str]:
    tell(agent, text)
    return [action.message for action in await steps(agent)]


async def cancelled_at_its_first_wait(agent: ScriptedAgent) -> None:
    step = asyncio.create_task(agent.step())
    await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step


async def test_an_agent_without_messages_waits(agent):
    assert await steps(agent) == []


async def test_plain_text_is_answered_by_one_message(agent):
    assert await replies(agent, "Hello\nthere") == ["You said: Hello\nthere"]
    assert await replies(agent, "") == ["You said nothing."]


async def test_a_long_text_is_answered_by_its_length(agent):
    assert await replies(agent, "x" * 20_000) == ["You said 20000 characters."]


async def test_only_messages_of_the_user_are_taken_up(agent):
    agent.observe(MessageAction(content="/run a", source=EventSource.AGENT))
    agent.observe(CmdOutputObservation(command="a", source=EventSource.AGENT))

    assert await steps(agent) == []


async def test_commands_act_in_order(agent):
    tell(agent, "first\n/run ls -l\n/read a b.txt\n/write a.txt x  y\n/think hm\nlast\n/finish bye")
    tell(agent, "/confirm rm -r a\n/edit a.txt old text => new text\n/finish")

    assert await steps(agent) == [
        MessageAction(content="You said: first"),
        CmdRunAction(command="ls -l"),
        FileReadAction(path="a b.txt"),
        FileWriteAction(path="a.txt", content="x  y"),
        AgentThinkAction(thought="hm"),
        MessageAction(content="You said: last"),
        AgentFinishAction(final_thought="bye"),
        CmdRunAction(command="rm -r a", security_risk=SecurityRisk.HIGH),
        FileEditAction(path="a.txt", command="str_replace", old_str="old text", new_str="new text"),
        AgentFinishAction(),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "/run",
        "/confirm",
        "/read",
        "/write a",
        "/edit a",
        "/edit a b",
        "/edit a => b",
        "/think",
        "/ask",
        "/error",
        "/slow 1",
        "/slow 0 1",
        "/slow 1 -1",
        "/slow 1000000 1",
        "/big",
        "/big x",
        f"/big {MAX_BIG_BYTES + 1}",
        "/cost",
        "/cost -1",
        "/cost nan",
        "/cost 1e3",
    ],
)
async def test_arguments_that_do_not_fit_are_answered_with_the_usage(agent, line):
    (reply,) = await replies(agent, line)

    assert reply.startswith(f"Usage: {line.split()[0]} ")


async def test_an_edit_may_remove_text(agent):
    tell(agent, "/edit a old =>")

    assert await agent.step() == FileEditAction(
        path="a", command="str_replace", old_str="old", new_str=""
    )


async def test_a_question_holds_the_rest_back_until_the_next_message(agent):
    tell(agent, "/ask really?\n/run a")
    assert await steps(agent) == [MessageAction(content="really?", wait_for_response=True)]

    tell(agent, "yes")
    assert await steps(agent) == [
        CmdRunAction(command="a"),
        MessageAction(content="You said: yes"),
    ]


async def test_a_message_that_came_before_its_question_was_put_is_its_answer(agent):
    tell(agent, "/ask one?\n/ask two?\n/run a")
    tell(agent, "first")

    assert [action.message for action in await steps(agent)] == ["one?", "two?"]

    tell(agent, "second")
    assert [action.message for action in await steps(agent)] == [
        "Running command: a",
        "You said: first",
        "You said: second",
    ]


async def test_an_error_is_raised_once_and_the_rest_follows(agent):
    tell(agent, "/error it broke\n/run a")

    with pytest.raises(ScriptedFailure, match=r"^it broke$"):
        await agent.step()
    assert await steps(agent) == [CmdRunAction(command="a")]


async def test_a_big_message_has_exactly_that_many_bytes(agent):
    for size in (0, 1, 1234, MAX_BIG_BYTES):
        (reply,) = await replies(agent, f"/big {size}")
        assert len(reply.encode()) == size


async def test_slow_messages_come_one_after_the_other_and_then_the_rest(agent):
    assert await replies(agent, "/slow 3 1\nnext") == [
        "Message 1 of 3",
        "Message 2 of 3",
        "Message 3 of 3",
        "You said: next",
    ]


async def test_slow_messages_are_the_given_time_apart(agent):
    tell(agent, "/slow 3 10")
    clock = asyncio.get_running_loop().time

    await agent.step()
    begun = clock()
    await agent.step()
    await agent.step()

    # A timer of the loop may fire early by its resolution.
    assert clock() - begun >= 0.02 - 0.002


async def test_a_cancelled_wait_is_taken_up_where_it_was(agent):
    tell(agent, "/slow 2 20\n/run a")
    assert (await agent.step()).message == "Message 1 of 2"

    for _ in range(3):
        await cancelled_at_its_first_wait(agent)

    assert [action.message for action in await steps(agent)] == [
        "Message 2 of 2",
        "Running command: a",
    ]


async def test_a_quiet_agent_swallows_everything_until_it_is_loud(agent):
    assert await replies(agent, "/quiet\nhello\n/run a") == []
    assert await replies(agent, "/error x\n/ask y\n/quiet\n") == []
    assert await replies(agent, "/loud\nhello") == ["Answering again.", "You said: hello"]


async def test_a_step_cancelled_while_it_swallows_goes_on_where_it_was(agent):
    tell(agent, "/quiet\n" + "/run a\n" * 5 + "/loud")
    await cancelled_at_its_first_wait(agent)

    assert [action.message for action in await steps(agent)] == ["Answering again."]


async def test_costs_add_up_and_travel_once_as_metrics(agent):
    assert agent.metrics() is None
    tell(agent, "/cost 0.1\n/cost 0.2\nhello")

    assert (await agent.step()).message == "The cost is now 0.1 USD."
    first = agent.metrics()
    assert agent.metrics() is None
    assert (await agent.step()).message == "The cost is now 0.3 USD."
    second = agent.metrics()
    await agent.step()

    assert agent.metrics() is None
    assert (first["accumulated_cost"], second["accumulated_cost"]) == (0.1, 0.3)
    assert second == json.loads(json.dumps(second))
    assert second["accumulated_token_usage"] == {
        "model": "scripted",
        "prompt_tokens": 200,
        "completion_tokens": 40,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "context_window": 0,
        "per_turn_token": 120,
        "response_id": "",
    }
    assert second["costs"] == second["response_latencies"] == second["token_usages"] == []


async def test_help_names_every_command(agent):
    (reply,) = await replies(agent, "/help")

    assert {"/run CMD", "/slow N MS", "/edit PATH OLD => NEW", "/loud"} <= set(reply.split("\n"))


async def test_the_default_agent_needs_no_model_and_says_what_it_is(agent):
    assert agent.model is None
    assert "/help" in agent.system_prompt()
    await agent.close()
