import tracemalloc
from base64 import b64encode, urlsafe_b64encode
from itertools import groupby
from unicodedata import normalize

import orjson
import pytest
from hypothesis import given, strategies as st

from events.actions import MCPAction, MessageAction
from events.observations import AgentStateChangedObservation
from events.redaction import MASK, NEVER_MASKED, Redactor
from events.secret_patterns import _in_base64, is_weak
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
        "client_id": HIDDEN_TEXT,
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
    redactor = Redactor({"A": "abcdef12", "B": "ef12ghij", "C": "a1a1a1a1"})

    assert redactor.redact_text("-abcdef12ghij-") == f"-{MASK}-"
    assert redactor.redact_text("-a1a1a1a1a1a1-") == f"-{MASK}-"
    assert redactor.redact_text("a1a1a1a1bba1a1a1a1") == f"{MASK}bb{MASK}"


def test_a_text_full_of_secrets_is_masked_to_its_end():
    redactor = Redactor({"A": "a1a1a1a1", "B": "a1bca1bc"})

    masked = redactor.redact_text("a1" * 200_000 + "a1bc" * 20_001 + "rest")

    assert masked == f"{MASK}rest"


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
# Long enough to be masked within words, too.
secrets = st.dictionaries(st.text(max_size=3), st.text("ABC", min_size=16, max_size=18), max_size=4)
texts = st.text("ABCx ", max_size=40)
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


@pytest.mark.parametrize(
    ("value", "hidden", "shown"),
    [
        (
            "NODE_ENV=production\nAPI_TOKEN=tr0ub4dor-and-3\n",
            ["tr0ub4dor-and-3"],
            ["NODE_ENV=production", "production", "API_TOKEN"],
        ),
        (
            "kind=test\n  PASSWORD=test\nPIN=1234\n",
            ["PASSWORD=test"],
            ["test", "kind=test", "PASSWORD=", "PIN=1234"],
        ),
        (
            (
                "kind: Config\nusers:\n- name: admin\n  user:\n    token: k8s-aws-v1.token\n"
                "    client-key-data: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JSUV2UQ==\n"
            ),
            ["k8s-aws-v1.token", "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JSUV2UQ"],
            ["kind: Config", "kind: ConfigMap", "users:", "- name: admin"],
        ),
        (
            (
                "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA\n"
                "-----END PRIVATE KEY-----"
            ),
            ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA"],
            ["-----BEGIN PRIVATE KEY-----"],
        ),
        (
            '{"type": "service_account", "client_secret": "s3cr3t-of-it", "project": "demo"}',
            ["s3cr3t-of-it"],
            ["service_account", '"project": "demo"'],
        ),
        (
            "https://ada:horse+staple@git.example\nhttps://bob:short@git.example\n",
            ["horse+staple", "bob:short@"],
            ["https://ada:", "@git.example", "short"],
        ),
        (
            "postgres://app:p%40ss-w0rd-1@db.example/app\n",
            ["p%40ss-w0rd-1", "p@ss-w0rd-1"],
            ["postgres://app:", "db.example/app"],
        ),
        (
            "machine a.example\n  login ada\n  password correct-horse-7\n",
            ["correct-horse-7"],
            ["machine a.example", "login ada", "password"],
        ),
        (
            "user=me\npw=Hh72hhsGGk\npasscode: 73hh-22gg\n",
            ["Hh72hhsGGk", "73hh-22gg"],
            ["user=me", "pw="],
        ),
        (
            "password: ${DB_PASSWORD}\ntoken: /run/secrets/token\nfirst line of it\n",
            [],
            ["${DB_PASSWORD}", "/run/secrets/token", "first line of it"],
        ),
    ],
)
def test_of_a_secret_of_many_lines_what_is_secret_by_itself_is_masked_alone(value, hidden, shown):
    redactor = Redactor({"FILE": value})

    assert redactor.redact_text(f"<{value}>") == f"<{MASK}>"
    assert redactor.redact_text(value.replace("\n", "\r\n").strip()) == MASK
    for part in hidden:
        assert redactor.redact_text(f"x{part}y") == f"x{MASK}y"
    for part in shown:
        assert redactor.redact_text(part) == part


@pytest.mark.parametrize("value", ["2024", "test", "production", "my-app", "12345678", "us-east"])
def test_a_value_that_occurs_by_chance_is_masked_as_a_whole_word_only(value):
    redactor = Redactor({"WEAK": value})

    for within in (f"x{value}", f"{value}ing", f"my_{value}", f"{value}_id", f"a{value}\u00e9"):
        assert redactor.redact_text(within) == within
    for alone in (value, f"({value})", f"a-{value}.", f"\u5bc6{value}\u7801", f"x {value}\n"):
        assert redactor.redact_text(alone) == alone.replace(value, MASK)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_secret_is_masked_whichever_way_its_accents_are_written(form):
    secret = normalize(form, "p\u00e4ssw\u00f6rter-99x")
    redactor = Redactor({"WHOLE": secret, "PART": f"a=1\npassword={secret}2\n"})

    for other in ("NFC", "NFD"):
        for text in (secret, f"{secret}2", f"in {secret}\u00e9"):
            written = normalize(other, text)
            assert normalize(other, secret) not in redactor.redact_text(written)


def test_white_space_is_no_secret():
    assert Redactor({"A": "     ", "B": "\n\n\n\n\n"}).redact_text("     x\n\n\n\n\n") == (
        "     x\n\n\n\n\n"
    )


