"""What of a recorded conversation is done again."""

import json

import pytest

from events.actions import AgentFinishAction, CmdRunAction, MessageAction
from events.errors import BadEvent
from events.replay import read_recording


def user(content, **more):
    return {"id": 2, "source": "user", "action": "message", "args": {"content": content}} | more


def run(command, state="confirmed", **more):
    args = {"command": command, "confirmation_state": state}
    return {"source": "agent", "action": "run", "args": args} | more


def read(*events):
    return read_recording(json.dumps(events))


def test_the_first_user_message_and_the_agents_actions_are_kept_in_order():
    recording = read(
        {"source": "environment", "observation": "agent_state_changed", "extras": {}},
        user("do it"),
        {"source": "user", "action": "recall", "args": {"recall_type": "knowledge"}},
        run("ls"),
        {"source": "agent", "observation": "run", "content": "a", "extras": {"command": "ls"}},
        user("and then?"),
        {"source": "agent", "action": "finish", "args": {}},
    )

    assert recording.first_message.content == "do it"
    assert [type(action) for action in recording.actions] == [CmdRunAction, AgentFinishAction]


def test_nothing_of_the_recorded_envelope_is_kept():
    stored = {"id": 7, "timestamp": "2026-01-01T00:00:00.000000Z", "cause": 3}
    recording = read(user("x"), run("ls", llm_metrics={"accumulated_cost": 9}, **stored))

    (action,) = recording.actions
    assert action == CmdRunAction(command="ls")


def test_an_action_counts_once_however_often_it_was_asked_about():
    recording = read(
        user("x"),
        run("ls", "awaiting_confirmation"),
        run("ls"),
        run("rm", "awaiting_confirmation"),
        run("rm", "rejected"),
    )

    assert [getattr(action, "command", "") for action in recording.actions] == ["ls"]


def test_only_the_last_message_waits_for_an_answer():
    asking = {
        "source": "agent",
        "action": "message",
        "args": {"content": "well?", "wait_for_response": True},
    }
    recording = read(user("x"), asking, asking)

    waits = [one.wait_for_response for one in recording.actions if isinstance(one, MessageAction)]
    assert waits == [False, True]


def test_an_exported_trajectory_can_be_read_as_it_is():
    exported = json.dumps({"trajectory": [user("x"), run("ls")]})

    assert len(read_recording(exported).actions) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("7", "list of events"),
        ("[7]", "list of events"),
        ('{"events": []}', "list of events"),
        ('[{"action": []}]', "no user message"),
        ("[]", "no user message"),
        (json.dumps([run("ls")]), "no user message"),
        (json.dumps([user("x"), {"source": "agent", "action": "run", "args": {}}]), "Event 1"),
    ],
)
def test_what_is_no_recording_is_refused_with_a_reason(text, why):
    with pytest.raises(BadEvent, match=why) as caught:
        read_recording(text)

    assert caught.value.code == "bad_replay"
