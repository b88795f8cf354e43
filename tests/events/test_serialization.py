import copy
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from events.actions import ACTIONS, CmdRunAction, MessageAction
from events.errors import BadEvent
from events.event import EventFlag, EventSource, Interruption
from events.layout import UnknownAction, UnknownObservation
from events.observations import OBSERVATIONS, CmdOutputObservation
from events.serialization import decode, encode, flag_of, trajectory_form
from tests.support.event_kinds import ACTION_TABLE, OBSERVATION_TABLE, SUCCESS

METRICS = {"accumulated_cost": 0.5, "accumulated_token_usage": {"prompt_tokens": 1}}
TOOL_CALL = {"function_name": "run", "tool_call_id": "1", "total_calls_in_response": 1}
STAMP = "2026-03-02T09:15:07.120334Z"

texts = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
envelopes = st.fixed_dictionaries(
    {"id": st.integers(0, 2**53), "timestamp": texts, "source": st.sampled_from(EventSource)},
    optional={
        "cause": st.integers(0, 2**53),
        "client_id": texts,
        "tool_call_metadata": json_objects,
        "llm_metrics": json_objects,
        "turn": st.integers(0, 2**53),
        "partial": texts,
        "interrupted": st.sampled_from(Interruption),
        "newer_field": json_values,
    },
)


@st.composite
def stored_payloads(draw):
    is_action = draw(st.booleans())
    table = ACTION_TABLE if is_action else OBSERVATION_TABLE
    kind = draw(st.sampled_from([*table, "a_newer_kind"]))
    required, defaults, _ = table.get(kind, (draw(json_objects), {}, ""))
    inner = {
        **required,
        **defaults,
        **draw(st.just({}) | st.fixed_dictionaries({"new": json_values})),
    }
    if inner and draw(st.booleans()):
        inner[draw(st.sampled_from([key for key in inner if key != "metadata"]))] = draw(
            json_values
        )
    payload = {**draw(envelopes), "message": ""}
    if is_action:
        return payload | {"action": kind, "args": inner}
    success = SUCCESS.get(kind, {})
    return payload | {"observation": kind, "content": draw(texts), "extras": inner} | success


def canonical(payload: dict[str, Any]) -> bytes:
    return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)


@given(stored_payloads())
def test_a_stored_payload_survives_the_round_trip_and_is_not_changed(payload):
    before = canonical(payload)

    event = decode(payload)

    assert canonical(payload) == before
    again = encode(event)
    derived = {key: again[key] for key in ("message", "success") if key in again}
    assert canonical(again) == canonical(with_known_risk(payload) | derived)
    assert decode(again) == event


def with_known_risk(payload: dict[str, Any]) -> dict[str, Any]:
    if payload.get("action") not in ACTIONS or "security_risk" not in payload["args"]:
        return payload
    risk = payload["args"]["security_risk"]
    known = risk if type(risk) is int and risk in (-1, 0, 1, 2) else -1
    return payload | {"args": payload["args"] | {"security_risk": known}}


def test_the_keys_of_an_action_come_in_the_protocols_order():
    event = CmdRunAction(
        command="ls",
        timeout=2.5,
        edited_by="ann",
        id=1,
        timestamp=STAMP,
        source=EventSource.AGENT,
        cause=0,
        client_id="k",
        tool_call_metadata=TOOL_CALL,
        llm_metrics=METRICS,
    )

    assert list(encode(event)) == [
        "id",
        "timestamp",
        "source",
        "message",
        "cause",
        "client_id",
        "action",
        "tool_call_metadata",
        "llm_metrics",
        "args",
        "timeout",
        "edited_by",
    ]


def test_the_keys_of_an_observation_come_in_the_protocols_order():
    event = CmdOutputObservation(
        command="ls", id=2, timestamp=STAMP, source=EventSource.AGENT, cause=1, content="a"
    )

    assert list(encode(event)) == [
        "id",
        "timestamp",
        "source",
        "message",
        "cause",
        "observation",
        "content",
        "extras",
        "success",
    ]


def test_a_kind_of_another_version_keeps_all_it_carries():
    payload = {
        "id": 3,
        "timestamp": STAMP,
        "source": "agent",
        "message": "as it was",
        "observation": "hologram",
        "content": "c",
        "extras": {"depth": [1, {"timestamp": "kept"}]},
        "shape": "round",
    }

    event = decode(payload)

    assert isinstance(event, UnknownObservation)
    assert event.kind == "hologram"
    assert encode(event) == payload


