from base64 import b64encode, urlsafe_b64encode

import orjson
import pytest
from hypothesis import given, strategies as st

from events.actions import MCPAction, MessageAction
from events.observations import AgentStateChangedObservation
from events.redaction import MASK, NEVER_MASKED, Redactor
from events.serialization import decode, encode

HIDDEN_TEXT = "hunter2-and-more"


def test_without_secrets_the_payload_itself_is_returned():
    payload = {"action": "message", "args": {"content": "a"}}

    assert Redactor().redact(payload) is payload
    assert Redactor({"A": "abc"}).redact(payload) is payload


def test_every_string_is_masked_wherever_it_stands():
    payload = {
        "message": f"say {HIDDEN_TEXT}",
        "client_id": HIDDEN_TEXT,
        "action": "message",
        "args": {
            "content": f"say {HIDDEN_TEXT}",
            "image_urls": [HIDDEN_TEXT, {"a": [f"<{HIDDEN_TEXT}>"]}],
        },
        "newer": {f"key {HIDDEN_TEXT}": 1, "cause": HIDDEN_TEXT, "id": HIDDEN_TEXT},
        f"field {HIDDEN_TEXT}": None,
    }

    masked = Redactor({"PASSWORD": HIDDEN_TEXT}).redact(payload)

    assert masked == {
        "message": f"say {MASK}",
        "client_id": MASK,
        "action": "message",
        "args": {"content": f"say {MASK}", "image_urls": [MASK, {"a": [f"<{MASK}>"]}]},
        "newer": {f"key {MASK}": 1, "cause": MASK, "id": MASK},
        f"field {MASK}": None,
    }


def test_the_payload_is_not_changed():
    payload = {"args": {"content": HIDDEN_TEXT, "list": [HIDDEN_TEXT]}}

    Redactor({"PASSWORD": HIDDEN_TEXT}).redact(payload)

    assert payload == {"args": {"content": HIDDEN_TEXT, "list": [HIDDEN_TEXT]}}


def test_the_structure_of_an_event_survives_secrets_made_of_protocol_words():
    words = ["message", "action", "args", "content", "agent_state", "running", "2026", "user"]
    redactor = Redactor({word: word for word in words})
    said = encode(MessageAction(content="my message", id=4, timestamp="2026-03-02")) | {
        "source": "user"
    }
    state = encode(AgentStateChangedObservation(agent_state="running", reason="running"))

    masked, masked_state = redactor.redact(said), redactor.redact(state)

    assert (masked["action"], masked["source"], masked["timestamp"]) == (
        "message",
        "user",
        "2026-03-02",
    )
    assert decode(masked) == MessageAction(
        content=f"my {MASK}", id=4, timestamp="2026-03-02", source=decode(said).source
    )
    assert masked_state["extras"] == {"agent_state": "running", "reason": MASK}


def test_secrets_are_added_and_never_forgotten():
    redactor = Redactor({"TOKEN": "first-token"})

    redactor.update({"OTHER": "other-secret"})
    redactor.update({"TOKEN": "second-token"})

    text = "first-token other-secret second-token"
    assert redactor.redact_text(text) == f"{MASK} {MASK} {MASK}"


@pytest.mark.parametrize("value", ["", "a", "abc"])
def test_values_shorter_than_four_characters_are_ignored(value):
    assert Redactor({"A": value}).redact_text("abcabc") == "abcabc"


def test_of_two_secrets_at_one_place_the_longer_is_masked():
    redactor = Redactor({"SHORT": "abcd", "LONG": "abcdefgh"})

    assert redactor.redact_text("abcdefgh-abcd") == f"{MASK}-{MASK}"


def test_overlapping_secrets_are_masked_as_one():
    redactor = Redactor({"A": "abcdef", "B": "defghi", "C": "aaaa"})

    assert redactor.redact_text("-abcdefghi-") == f"-{MASK}-"
    assert redactor.redact_text("-aaaaaa-") == f"-{MASK}-"
    assert redactor.redact_text("aaaabbaaaa") == f"{MASK}bb{MASK}"


