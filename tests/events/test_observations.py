import pytest
from pydantic import ValidationError

from events.event import AgentState, RecallType
from events.observations import (
    CUT_MARK,
    OBSERVATIONS,
    AgentStateChangedObservation,
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    RecallObservation,
)
from events.serialization import both_ends, decode, encode, is_long_output
from tests.support.event_kinds import OBSERVATION_TABLE, SUCCESS


def test_every_declared_observation_is_in_the_table():
    assert list(OBSERVATIONS) == list(OBSERVATION_TABLE)


@pytest.mark.parametrize("kind", OBSERVATION_TABLE)
def test_an_observation_has_exactly_its_fields_defaults_order_and_message(kind):
    required, defaults, message = OBSERVATION_TABLE[kind]

    payload = encode(OBSERVATIONS[kind].model_validate({"content": "the content", **required}))

    assert payload == {
        "message": message,
        "observation": kind,
        "content": "the content",
        "extras": {**required, **defaults},
        **SUCCESS.get(kind, {}),
    }
    assert list(payload["extras"]) == [*required, *defaults]


@pytest.mark.parametrize("kind", [kind for kind, row in OBSERVATION_TABLE.items() if row[0]])
def test_an_observation_without_its_required_fields_is_refused(kind):
    with pytest.raises(ValidationError):
        OBSERVATIONS[kind].model_validate({})


def test_the_content_is_empty_unless_given():
    assert ErrorObservation().content == ""


def test_a_command_succeeds_when_its_exit_code_is_zero():
    done = CmdOutputObservation(command="ls", metadata=CmdOutputMetadata(exit_code=0))

    assert encode(done)["success"] is True
    assert done.message == "Command `ls` executed with exit code 0."


def test_recalled_knowledge_is_told_apart_from_workspace_context():
    recalled = RecallObservation(recall_type=RecallType.KNOWLEDGE)

    assert recalled.message == "Added microagent knowledge"


def test_a_state_is_written_as_plain_text():
    payload = encode(AgentStateChangedObservation(agent_state=AgentState.PAUSED))

    assert type(payload["extras"]["agent_state"]) is str
    assert payload["extras"]["agent_state"] == "paused"


def test_long_command_output_keeps_both_ends():
    output = "a" * 15_000 + "x" + "b" * 15_000

    payload = encode(CmdOutputObservation(command="ls", content=output))

    assert is_long_output(payload)
    assert both_ends(payload)["content"] == "a" * 15_000 + f"\n{CUT_MARK}\n" + "b" * 15_000
    assert payload["content"] == output


@pytest.mark.parametrize(("length", "hidden"), [(30_000, False), (90_000, True)])
def test_output_within_the_limit_or_hidden_is_whole(length, hidden):
    seen = CmdOutputObservation(command="ls", content="a" * length, hidden=hidden)

    assert not is_long_output(encode(seen))


def test_stored_output_above_the_limit_stays_whole():
    payload = encode(CmdOutputObservation(command="ls", content="")) | {"content": "a" * 40_000}

    assert encode(decode(payload))["content"] == "a" * 40_000
