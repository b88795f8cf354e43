import contextlib
import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from events.actions import ACTIONS, ChangeAgentStateAction, MessageAction
from events.client_events import ClientEvent, decode_client
from events.errors import BadEvent
from events.event import AgentState, SecurityRisk
from events.serialization import encode

MESSAGE = {"action": "message", "args": {"content": "hi"}}
TAKEN_STATES = ("stopped", "paused", "running", "user_confirmed", "user_rejected")


def message(**args: Any) -> dict[str, Any]:
    return {"action": "message", "args": {"content": "hi", **args}}


def state(value: Any) -> dict[str, Any]:
    return {"action": "change_agent_state", "args": {"agent_state": value}}


def deep(levels: int) -> list[Any]:
    return [deep(levels - 1)] if levels else []


REFUSED: dict[str, tuple[Any, str, str]] = {
    "null": (None, "not_an_object", "object"),
    "text": ("message", "not_an_object", "object"),
    "list": ([MESSAGE], "not_an_object", "object"),
    "empty": ({}, "unknown_kind", "`action`"),
    "null action": ({"action": None, "args": {}}, "unknown_kind", "`action`"),
    "numeric action": ({"action": 7, "args": {}}, "bad_value", "`action`"),
    "unknown action": ({"action": "dance", "args": {}}, "unknown_kind", "`dance`"),
    "command": ({"action": "run", "args": {"command": "rm"}}, "forbidden_kind", "`run`"),
    "kind of an observation": ({"action": "error", "args": {}}, "forbidden_kind", "`error`"),
    "observation": ({"observation": "run", "extras": {}}, "forbidden_kind", "`observation`"),
    "both": ({**MESSAGE, "observation": "run"}, "forbidden_kind", "`observation`"),
    "unknown field": ({**MESSAGE, "colour": 1}, "unknown_field", "`colour`"),
    "no args": ({"action": "message"}, "missing_argument", "`args`"),
    "null args": ({"action": "message", "args": None}, "missing_argument", "`args`"),
    "list args": ({"action": "message", "args": []}, "bad_value", "`args`"),
    "no content": ({"action": "message", "args": {}}, "missing_argument", "`content`"),
    "no state": ({"action": "change_agent_state", "args": {}}, "missing_argument", "`agent_state`"),
    "unknown argument": (message(colour=1), "unknown_argument", "`colour`"),
    "argument of another kind": (
        {"action": "change_agent_state", "args": {"agent_state": "paused", "images_urls": []}},
        "unknown_argument",
        "`images_urls`",
    ),
    "editor code": (message(translated_ipython_code="x"), "unknown_argument", "translated"),
    "content": (message(content=7), "bad_value", "`content`"),
    "null content": (message(content=None), "bad_value", "`content`"),
    "image_urls": (message(image_urls="u"), "bad_value", "`image_urls`"),
    "old images_urls": (message(images_urls=[7]), "bad_value", "`image_urls`"),
    "file_urls": (message(file_urls=[None]), "bad_value", "`file_urls`"),
    "wait_for_response": (message(wait_for_response=1), "bad_value", "`wait_for_response`"),
    "risk": (message(security_risk=9), "bad_value", "`security_risk`"),
    "boolean risk": (message(security_risk=True), "bad_value", "`security_risk`"),
    "numeric state": (state(7), "bad_value", "`agent_state`"),
    "invented state": (state("dancing"), "bad_state", "`dancing`"),
    "huge integer": (message(security_risk=2**64), "bad_value", "`args.security_risk`"),
    "not a number": (message(timestamp=float("nan")), "bad_value", "`args.timestamp`"),
    "infinity": ({**MESSAGE, "id": float("inf")}, "bad_value", "`id`"),
    "lone surrogate": (message(content="\ud800"), "bad_value", "`args.content`"),
    "surrogate key": (message(**{"\ud800": 1}), "bad_value", "`args`"),
    "too deep": (message(timestamp=deep(64)), "bad_value", "64 levels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_event_is_refused_with_a_code_and_the_offending_key(case):
    payload, code, named = REFUSED[case]

    with pytest.raises(BadEvent) as refused:
        decode_client(payload)

    assert refused.value.code == code
    assert named in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    "key",
    [
        "id",
        "timestamp",
        "source",
        "cause",
        "llm_metrics",
        "tool_call_metadata",
        "message",
        "timeout",
        "edited_by",
        "partial",
        "interrupted",
        "turn",
    ],
)
def test_what_the_server_owns_is_refused_even_when_null(key):
    with pytest.raises(BadEvent, match=f"`{key}`") as refused:
        decode_client({**MESSAGE, key: None})

    assert refused.value.code == "forbidden_field"


@pytest.mark.parametrize("client_id", [None, 7, "", "x" * 129, "a\nb", "a\x00", "\x7f", "\x85"])
def test_a_client_id_must_be_short_printable_text(client_id):
    with pytest.raises(BadEvent, match="`client_id`") as refused:
        decode_client({**MESSAGE, "client_id": client_id})

    assert refused.value.code == "bad_client_id"


@pytest.mark.parametrize("client_id", ["k", "x" * 128, "ключ 🔑"])
def test_a_client_id_is_handed_back_and_put_in_the_event(client_id):
    taken = decode_client({**MESSAGE, "client_id": client_id})

    assert taken.client_id == taken.event.client_id == client_id
    assert encode(taken.event)["client_id"] == client_id


def test_a_message_as_browsers_send_it_is_taken():
    args = {"content": "hi", "image_urls": ["data:"], "file_urls": [], "timestamp": "2026-03-02"}

    taken = decode_client({"action": "message", "args": args})

    event = MessageAction(content="hi", image_urls=["data:"], file_urls=[])
    assert taken == ClientEvent(event, None)


def test_every_declared_argument_of_a_message_is_taken():
    taken = decode_client(message(wait_for_response=True, security_risk=2, image_urls=None))

    assert taken.event == MessageAction(
        content="hi", wait_for_response=True, security_risk=SecurityRisk.HIGH
    )


def test_the_old_spelling_of_image_urls_is_taken():
    assert decode_client(message(images_urls=["u"])).event == MessageAction(
        content="hi", image_urls=["u"]
    )


@pytest.mark.parametrize("value", TAKEN_STATES)
def test_a_client_may_ask_for_these_states(value):
    assert decode_client(state(value)).event == ChangeAgentStateAction(agent_state=value)


@pytest.mark.parametrize("value", sorted(set(AgentState) - set(TAKEN_STATES)))
def test_a_client_may_not_ask_for_any_other_state(value):
    with pytest.raises(BadEvent) as refused:
        decode_client(state(value))

    assert refused.value.code == "bad_state"


def test_a_state_may_be_asked_of_one_turn_and_is_stored_without_one_as_before():
    of_all, of_one = state("paused"), state("paused")
    of_one["args"]["of"] = 57

    assert "of" not in encode(decode_client(of_all).event)["args"]
    assert encode(decode_client(of_one).event)["args"]["of"] == 57


@pytest.mark.parametrize("kind", sorted(set(ACTIONS) - {"message", "change_agent_state"}))
def test_a_client_may_send_no_other_action(kind):
    with pytest.raises(BadEvent) as refused:
        decode_client({"action": kind, "args": {}})

    assert refused.value.code == "forbidden_kind"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
argument_names = st.sampled_from(["content", "image_urls", "images_urls", "security_risk", "x"])
attempts = st.fixed_dictionaries(
    {"action": st.sampled_from(["message", "change_agent_state", "run"])},
    optional={
        "args": st.dictionaries(argument_names, anything) | anything,
        "client_id": st.text(max_size=5),
    },
)


@given(attempts | anything)
def test_any_value_is_either_taken_and_storable_or_refused_and_never_changed(payload):
    before = copy.deepcopy(payload)

    with contextlib.suppress(BadEvent):
        taken = encode(decode_client(payload).event)
        assert orjson.loads(orjson.dumps(taken)) == taken

    assert payload == before
