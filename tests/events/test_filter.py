import pytest
from pydantic import ValidationError

from events.event import EventSource
from events.filter import EventFilter, is_hidden

RUN = {
    "id": 9,
    "timestamp": "2026-03-02T09:15:07.120334Z",
    "source": "agent",
    "message": "Running command: ls Straße",
    "action": "run",
    "args": {"command": "ls Straße", "thought": "Look Around", "hidden": False, "cwd": None},
}
OUTPUT = {
    "id": 10,
    "timestamp": "2026-03-02T09:15:08.000000Z",
    "source": "environment",
    "message": "done",
    "observation": "browse",
    "content": "first ![p](data:image/png;base64,QUJDneedleREVG) second",
    "extras": {"url": "http://a", "shots": [{"deep": "Treasure"}, "data:image/png;base64,needle"]},
}


@pytest.mark.parametrize("payload", [RUN, OUTPUT, {}, {"action": "new", "args": None}])
def test_without_conditions_everything_matches(payload):
    assert EventFilter().matches(payload)


@pytest.mark.parametrize(
    ("conditions", "matching"),
    [
        ({"include_kinds": ("run",)}, [RUN]),
        ({"include_kinds": ("run", "browse")}, [RUN, OUTPUT]),
        ({"include_kinds": ("think",)}, []),
        ({"exclude_kinds": ("run",)}, [OUTPUT]),
        ({"include_kinds": ("run",), "exclude_kinds": ("run",)}, []),
        ({"source": EventSource.AGENT}, [RUN]),
        ({"source": EventSource.USER}, []),
        ({"start_date": "2026-03-02T09:15:08.000000Z"}, [OUTPUT]),
        ({"end_date": "2026-03-02T09:15:07.120334Z"}, [RUN]),
        ({"start_date": "2026-03-02T09:15:07.5", "end_date": "2026-03-02T09:15:07.6"}, []),
        ({"start_date": "2026", "source": EventSource.AGENT, "query": "look"}, [RUN]),
        ({"start_date": "2026", "source": EventSource.AGENT, "query": "second"}, []),
    ],
)
def test_all_conditions_must_hold(conditions, matching):
    chosen = EventFilter(**conditions)

    assert [payload for payload in (RUN, OUTPUT) if chosen.matches(payload)] == matching


@pytest.mark.parametrize("query", ["STRASSE", "stra\u00dfe", "\uff33trasse"])
def test_a_query_finds_its_text_however_that_is_written(query):
    assert EventFilter(query=query).matches(RUN)


def test_an_event_without_a_source_fails_a_source_condition():
    assert not EventFilter(source=EventSource.AGENT).matches({"action": "run"})


def test_an_event_without_a_timestamp_passes_date_conditions():
    assert EventFilter(start_date="2026", end_date="2027").matches({"action": "run"})


@pytest.mark.parametrize("inner", ["args", "extras"])
def test_hidden_events_are_dropped_on_request_only(inner):
    hidden = {"action": "run", inner: {"hidden": True}}

    assert is_hidden(hidden)
    assert EventFilter().matches(hidden)
    assert not EventFilter(exclude_hidden=True).matches(hidden)


@pytest.mark.parametrize("hidden", [False, None, "yes", 1])
def test_only_true_hides_an_event(hidden):
    assert EventFilter(exclude_hidden=True).matches({"args": {"hidden": hidden}})


@pytest.mark.parametrize("query", ["LOOK around", "strasse", "running COMMAND"])
def test_a_query_finds_readable_text_in_any_case(query):
    assert EventFilter(query=query).matches(RUN)


@pytest.mark.parametrize("query", ["treasure", "first", "SECOND", "http://a", "done"])
def test_a_query_looks_into_content_and_nested_values(query):
    assert EventFilter(query=query).matches(OUTPUT)


@pytest.mark.parametrize("query", ["needle", "QUJD", "extras", "shots", "browse", "environment"])
def test_a_query_looks_neither_into_keys_nor_into_pictures_nor_into_the_envelope(query):
    assert not EventFilter(query=query).matches(OUTPUT)


def test_an_empty_query_is_no_condition():
    assert EventFilter(query="").matches({})


def test_a_filter_cannot_be_changed():
    with pytest.raises((AttributeError, ValidationError)):
        EventFilter().query = "x"  # type: ignore[misc]  # what the test is about
