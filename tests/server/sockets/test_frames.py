"""FrameRun: whatever is cut out of a run is what the single frames would have been."""

import asyncio

import orjson
import pytest
from hypothesis import given, strategies as st

from events.actions import MessageAction, NullAction
from events.conformance.records import append, record, records
from events.event import AgentState, Event, EventFlag, EventSource, StoredEvent
from events.observations import AgentStateChangedObservation
from events.page_reader import PageKey, PageReader
from events.serialization import encode_new
from events.stores.memory import MemoryEventStore
from server.sockets.frames import FrameReader, FrameRun, run_of
from server.sockets.protocol import packet_texts

FIRST = 7


def stored(event_id: int, event: Event, source: EventSource, flag: EventFlag) -> StoredEvent:
    return StoredEvent(event_id, flag, orjson.dumps(encode_new(event, source, None)))


def event_of(event_id: int, kind: str) -> StoredEvent:
    if kind in ("running", "error"):
        state = AgentStateChangedObservation(agent_state=AgentState(kind), reason="")
        return stored(event_id, state, EventSource.ENVIRONMENT, EventFlag.STATE)
    if kind == "hidden":
        return stored(event_id, NullAction(), EventSource.AGENT, EventFlag.SPECIAL)
    # Around the lengths at which a websocket frame's header grows.
    text = {"short": "x", "medium": "x" * 300, "long": "x" * 40_000}[kind]
    message = MessageAction(content=text)
    return stored(event_id, message, EventSource.AGENT, EventFlag.PLAIN)


kinds = st.lists(
    st.sampled_from(["short", "medium", "long", "hidden", "running", "error"]), min_size=1
)


def run_and_frames(names: list[str]) -> tuple[FrameRun, list[bytes]]:
    events = [event_of(FIRST + place, name) for place, name in enumerate(names)]
    return run_of(events), [run_of([event]).wire for event in events]


@given(kinds)
def test_a_run_is_its_frames_joined(names):
    run, frames = run_and_frames(names)

    assert run.wire == b"".join(frames)
    assert (run.first_id, run.last_id) == (FIRST, FIRST + len(names) - 1)
    assert [frame == b"" for frame in frames] == [name == "hidden" for name in names]
    assert list(run.states) == [
        FIRST + place for place, name in enumerate(names) if name in ("running", "error")
    ]
    assert list(run.errors) == [
        FIRST + place for place, name in enumerate(names) if name == "error"
    ]


@given(kinds, st.data())
def test_a_part_of_a_part_is_what_was_asked_for(names, data):
    run, frames = run_and_frames(names)
    for _ in range(2):
        first = data.draw(st.integers(run.first_id, run.last_id))
        last = data.draw(st.integers(first, run.last_id))

        run = run.part(first, last)

        assert run.wire == b"".join(frames[first - FIRST : last + 1 - FIRST])
        assert (run.first_id, run.last_id) == (first, last)
        for state_id in run.states:
            assert names[state_id - FIRST] in ("running", "error")
            assert run.error(state_id) == (
                frames[state_id - FIRST] if names[state_id - FIRST] == "error" else b""
            )


@given(kinds, st.integers(0, 200_000))
def test_slices_within_a_limit_make_up_the_whole(names, limit):
    run, _ = run_and_frames(names)
    position, written = FIRST - 1, b""

    while position < run.last_id:
        part = run.slice(position, limit)
        assert len(part.wire) <= limit or part.first_id == part.last_id
        written += part.wire
        position = part.last_id

    assert written == run.wire


@given(kinds, st.data())
def test_what_is_left_out_is_gone_and_nothing_else(names, data):
    run, frames = run_and_frames(names)
    ids = sorted(data.draw(st.sets(st.integers(run.first_id, run.last_id))))

    left = run.without(ids)

    assert left == b"".join(frame for n, frame in enumerate(frames, FIRST) if n not in ids)


@given(kinds)
def test_the_packets_in_a_run_can_be_told_apart_again(names):
    run, frames = run_and_frames(names)

    texts = list(packet_texts(run.wire))

    assert texts == [text for frame in frames for text in packet_texts(frame)]
    assert len(texts) == sum(frame != b"" for frame in frames)
    assert all(text.startswith('2["oh_event",{') and text.endswith("}]") for text in texts)


@pytest.mark.parametrize("cache_bytes", [0, 1_000_000])
async def test_any_read_gives_the_rest_of_its_page_below_the_end(cache_bytes):
    store = MemoryEventStore()
    await append(store, "c", records(0, 25))
    reader = FrameReader(PageReader(store, page_size=10, cache_bytes=1_000_000), cache_bytes)

    for next_id in (5, 13, 25):
        for start_id in reversed(range(next_id)):
            run = await reader.read("c", start_id, next_id)

            end_id = min(next_id, start_id - start_id % 10 + 10)
            assert (run.first_id, run.last_id) == (start_id, end_id - 1)
            assert run.wire == run_of([record(one) for one in range(start_id, end_id)]).wire


async def test_a_page_that_many_want_at_once_is_made_once():
    store = MemoryEventStore()
    await append(store, "c", records(0, 10))
    reader = FrameReader(PageReader(store, page_size=10, cache_bytes=0), 1_000_000)

    runs = await asyncio.gather(*(reader.read("c", 0, 10) for _ in range(50)))

    assert all(run is runs[0] for run in runs)


async def test_a_part_of_a_page_does_not_take_the_place_of_more_of_it():
    store = MemoryEventStore()
    await append(store, "c", records(0, 10))
    reader = FrameReader(PageReader(store, page_size=10, cache_bytes=0), 1_000_000)

    await asyncio.gather(*(reader.read("c", start, 10) for start in (0, *range(5, 10))))

    whole = reader.cache.get(PageKey("c", 0))
    assert whole is not None
    assert whole.covers(0, 9)
