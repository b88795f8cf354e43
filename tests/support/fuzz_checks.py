"""The checks of every answer to random input; each tells whether the input was taken."""

import json
import tempfile
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from events.client_events import decode_client
from events.errors import BadEvent
from events.recording import read_recording
from events.search.said import microseconds_of
from events.serialization import decode, encode
from events.stores.files.format import (
    encode_head,
    events_in,
    head_in,
    read_frames,
    seed_of,
)
from events.strictness import refusal_of
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.errors import Refused
from server.routes.conversations import ListQuery
from server.routes.events import EventQuery
from server.routes.search import FindQuery, cursor_behind, place_in
from server.sockets.protocol import ClientPacket, Handshake, parse_event, parse_handshake
from storage.conversations.paging import ListPosition
from storage.errors import BadCursor, BadValue, Damaged, WrongKey
from storage.files.format import with_checksum
from storage.sealing.cipher import Cipher
from storage.search.base import MAX_PLACE, place_at
from storage.users.codecs import decode_settings, encode_settings
from storage.users.settings import Settings

LONGEST_REFUSAL = 600
SEED = seed_of("c")
FOLDER = tempfile.TemporaryDirectory(prefix="parley-fuzz-")
TOML_FILE = Path(FOLDER.name) / "parley.toml"
CIPHER = Cipher(bytes(32))


def _readable(text: str) -> None:
    assert text
    assert len(text) <= LONGEST_REFUSAL, text
    assert text.isprintable(), ascii(text)
    text.encode()


def check_client_event(payload: Any) -> bool:
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


def check_stored_event(payload: Any) -> bool:
    try:
        event = decode(payload)
    except BadEvent as refused:
        _readable(str(refused))
        return False
    written = encode(event)
    assert encode(decode(written)) == written
    return True


def check_any_value(value: Any) -> bool:
    refusal = refusal_of(value)
    if refusal is not None:
        _readable(refusal)
        return False
    assert orjson.loads(orjson.dumps(value)) == value
    return True


def check_packet(message: bytes) -> bool:
    packet = parse_event(message)
    if packet is None:
        return False
    assert isinstance(packet, ClientPacket)
    digits = b"" if packet.ack_id is None else b"%d" % packet.ack_id
    again = b"42%b%b" % (digits, orjson.dumps([packet.event, *packet.arguments]))
    assert parse_event(again) == packet
    for payload in packet.arguments:
        check_client_event(payload)
    return True


def check_handshake(query: str) -> bool:
    try:
        handshake = parse_handshake(query)
    except Refused as refused:
        _readable(str(refused))
        return False
    assert isinstance(handshake, Handshake)
    assert handshake.latest_event_id >= -1
    return True


def check_cursor(text: str) -> bool:
    try:
        position = ListPosition.from_page_id(text)
    except BadCursor as refused:
        _readable(str(refused))
        return False
    assert position is None or position.to_page_id() == text
    return position is not None


def check_search_cursor(text: str) -> bool:
    try:
        place = place_in(text)
    except BadCursor as refused:
        _readable(str(refused))
        return False
    assert 0 <= place <= MAX_PLACE
    assert cursor_behind(place) == text
    return True


def check_frames(content: bytes) -> bool:
    events = events_in(SEED, content)
    head = head_in(SEED, content)
    for event_id, event in events.items():
        orjson.loads(event.body)
        assert event.id == event_id
    # Reading goes on behind damage, so that a sound head may stand behind some.
    if head is not None:
        assert encode_head(SEED, head) in content
    return any(frame.body is not None for frame in read_frames(SEED, content))


def check_recording(text: str) -> bool:
    try:
        recording = read_recording(text)
    except BadEvent as refused:
        _readable(str(refused))
        return False
    for action in (recording.first_message, *recording.actions):
        assert encode(decode(encode(action))) == encode(action)
    return True


def check_user_settings(text: bytes) -> bool:
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


def check_stored_settings(body: bytes) -> bool:
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


def check_query(given: dict[str, str]) -> bool:
    taken = True
    for model in (ListQuery, EventQuery, FindQuery):
        try:
            query = model.model_validate({"q": "text"} | given)  # the only one that is required
        except ValidationError as refused:
            _readable(refused.errors(include_url=False, include_input=False)[0]["msg"][:500])
            taken = False
            continue
        if isinstance(query, EventQuery):
            query.filter()
        if isinstance(query, FindQuery) and query.since is not None:
            assert 0 <= place_at(microseconds_of(query.since)) <= MAX_PLACE
    return taken


def check_configuration(given: tuple[dict[str, Any], str]) -> bool:
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
