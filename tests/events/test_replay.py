"""The part of a recorded conversation that is done again."""

import json
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from events.actions import Action, AgentFinishAction, CmdRunAction, MCPAction, MessageAction
from events.errors import BadEvent, BadRecording
from events.recording import read_recording


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
        (json.dumps([user("x"), run(None)]), "Event 1 of replay_json: the argument `command`"),
        (json.dumps([user("x"), run(7)]), "`command` of the action run is unfit"),
        (json.dumps([user("x"), run("ls") | {"args": []}]), "Event 1 of replay_json: `args`"),
        ('[{"action": "message", "source": "user", "args": {}}]', "`content` .* is missing"),
        (json.dumps([user("x"), None]), "event 1 is not an object"),
        (json.dumps([user("x")]) + " x", "not JSON: Extra data"),
        ("[{}, ]", "not JSON"),
        ("[{} {}]", "not JSON"),
        ('{"trajectory": [] "a": 1}', "not JSON"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("", "not JSON"),
    ],
)
def test_what_is_no_recording_is_refused_with_a_reason(text, why):
    with pytest.raises(BadEvent, match=why) as caught:
        read_recording(text)

    assert caught.value.code == "bad_replay"


def test_what_the_agent_did_not_do_is_left_out():
    recording = read(
        user("x"),
        run("env") | {"source": "environment"},
        run("null") | {"source": None},
        run("system") | {"source": "system"},
        {"action": "run", "args": {"command": "none"}},
        run("ls"),
    )

    assert [action.command for action in recording.actions] == ["ls"]


def test_files_and_pictures_of_the_first_message_are_kept():
    said = {"content": "see", "file_urls": ["/workspace/a.txt"], "image_urls": ["data:,"]}
    recording = read(user("x") | {"args": said}, user("later"))

    assert recording.first_message.file_urls == ["/workspace/a.txt"]
    assert recording.first_message.image_urls == ["data:,"]


def test_what_recorders_write_beyond_json_is_read():
    text = (
        '\ufeff {"version": NaN, "more": {"trajectory": 1}, "trajectory": [ '
        '{"source": "user", "action": "message", "args": {"content": "a\\ud800b"}, '
        '"llm_metrics": {"accumulated_cost": NaN}, "id": -Infinity, "cause": "x"}, '
        '{"source": "agent", "action": "call_tool_mcp", "tool_call_metadata": "\\udfff", '
        '"timestamp": 7, "args": {"name": "t", "arguments": {"big": 99999999999999999999, "nan": NaN, '
        f'"long": {"9" * 5000}}}}}}}, '
        '{"source": "agent", "action": "run", "args": {"command": "ls", "thought": null, "blocking": '
        'null, "security_risk": "HIGH", "cwd": null, "is_input": "no", "confirmation_state": null, '
        '"hidden": 3}, "timeout": null}], "rest": [1, {"a": []}] }\n'
    )

    recording = read_recording(text)

    tool, run_again = recording.actions
    assert recording.first_message.content == "a\ufffdb"
    assert isinstance(tool, MCPAction)
    assert tool.arguments == {"big": "99999999999999999999", "nan": None, "long": "9" * 5000}
    assert run_again == CmdRunAction(command="ls")


def test_many_recorded_actions_are_held_in_little_memory():
    thinking = '{"source":"agent","action":"think","args":{"thought":"x"}}'
    text = f"[{json.dumps(user('x'))}{f',{thinking}' * 40_000}]"
    tracemalloc.start()

    recording = read_recording(text)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(recording.actions) == 40_000
    assert peak < 4 * len(text)


EVENTS = st.one_of(
    st.just(run("ls")),
    st.just(user("more")),
    st.dictionaries(
        st.sampled_from(("action", "source", "args", "timeout", "observation", "message")),
        st.recursive(
            st.none()
            | st.text(max_size=3)
            | st.integers()
            | st.floats()
            | st.sampled_from(("run", "message", "agent", "user", "edit", "finish", "\ud800")),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(("content", "command", "path", "outputs", "x")),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=4,
        ),
    ),
)


@given(st.lists(EVENTS, max_size=5))
def test_a_recording_is_read_or_refused_and_what_is_read_can_be_acted_out(events):
    with suppress(BadRecording):
        recording = read(user("x"), *events)
        assert all(isinstance(action, Action) for action in recording.actions)
