"""What is given random input, and what must hold of every answer."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st
from pydantic import ValidationError

from events.actions import ACTIONS
from events.client_events import decode_client
from events.errors import BadEvent
from events.event import AgentState, StoredEvent
from events.replay import read_recording
from events.serialization import decode, encode
from events.stores.frames import (
    EMPTY,
    FrameKind,
    encode_events,
    encode_frame,
    encode_head,
    events_in,
    head_in,
    read_frames,
    seed_of,
)
from events.strictness import refusal_of
from server.config import ServerConfig
from server.routes.conversations import ListQuery
from server.routes.events import EventQuery
from server.sockets.protocol import ClientPacket, Handshake, Refused, parse_event, parse_handshake
from server.sources import PLAIN_VARIABLES, ConfigError, variable_names
from storage.conversations.paging import ListPosition
from storage.errors import BadCursor, BadValue, Damaged, WrongKey
from storage.files.checked import with_checksum
from storage.secrets.cipher import Cipher
from storage.settings.document import decode_settings, encode_settings
from storage.settings.model import Settings
from tests.support.fuzz_values import (
    ANY_TEXT,
    MESSAGES,
    OBJECTS,
    PAYLOADS,
    SCALARS,
    VALUES,
    encodable,
)

LONGEST_REFUSAL = 600
SEED = seed_of("c")
FOLDER = tempfile.TemporaryDirectory(prefix="parley-fuzz-")
TOML_FILE = Path(FOLDER.name) / "parley.toml"
CIPHER = Cipher(bytes(32))


@dataclass(frozen=True)
class Target:
    """One door: `check` tells whether it took an input, and fails when anything is amiss."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], bool]


def _readable(text: str) -> None:
    assert text
    assert len(text) <= LONGEST_REFUSAL, text
    assert text.isprintable(), ascii(text)
    text.encode()


def _client_event(payload: Any) -> bool:
    before = ascii(payload)
    try:
        event, client_id = decode_client(payload)
    except BadEvent as refused:
        _readable(f"{refused.code}: {refused}")
        return False
    finally:
        assert ascii(payload) == before
    written = encode(event)
    again = orjson.loads(orjson.dumps(written))
    assert again == written
    assert decode(again) == event
    assert event.client_id == client_id
    return True


def _stored_event(payload: Any) -> bool:
    try:
        event = decode(payload)
    except BadEvent as refused:
        _readable(str(refused))
        return False
    written = encode(event)
    assert encode(decode(written)) == written
    return True


def _any_value(value: Any) -> bool:
    refusal = refusal_of(value)
    if refusal is not None:
        _readable(refusal)
        return False
    assert orjson.loads(orjson.dumps(value)) == value
    return True


def _packet(message: bytes) -> bool:
    packet = parse_event(message)
    if packet is None:
        return False
    assert isinstance(packet, ClientPacket)
    digits = b"" if packet.ack_id is None else b"%d" % packet.ack_id
    again = b"42%b%b" % (digits, orjson.dumps([packet.event, *packet.arguments]))
    assert parse_event(again) == packet
    for payload in packet.arguments:
        _client_event(payload)
    return True


def _handshake(query: str) -> bool:
    try:
        handshake = parse_handshake(query)
    except Refused as refused:
        _readable(str(refused))
        return False
    assert isinstance(handshake, Handshake)
    assert handshake.latest_event_id >= -1
    return True


def _cursor(text: str) -> bool:
    try:
        position = ListPosition.from_page_id(text)
    except BadCursor as refused:
        _readable(str(refused))
        return False
    assert position is None or position.to_page_id() == text
    return position is not None


def _frames(content: bytes) -> bool:
    events = events_in(SEED, content)
    head = head_in(SEED, content)
    for event_id, event in events.items():
        orjson.loads(event.body)
        assert event.id == event_id
    assert encode_head(SEED, head) == content[: len(encode_head(SEED, head))] if head else True
    return any(frame.body is not None for frame in read_frames(SEED, content))


def _recording(text: str) -> bool:
    try:
        recording = read_recording(text)
    except BadEvent as refused:
        _readable(str(refused))
        return False
    for action in (recording.first_message, *recording.actions):
        assert encode(decode(encode(action))) == encode(action)
    return True


def _user_settings(text: bytes) -> bool:
    try:
        change = Settings.model_validate_json(text, strict=True)
    except ValidationError as refused:
        _readable(refused.errors(include_url=False, include_input=False)[0]["msg"][:500])
        return False
    try:
        merged = Settings().merged(change)
    except BadValue:
        return False
    orjson.dumps(merged.shown())
    assert merged.merged(Settings()) == merged
    return True


def _stored_settings(body: bytes) -> bool:
    """With the right checksum and without: what else is wrong must be told, too."""
    taken = False
    for raw in (body, with_checksum("settings", body)):
        try:
            settings = decode_settings(raw, None, CIPHER)
        except (Damaged, WrongKey) as refused:
            _readable(str(refused))
            continue
        again = decode_settings(encode_settings(settings, None, CIPHER), None, CIPHER)
        assert again.masks() == settings.masks()
        assert again.shown() == settings.shown()
        taken = True
    return taken