@pytest.mark.parametrize("value", ["2024", "word", "production", "20242024"])
@pytest.mark.parametrize("around", ["AAAA", "AA+", "A/", "=="])
def test_a_picture_is_not_broken_by_a_value_that_occurs_by_chance(value, around):
    picture = f"data:image/png;base64,iVBOR{around}{value}{around}AAAA="
    run = "A" * 60 + around + value + around + "B" * 60
    inside = b64encode(f"Environment: {value} x".encode()).decode()

    redactor = Redactor({"WEAK": value})

    for text in (
        picture,
        picture.replace("base64", "BASE64"),
        run,
        f"data:image/png;base64,{inside}",
    ):
        assert redactor.redact_text(text) == text
    assert redactor.redact_text(f"{picture} {value}") == f"{picture} {MASK}"


def test_the_base64_of_a_plain_word_is_masked_where_it_stands_alone():
    redactor = Redactor({"PASSWORD": "correct-horse-7"})

    for raw in (b"correct-horse-7", b"correct-horse-7\n"):
        text = f"password: {b64encode(raw).decode()}\n"
        assert redactor.redact_text(text).startswith(f"password: {MASK}")


def test_a_value_told_later_does_not_uncover_one_told_before():
    redactor = Redactor({"A": "abcdef12", "B": "other-3333"})

    redactor.update({"C": "ef12ghij"})

    assert redactor.redact_text("-abcdef12ghij-other-3333") == f"-{MASK}-{MASK}"


def test_however_often_values_are_told_all_of_them_stay_masked():
    redactor = Redactor()
    values = [f"value-number-{number:03}" for number in range(40)]

    for value in values:
        redactor.update({"A": value})

    assert redactor.redact_text(" ".join(values)) == " ".join([MASK] * 40)
    assert all(redactor.may_change(value.encode()) for value in values)


def test_conversations_that_know_the_same_share_what_is_compiled_of_it():
    values = {"A": "abcdef12", "B": "other-3333"}
    first, second = Redactor(values), Redactor({"A": "abcdef12"})

    second.update(values)

    assert first._told[0] is second._told[0]


def test_a_secret_of_very_many_lines_is_masked_as_a_whole():
    value = "\n".join(f"line number {number}" for number in range(101))
    redactor = Redactor({"KEY": value})

    assert redactor.redact_text(f"<{value}>") == f"<{MASK}>"
    assert redactor.redact_text("line number 7") == "line number 7"


# Few characters, so that values overlap themselves, each other, and their longer heads.
strong_values = st.text("A1-", min_size=8, max_size=20).filter(lambda value: not is_weak(value))
long_values = st.text("A1", min_size=60, max_size=90).filter(lambda value: not is_weak(value))
value_sets = st.lists(strong_values | long_values, min_size=1, max_size=5)


def masked_by_hand(values, text):
    """Mask every occurrence of every spelling, found one by one."""
    spellings = {
        spelling
        for value in values
        for form in {value, value.strip()}
        for spelling in {form} | _in_base64(form.encode())
    }
    hidden = [False] * len(text)
    for spelling in spellings:
        at = text.find(spelling)
        while at >= 0:
            hidden[at : at + len(spelling)] = [True] * len(spelling)
            at = text.find(spelling, at + 1)
    runs = groupby(zip(hidden, text, strict=True), key=lambda pair: pair[0])
    return "".join(MASK if is_hidden else "".join(c for _, c in run) for is_hidden, run in runs)


@given(value_sets, st.data())
def test_exactly_what_is_secret_is_masked(values, data):
    pieces = st.sampled_from([*values, *(value[:-1] for value in values)]) | st.text("A1-x ")
    text = "".join(data.draw(st.lists(pieces, max_size=8)))
    # Parts of these values are none: neither has a name or looks random.
    redactor = Redactor({str(place): value for place, value in enumerate(values)})

    assert redactor.redact_text(text) == masked_by_hand(values, text)


CODE = (
    "export const latest = require('./test-utils'); // production 2024-01-02, main branch\n",
    "kind: ConfigMap\nmetadata:\n  name: my-app-config\n  labels: {env: production}\n",
    "def test_main(user, password=None, token=${TOKEN}): return base64.b64decode(user.key)\n",
    "SELECT id, secret_hidden FROM prod.users WHERE created_at > '2024-12-31' -- root\n",
    "\u914d\u7f6e\u6587\u4ef6\u4e2d\u7684\u5bc6\u7801 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301\n",
    "data:image/png;base64," + b64encode(bytes(range(256))).decode(),
)
BESIDE_CODE = {
    "DOTENV": "NODE_ENV=test\nKIND=main\nDB_PASSWORD=fgh-4711-x\n",
    "KUBECONFIG": "apiVersion: v1\nkind: Config\ncurrent-context: prod\ntoken: zZ9-yY8-xX7-wW6\n",
    "YEAR": "4202",
    "NAME": "duction",
    "KEY": "sk-0123456789abcdef",
}


@given(st.lists(st.sampled_from(CODE), min_size=1, max_size=20).map("".join))
def test_a_text_without_a_secret_is_not_changed(text):
    assert Redactor(BESIDE_CODE).redact_text(text) is text


def test_many_long_secrets_are_compiled_and_searched_in_little_memory():
    lines = "\n".join("line {0} of secret {1}: " + "x" * 630 for _ in range(100))
    values = {str(n): lines.replace("{1}", str(n)).replace("{0}", "7") for n in range(12)}
    text = "one line of plain text after another\n" * 120_000
    tracemalloc.start()

    redactor = Redactor(values)
    unchanged = redactor.redact_text(text)
    masked = redactor.redact_text(f"{text}{values['3']}{text}")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert unchanged is text
    assert masked == f"{text}{MASK}{text}"
    assert peak < 100 * 1024 * 1024
