"""Drafts: the short way to a message that is only a text gives what the long way gives."""

from hypothesis import given, strategies as st

from events.actions import MessageAction
from events.batch import draft_of, draft_of_text
from events.client_events import decode_client, text_of
from events.errors import BadEvent
from events.event import EventSource
from events.serialization import encode_new

ASCII = st.text(st.characters(max_codepoint=127))
MARKS = st.sampled_from(("<text>", "<id>", '"<text>"', ',"client_id":"<id>"'))
VALUES = st.one_of(ASCII, MARKS, st.text(), st.none(), st.integers(), st.lists(ASCII))
PAYLOADS = st.fixed_dictionaries(
    {"action": st.sampled_from(("message", "change_agent_state", None))},
    optional={
        "args": st.one_of(
            st.none(),
            st.fixed_dictionaries({"content": VALUES}),
            st.dictionaries(st.sampled_from(("content", "image_urls", "timestamp")), VALUES),
        ),
        "client_id": VALUES,
        "id": st.integers(),
    },
)


@given(ASCII | MARKS, st.none() | ASCII | MARKS, st.sampled_from(EventSource))
def test_a_text_s_draft_is_that_of_its_message(text, client_id, source):
    payload = encode_new(MessageAction(content=text), source, client_id)

    assert draft_of_text(text, source, client_id) == draft_of(payload)


@given(PAYLOADS)
def test_what_is_taken_for_a_text_is_what_the_strict_door_takes(payload):
    short = _outcome(text_of, payload)
    strict = _outcome(decode_client, payload)

    if isinstance(short, str):
        assert strict == short
    elif short is not None:
        text, client_id = short
        assert strict == (MessageAction(content=text, client_id=client_id), client_id)


def test_a_plain_message_takes_the_short_way():
    assert text_of({"action": "message", "args": {"content": "hi"}}) == ("hi", None)
    asked = {"action": "message", "args": {"content": "hi"}, "client_id": "k"}
    assert text_of(asked) == ("hi", "k")


def _outcome(read, payload):
    try:
        return read(payload)
    except BadEvent as error:
        return f"{error.code}: {error}"
