import pytest
from pydantic import ValidationError

from events.actions import (
    ACTIONS,
    AgentFinishAction,
    AgentRejectAction,
    CmdRunAction,
    CondensationAction,
    MessageAction,
    RecallAction,
    TaskTrackingAction,
)
from events.event import RecallType, SecurityRisk
from events.serialization import encode
from tests.support.event_kinds import ACTION_TABLE


def test_every_declared_action_is_in_the_table():
    assert list(ACTIONS) == list(ACTION_TABLE)


@pytest.mark.parametrize("kind", ACTION_TABLE)
def test_an_action_has_exactly_its_fields_defaults_order_and_message(kind):
    required, defaults, message = ACTION_TABLE[kind]

    payload = encode(ACTIONS[kind].model_validate(required))

    assert payload == {"message": message, "action": kind, "args": {**required, **defaults}}
    assert list(payload["args"]) == [*required, *defaults]


@pytest.mark.parametrize("kind", [kind for kind, row in ACTION_TABLE.items() if row[0]])
def test_an_action_without_its_required_fields_is_refused(kind):
    required = dict(ACTION_TABLE[kind][0])
    required.popitem()
    if kind == "condensation":
        required = {"summary": "s", "summary_offset": 0}

    with pytest.raises(ValidationError):
        ACTIONS[kind].model_validate(required)


def test_an_action_cannot_be_changed():
    action = MessageAction(content="a")

    with pytest.raises(ValidationError):
        action.content = "b"  # type: ignore[misc]  # what the test is about


def test_an_undeclared_field_is_refused_by_the_constructor():
    with pytest.raises(ValidationError):
        CmdRunAction.model_validate({"command": "ls", "colour": "red"})


def test_defaults_are_not_shared_between_actions():
    AgentFinishAction().outputs["a"] = 1

    assert AgentFinishAction().outputs == {}


def test_the_risk_is_written_as_a_plain_integer():
    risk = encode(CmdRunAction(command="ls", security_risk=SecurityRisk.HIGH))["args"]

    assert type(risk["security_risk"]) is int
    assert risk["security_risk"] == 2
    assert type(risk["confirmation_state"]) is str


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (AgentFinishAction(thought="done"), "done"),
        (
            AgentRejectAction(outputs={"reason": "no"}),
            "Task is rejected by the agent. Reason: no",
        ),
        (
            RecallAction(recall_type=RecallType.KNOWLEDGE, query="q" * 60),
            "Retrieving content for: " + "q" * 50,
        ),
        (TaskTrackingAction(task_list=[{}]), "Managing 1 task item."),
        (TaskTrackingAction(task_list=[{}, {}]), "Managing 2 task items."),
        (
            CondensationAction(forgotten_events_start_id=3, forgotten_events_end_id=10**12),
            "Condenser is dropping the events: [3..1000000000000].",
        ),
        (
            CondensationAction(forgotten_event_ids=[], summary="short", summary_offset=1),
            "Summary: short",
        ),
        (CmdRunAction(command="echo {command} %s"), "Running command: echo {command} %s"),
    ],
)
def test_a_message_follows_the_arguments(action, message):
    assert action.message == message


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"forgotten_events_start_id": 1},
        {"forgotten_events_end_id": 1},
        {"forgotten_event_ids": [1], "forgotten_events_start_id": 1},
        {
            "forgotten_event_ids": [1],
            "forgotten_events_start_id": 1,
            "forgotten_events_end_id": 2,
        },
        {"forgotten_event_ids": [1], "summary": "s"},
        {"forgotten_event_ids": [1], "summary_offset": 1},
    ],
)
def test_a_condensation_names_its_events_in_one_way_and_its_summary_with_an_offset(fields):
    with pytest.raises(ValidationError):
        CondensationAction.model_validate(fields)
