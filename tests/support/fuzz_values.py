"""Random input from outside: texts, JSON, and both bent out of shape."""

from typing import Any

import orjson
from hypothesis import strategies as st

from events.actions import ACTIONS
from events.event import AgentState, EventSource
from events.observations import OBSERVATIONS

KINDS = sorted(ACTIONS.keys() | OBSERVATIONS.keys())
NUMBERS = st.sampled_from(
    (0, -1, 1, 2**53, 2**63, 2**64, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308, float("inf"), 5e-324)
)
WORDS = st.sampled_from(
    (
        "",
        " ",
        "null",
        "undefined",
        "..",
        "a/b",
        "task-1",
        "\x00",
        "\ud800",
        "\u202e",
        "é",
        "\U0001f600",
        "a" * 200,
        "-1",
        "²",
        "٣",
        "-²",
        "9" * 17,
        "9" * 5000,
        "1e3",
        "%00",
        "<b>",
        "{}",
        *(state.value for state in AgentState),
        *(source.value for source in EventSource),
    )
)
ANY_TEXT = st.one_of(WORDS, st.text(max_size=12), st.text("abcdefghij_-.0123456789", max_size=12))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.integers(), st.floats(), ANY_TEXT)
NAMES = st.one_of(
    st.sampled_from(
        (
            "action",
            "observation",
            "args",
            "extras",
            "content",
            "client_id",
            "id",
            "source",
            "timestamp",
            "message",
            "cause",
            "image_urls",
            "images_urls",
            "file_urls",
            "agent_state",
            "thought",
            "security_risk",
            "command",
            "path",
            "metadata",
            "timeout",
            "llm_metrics",
            "success",
            "recall_type",
            "outputs",
            "code",
        )
    ),
    ANY_TEXT,
)


def _json(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3))


VALUES = st.recursive(SCALARS, _json, max_leaves=5)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
EVENTS = st.fixed_dictionaries(
    {st_name: st.one_of(st.sampled_from(KINDS), SCALARS) for st_name in ("action",)},
    optional={
        "args": st.one_of(OBJECTS, SCALARS),
        "client_id": SCALARS,
        "observation": st.sampled_from(KINDS),
        "extras": OBJECTS,
        "source": SCALARS,
        "id": SCALARS,
        "timeout": SCALARS,
    },
)
MESSAGES = st.builds(
    lambda args, client_id: {"action": "message", "args": args} | client_id,
    st.fixed_dictionaries(
        {"content": ANY_TEXT},
        optional={
            "image_urls": st.lists(ANY_TEXT, max_size=2),
            "wait_for_response": st.booleans(),
            "security_risk": st.integers(-2, 3),
        },
    ),
    st.one_of(st.just({}), st.builds(lambda key: {"client_id": key}, ANY_TEXT)),
)
PAYLOADS = st.one_of(MESSAGES, EVENTS, OBJECTS, SCALARS)


def encodable(value: Any) -> bytes:
    """The JSON of a value; of one that has none, that of its text."""
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        return orjson.dumps(ascii(value))