def test_a_text_full_of_secrets_is_masked_to_its_end():
    redactor = Redactor({"A": "aaaa", "B": "abcd"})

    masked = redactor.redact_text("a" * 200_000 + "abcd" * 20_000 + "rest")

    assert not {"aaaa", "abcd"} & {masked[at : at + 4] for at in range(len(masked))}
    assert masked.endswith(f"{MASK}rest")


def test_characters_with_a_meaning_in_patterns_are_plain_text():
    assert Redactor({"A": "a.*(b|"}).redact_text("axxb a.*(b|") == f"axxb {MASK}"


@pytest.mark.parametrize("secret", ['quote"quote', "line\nline", "it's\tmine", "schlüssel-ü"])
def test_a_secret_is_masked_where_a_text_quotes_it(secret):
    redactor = Redactor({"A": secret})
    called = encode(MCPAction(name="tool", arguments={"key": secret}))

    masked = redactor.redact(called)

    assert f"{{'key': '{MASK}'}}" in masked["message"].replace('"', "'")
    assert redactor.redact_text(orjson.dumps([secret]).decode()) == f'["{MASK}"]'


def test_the_redactor_does_not_show_what_it_hides():
    assert HIDDEN_TEXT not in repr(Redactor({"PASSWORD": HIDDEN_TEXT}))


# Upper case, so that no secret is a word of the protocol or a part of the mask.
secrets = st.dictionaries(st.text(max_size=3), st.text("ABC", min_size=4, max_size=9), max_size=4)
texts = st.text("ABCx ", max_size=20)
payloads = st.dictionaries(
    st.sampled_from(["message", "args", "extras", "content", "client_id", "id", "action"]) | texts,
    st.recursive(
        texts | st.integers(0, 9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=10,
    ),
)


@given(secrets, payloads)
def test_no_secret_remains_outside_the_envelope(named, payload):
    masked = Redactor(named).redact(payload)

    visible = orjson.dumps({k: v for k, v in masked.items() if k not in NEVER_MASKED}).decode()
    assert not [value for value in named.values() if value in visible]
    assert {k: masked[k] for k in NEVER_MASKED & masked.keys()} == {
        k: payload[k] for k in NEVER_MASKED & payload.keys()
    }


@given(st.binary(min_size=0, max_size=5), st.binary(min_size=8, max_size=20), st.binary(max_size=5))
def test_no_base64_of_a_secret_is_left_whatever_stands_around_it(before, secret, after):
    value = secret.hex()[:8] + "-\N{KEY}?"
    redactor = Redactor({"PASSWORD": value})
    raw = before + value.encode() + after

    for encode_bytes in (b64encode, urlsafe_b64encode):
        masked = redactor.redact_text(encode_bytes(raw).decode())
        assert MASK in masked
        assert len(masked.replace(MASK, "")) <= len(encode_bytes(before + after)) + 4


def test_a_short_secret_is_not_looked_for_in_base64():
    text = b64encode(b"a picture with pass in it").decode()

    assert Redactor({"PASSWORD": "pass"}).redact_text(text) == text


def test_a_secret_is_masked_without_the_line_break_it_was_pasted_with():
    redactor = Redactor({"PASSWORD": f" {HIDDEN_TEXT}\n"})

    assert redactor.redact_text(f"<{HIDDEN_TEXT}>") == f"<{MASK}>"


def test_a_secret_of_many_lines_is_masked_line_by_line():
    redactor = Redactor({"KEY": "-----BEGIN-----\nfirst line of it\n  second line of it\nend\n"})

    assert redactor.redact_text("second line of it first line of it") == f"{MASK} {MASK}"
    assert redactor.redact_text("this is the end") == "this is the end"


def test_a_secret_of_very_many_lines_is_masked_as_a_whole():
    value = "\n".join(f"line number {number}" for number in range(101))
    redactor = Redactor({"KEY": value})

    assert redactor.redact_text(f"<{value}>") == f"<{MASK}>"
    assert redactor.redact_text("line number 7") == "line number 7"