def _query(given: dict[str, str]) -> bool:
    taken = True
    for model in (ListQuery, EventQuery):
        try:
            query = model.model_validate(given)
        except ValidationError as refused:
            _readable(refused.errors(include_url=False, include_input=False)[0]["msg"][:500])
            taken = False
            continue
        if isinstance(query, EventQuery):
            query.filter()
    return taken


def _configuration(given: tuple[dict[str, Any], str]) -> bool:
    variables, toml = given
    environ = {name: str(value) for name, value in variables.items()}
    TOML_FILE.write_bytes(str(toml).encode(errors="surrogatepass"))
    try:
        config = ServerConfig.load(environ=environ, toml_path=TOML_FILE)
    except ConfigError as refused:
        text = str(refused)
        assert text
        assert len(text.splitlines()) == 1, ascii(text)
        return False
    json.dumps(config.masked())
    return True


def _query_text(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs)


SAID = {"source": "user", "action": "message", "args": {"content": "Again"}}
DONE = st.builds(
    lambda kind, args: {"source": "agent", "action": kind, "args": args},
    st.sampled_from(sorted(ACTIONS)),
    st.fixed_dictionaries(
        dict.fromkeys(("content", "command", "code", "path", "thought"), ANY_TEXT)
    ),
)
STATES = st.builds(
    lambda state: {"action": "change_agent_state", "args": {"agent_state": state}},
    st.sampled_from(AgentState).map(str),
)
QUERY_NAMES = st.sampled_from(
    ("conversation_id", "latest_event_id", "providers_set", "session_api_key", "EIO", "é")
)
PARAMETERS = st.sampled_from(sorted({*ListQuery.model_fields, *EventQuery.model_fields}))
MOMENTS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-W01", "1e9")),
)
VARIABLES = st.sampled_from([*variable_names(ServerConfig), *PLAIN_VARIABLES])
TOML_VALUES = st.one_of(
    st.sampled_from(("true", "1", "-1", "1e400", "[]", "{}", '""', "nan", "inf", "1979-05-27")),
    ANY_TEXT.map(lambda text: orjson.dumps(ascii(text)).decode()),
)
TOML = st.lists(
    st.builds(
        lambda name, value: f"{name} = {value}\n",
        st.one_of(st.sampled_from([*ServerConfig.model_fields, "storage"]), ANY_TEXT),
        TOML_VALUES,
    ),
    max_size=3,
).map("".join)
SETTINGS_BODIES = st.dictionaries(
    st.one_of(st.sampled_from([*Settings.model_fields]), ANY_TEXT),
    st.one_of(VALUES, OBJECTS),
    max_size=5,
).map(encodable)
EVENT_BODIES = st.builds(
    lambda number, flag, value: StoredEvent(number, flag, encodable(value)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2),
    OBJECTS,
)
SEGMENTS = st.builds(
    lambda head, events: (
        encode_head(SEED, EMPTY._replace(next_id=head, epoch="e"))
        + encode_frame(SEED, FrameKind.KEYS, 0, b"")
        + encode_events(SEED, events)
    ),
    st.integers(0, 2**32 - 1),
    st.lists(EVENT_BODIES, max_size=3),
)
PACKETS = st.builds(
    lambda ack, name, payload: b"42%b[%b,%b]" % (ack, encodable(name), encodable(payload)),
    st.sampled_from((b"", b"0", b"17", b"-1", b"9" * 15, b"9" * 16, b"1.5", "²".encode())),
    st.one_of(st.sampled_from(("oh_user_action", "oh_action")), SCALARS),
    PAYLOADS,
)
PAGE_IDS = st.builds(
    lambda moment, text: f"{moment}{text}" if text else moment,
    st.builds(
        lambda moment, one: ListPosition(moment, one).to_page_id(),
        st.datetimes(timezones=st.just(UTC)),
        st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True),
    ),
    st.sampled_from(("", "", "=", "A", "é")),
)

RECORDINGS = st.lists(st.one_of(DONE, DONE, PAYLOADS), max_size=4).map(
    lambda some: encodable([SAID, *some]).decode()
)
STORED_BODIES = st.builds(
    lambda values: encodable({"values": values, "sealed": {}}),
    st.dictionaries(st.sampled_from([*Settings.model_fields]), st.one_of(SCALARS, VALUES)),
)
TEXTS_OF_QUERIES = st.dictionaries(PARAMETERS, st.one_of(ANY_TEXT, MOMENTS), max_size=4)
TARGETS = (
    Target("client events", st.one_of(MESSAGES, MESSAGES, STATES, PAYLOADS), _client_event),
    Target("stored events", st.one_of(DONE, PAYLOADS), _stored_event),
    Target("values", VALUES, _any_value),
    Target("packets", PACKETS, _packet),
    Target(
        "handshakes",
        st.lists(st.tuples(QUERY_NAMES, ANY_TEXT), max_size=4).map(_query_text),
        _handshake,
    ),
    Target("cursors", PAGE_IDS, _cursor),
    Target("log segments", SEGMENTS, _frames),
    Target("recordings", RECORDINGS, _recording),
    Target("settings of users", SETTINGS_BODIES, _user_settings),
    Target("stored settings", STORED_BODIES, _stored_settings),
    Target("queries", TEXTS_OF_QUERIES, _query),
    Target(
        "configurations",
        st.tuples(st.dictionaries(VARIABLES, ANY_TEXT, max_size=3), TOML),
        _configuration,
    ),
)
"""Every door; each takes the same share of the inputs."""