def test_a_declared_kind_whose_arguments_do_not_fit_is_kept_as_unknown():
    payload = {"message": "m", "action": "run", "args": {"command": 7, "cwd": "/"}}

    event = decode(payload)

    assert isinstance(event, UnknownAction)
    assert event.kind == "run"
    assert encode(event) == payload


def test_envelope_values_that_do_not_fit_are_kept():
    payload = {
        "message": "a",
        "action": "message",
        "args": encode(MessageAction(content="a"))["args"],
        "id": "7",
        "source": "robot",
        "cause": True,
        "timeout": "soon",
        "extras": {},
    }

    event = decode(payload)

    assert (event.id, event.source, event.cause) == (None, None, None)
    assert encode(event) == payload


def test_a_kept_value_gives_way_to_one_that_is_set_later():
    event = decode({"action": "message", "args": {"content": "a"}, "source": "robot"})

    stamped = event.model_copy(update={"source": EventSource.USER})

    assert encode(stamped)["source"] == "user"


def test_both_kinds_given_make_an_action():
    payload = {"action": "null", "observation": "null", "args": {}, "message": "No action"}

    event = decode(payload)

    assert isinstance(event, ACTIONS["null"])
    assert encode(event) == payload


@pytest.mark.parametrize("inner", [{}, {"args": None}])
def test_missing_arguments_count_as_none_given(inner):
    assert decode({"action": "null", **inner}) == ACTIONS["null"]()


def test_null_in_the_envelope_counts_as_absent():
    event = decode({"observation": "null", "action": None, "cause": None, "content": None})

    assert event == OBSERVATIONS["null"]()


def test_a_timestamp_given_as_a_moment_becomes_text():
    moment = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)

    event = decode({"action": "null", "args": {}, "timestamp": moment})

    assert event.timestamp == "2026-03-02T09:15:00+00:00"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ([], "not_an_object"),
        ("run", "not_an_object"),
        ({}, "unknown_kind"),
        ({"action": None, "args": {}}, "unknown_kind"),
        ({"action": 1, "args": {}}, "bad_value"),
        ({"action": "run", "args": []}, "bad_value"),
        ({"observation": "run", "extras": "x"}, "bad_value"),
        ({"action": "new", "args": {1: 2}}, "bad_value"),
    ],
)
def test_what_is_no_event_at_all_is_refused(payload, code):
    with pytest.raises(BadEvent) as refused:
        decode(payload)

    assert refused.value.code == code


@pytest.mark.parametrize(
    ("payload", "flag"),
    [
        ({"observation": "agent_state_changed", "source": "environment"}, EventFlag.STATE),
        ({"observation": "agent_state_changed", "source": "agent"}, EventFlag.STATE),
        ({"action": "message", "source": "user"}, EventFlag.PLAIN),
        ({"action": "browse", "source": "agent"}, EventFlag.PLAIN),
        ({"action": "hologram", "source": "agent"}, EventFlag.PLAIN),
        ({"observation": "run", "source": "agent"}, EventFlag.PLAIN),
        ({"observation": "run", "source": "environment"}, EventFlag.SPECIAL),
        ({"observation": "error"}, EventFlag.SPECIAL),
        ({"action": "null", "source": "user"}, EventFlag.SPECIAL),
        ({"observation": "null", "source": "agent"}, EventFlag.SPECIAL),
        ({"observation": "browse", "source": "agent"}, EventFlag.SPECIAL),
        ({"observation": "browse_interactive", "source": "agent"}, EventFlag.SPECIAL),
    ],
)
def test_the_flag_tells_which_events_must_be_looked_into(payload, flag):
    assert flag_of(payload) is flag


def test_the_trajectory_form_leaves_the_browsers_bulk_out_at_any_depth():
    payload = {
        "observation": "browse",
        "screenshot": "top level",
        "extras": {
            "url": "u",
            "dom_object": {},
            "screenshot": "data:",
            "deep": [{"set_of_marks": 1}],
        },
    }
    before = copy.deepcopy(payload)

    form = trajectory_form(payload)

    assert form == payload | {"extras": {"url": "u", "deep": [{}]}}
    assert payload == before


def test_the_trajectory_form_keeps_screenshots_on_request():
    payload = {"extras": {"screenshot": "data:", "set_of_marks": "m", "axtree_object": {}}}

    form = trajectory_form(payload, with_screenshots=True)

    assert form == {"extras": {"screenshot": "data:", "set_of_marks": "m"}}
