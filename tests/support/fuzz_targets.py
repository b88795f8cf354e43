"""The targets of random input: every decoder of bytes from outside or from a medium."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import orjson
from hypothesis import strategies as st

from events.actions import ACTIONS
from events.event import AgentState, StoredEvent
from events.stores.files.format import (
    EMPTY,
    FrameKind,
    encode_events,
    encode_frame,
    encode_head,
)
from server.config.settings import ServerConfig
from server.config.sources import PLAIN_VARIABLES, variable_names
from server.routes.conversations import ListQuery
from server.routes.events import EventQuery
from server.routes.search import CURSOR, FindQuery
from storage.conversations.paging import ListPosition
from storage.result_set import encode_cursor
from storage.search.base import MAX_PLACE
from storage.users.settings import Settings
from tests.support.fuzz_checks import (
    SEED,
    check_any_value,
    check_client_event,
    check_configuration,
    check_cursor,
    check_frames,
    check_handshake,
    check_packet,
    check_query,
    check_recording,
    check_search_cursor,
    check_stored_event,
    check_stored_settings,
    check_user_settings,
)
from tests.support.fuzz_values import (
    ANY_TEXT,
    MESSAGES,
    OBJECTS,
    PAYLOADS,
    SCALARS,
    VALUES,
    WORDS,
    encodable,
)


@dataclass(frozen=True)
class Target:
    """One door: `check` tells whether it took an input, and fails when anything is amiss."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], bool]


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
HANDSHAKES = st.builds(
    lambda first, cursor, rest: _query_text([*first, ("latest_event_id", cursor), *rest]),
    st.sampled_from(([], [("conversation_id", "a")])),
    WORDS,
    st.lists(st.tuples(QUERY_NAMES, ANY_TEXT), max_size=3),
)
PARAMETERS = st.sampled_from(
    sorted({*ListQuery.model_fields, *EventQuery.model_fields, *FindQuery.model_fields})
)
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
SEARCH_CURSORS = st.builds(
    encode_cursor,
    st.sampled_from((CURSOR, CURSOR, CURSOR, "conversations")),
    st.lists(
        st.one_of(
            st.integers(0, MAX_PLACE),
            st.sampled_from((-1, -(2**63) - 1, 2**63 - 1, 2**63, 2**64, 10**300, "0", "")),
        ),
        min_size=1,
        max_size=2,
    ),
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
    Target("client events", st.one_of(MESSAGES, MESSAGES, STATES, PAYLOADS), check_client_event),
    Target("stored events", st.one_of(DONE, PAYLOADS), check_stored_event),
    Target("values", VALUES, check_any_value),
    Target("packets", PACKETS, check_packet),
    Target(
        "handshakes",
        HANDSHAKES,
        check_handshake,
    ),
    Target("cursors", PAGE_IDS, check_cursor),
    Target("cursors of searches", SEARCH_CURSORS, check_search_cursor),
    Target("log segments", SEGMENTS, check_frames),
    Target("recordings", RECORDINGS, check_recording),
    Target("settings of users", SETTINGS_BODIES, check_user_settings),
    Target("stored settings", STORED_BODIES, check_stored_settings),
    Target("queries", TEXTS_OF_QUERIES, check_query),
    Target(
        "configurations",
        st.tuples(st.dictionaries(VARIABLES, ANY_TEXT, max_size=3), TOML),
        check_configuration,
    ),
)
"""Every door; each takes the same share of the inputs."""
