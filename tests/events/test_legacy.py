import pytest

from events.actions import CmdRunAction, FileReadAction, MessageAction
from events.event import ConfirmationState, SecurityRisk
from events.serialization import decode, encode


def test_a_timestamp_among_the_arguments_is_dropped():
    event = decode({"action": "message", "args": {"content": "a", "timestamp": "2026"}})

    assert event == MessageAction(content="a")


@pytest.mark.parametrize("name", ["keep_prompt", "task_completed"])
def test_arguments_without_a_meaning_today_are_dropped(name):
    assert decode({"action": "run", "args": {"command": "ls", name: "x"}}) == CmdRunAction(
        command="ls"
    )


def test_is_confirmed_becomes_the_confirmation_state():
    event = decode({"action": "run", "args": {"command": "ls", "is_confirmed": "rejected"}})

    assert event == CmdRunAction(command="ls", confirmation_state=ConfirmationState.REJECTED)


def test_images_urls_become_image_urls():
    event = decode({"action": "message", "args": {"content": "a", "images_urls": ["u"]}})

    assert event == MessageAction(content="a", image_urls=["u"])


def test_todays_spelling_wins_over_the_old_one():
    args = {"content": "a", "images_urls": ["old"], "image_urls": ["new"]}

    assert decode({"action": "message", "args": args}) == MessageAction(
        content="a", image_urls=["new"]
    )


def test_an_old_name_without_a_counterpart_in_the_kind_is_kept():
    args = {"thought": "", "is_confirmed": "confirmed"}

    assert encode(decode({"action": "think", "args": args}))["args"] == args


@pytest.mark.parametrize("risk", [7, -2, "high", None, True, 1.0])
def test_an_unknown_risk_becomes_the_default(risk):
    event = decode({"action": "run", "args": {"command": "ls", "security_risk": risk}})

    assert event == CmdRunAction(command="ls", security_risk=SecurityRisk.UNKNOWN)


def test_an_editor_call_in_python_is_read_as_arguments():
    code = "print(file_editor(**{'command': 'view', 'path': '/a', 'view_range': [1, 2]}))"

    event = decode({"action": "read", "args": {"path": "", "translated_ipython_code": code}})

    assert event == FileReadAction(path="/a", view_range=[1, 2])


@pytest.mark.parametrize(
    "code",
    [
        "",
        7,
        "import os",
        "print(file_editor(**open('a')))",
        "print(file_editor(**[1]))",
        "print(file_editor(**{'path': {1, 2}}))",
        "print(file_editor(**{'path': b'x'}))",
        "print(file_editor(**{1: 2}))",
        "print(file_editor(**{[]: 2}))",
        "print(file_editor(**" + "(" * 5000 + "))",
        "print(file_editor(**{'path': 'a" + "x" * 1_000_000 + "'}))",
    ],
)
def test_code_of_any_other_form_is_dropped_unread(code):
    event = decode({"action": "read", "args": {"path": "/a", "translated_ipython_code": code}})

    assert event == FileReadAction(path="/a")


def test_exit_code_and_command_id_move_into_the_metadata():
    extras = {
        "command": "ls",
        "exit_code": 3,
        "command_id": 7,
        "formatted_output_and_error": "x",
        "metadata": {"hostname": "box", "newer": 1},
    }

    metadata = encode(decode({"observation": "run", "extras": extras}))["extras"]["metadata"]

    assert (metadata["exit_code"], metadata["pid"], metadata["hostname"]) == (3, 7, "box")
    assert metadata["newer"] == 1
    assert extras["metadata"] == {"hostname": "box", "newer": 1}


@pytest.mark.parametrize("extras", [{"command": "ls"}, {"command": "ls", "metadata": None}])
def test_a_run_observation_always_has_metadata(extras):
    encoded = encode(decode({"observation": "run", "extras": extras}))

    assert encoded["extras"]["metadata"]["exit_code"] == -1
    assert encoded["success"] is False


@pytest.mark.parametrize("metadata", [7, {"exit_code": "zero"}])
def test_metadata_that_does_not_fit_is_kept_as_it_is(metadata):
    extras = {"command": "ls", "metadata": metadata}

    assert encode(decode({"observation": "run", "extras": extras}))["extras"] == extras
