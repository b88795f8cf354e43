"""A conversation's events over REST: reading by range and filter, appending durably."""

import asyncio

import orjson
import pytest

from events.conformance.records import append
from events.event import EventFlag, StoredEvent
from events.serialization import flag_of
from tests.support.rest import EVERY, assert_refused, rest_server

EVENTS = f"{EVERY}/c1/events"
MESSAGE = f"{EVERY}/c1/message"


def stored(event_id, text="", **more):
    payload = {
        "id": event_id,
        "timestamp": f"2026-03-02T09:00:{event_id % 60:02}.000000Z",
        "source": "user" if event_id % 2 else "agent",
        "message": text,
        "action": "message",
        "args": {"content": text},
    }
    return StoredEvent(event_id, EventFlag.PLAIN, orjson.dumps(payload | more))


async def fill(rest, events):
    await rest.keep("c1", None)
    await append(rest.events, "c1", list(events))


async def ids(rest, query=""):
    answer = await rest.ask("GET", f"{EVENTS}?{query}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [event["id"] for event in body["events"]], body["has_more"]


async def test_bodies_are_given_exactly_as_they_are_stored(rest):
    odd = b'{"id":0,  "action":"message", "unknown":1.50}'
    await rest.keep("c1", None)
    await append(rest.events, "c1", [StoredEvent(0, EventFlag.SPECIAL, odd)])

    answer = await rest.ask("GET", EVENTS)

    assert answer.content == b'{"events":[' + odd + b'],"has_more":false}'
    assert answer.headers["content-type"] == "application/json"


async def test_a_range_is_inclusive_and_tells_whether_there_is_more(rest):
    await fill(rest, (stored(number) for number in range(250)))

    assert await ids(rest) == (list(range(20)), True)
    assert await ids(rest, "limit=100&start_id=200") == (list(range(200, 250)), False)
    assert await ids(rest, "start_id=5&end_id=7") == ([5, 6, 7], False)
    assert await ids(rest, "start_id=5&end_id=7&limit=2") == ([5, 6], True)
    assert await ids(rest, "reverse=true&limit=3") == ([249, 248, 247], True)
    assert await ids(rest, "reverse=true&start_id=5&end_id=7") == ([7, 6, 5], False)
    assert await ids(rest, "start_id=250") == ([], False)
    assert await ids(rest, "start_id=9&end_id=3") == ([], False)
    assert await ids(rest, "end_id=9999999&start_id=249") == ([249], False)


async def test_a_range_across_slices_has_no_gap_in_either_direction(rest):
    await fill(rest, (stored(number) for number in range(1100)))

    assert await ids(rest, "start_id=480&limit=50") == (list(range(480, 530)), True)
    backwards = list(range(519, 469, -1))
    assert await ids(rest, "start_id=10&end_id=519&limit=50&reverse=1") == (backwards, True)


async def test_on_demand_events_are_those_that_sockets_are_sent_in_their_form(rest):
    def state(event_id):
        extras = {"agent_state": "running", "reason": ""}
        return special(event_id, observation="agent_state_changed", content="", extras=extras)

    def special(event_id, **fields):
        payload = {"id": event_id, "source": "environment", **fields}
        return StoredEvent(event_id, flag_of(payload), orjson.dumps(payload))

    heavy = {"url": "https://example.org", "dom_object": {"a": 1}}
    await fill(
        rest,
        [
            stored(0, "hello"),
            special(1, action="system", args={}),
            state(2),
            special(3, source="agent", observation="browse", content="", extras=heavy),
            special(4, source="agent", observation="null", content="", extras={}),
            *(special(number, action="system", args={}) for number in range(5, 700)),
            stored(701 - 1, "bye"),
        ],
    )

    answer = (await rest.ask("GET", f"{EVENTS}?as_sent=true")).json()

    assert answer["has_more"] is False
    assert [one["id"] for one in answer["events"]] == [0, 2, 3, 700]
    assert answer["events"][1]["source"] == "agent"
    assert answer["events"][2]["extras"] == {"url": "https://example.org"}
    # Events that are not sent count neither for the limit nor for what is left.
    assert await ids(rest, "as_sent=true&reverse=true&limit=2") == ([700, 3], True)
    assert await ids(rest, "as_sent=true&reverse=true&end_id=2&limit=2") == ([2, 0], False)


async def test_a_log_without_events_reads_as_empty(rest):
    await rest.keep("c1", None)

    assert await ids(rest) == ([], False)


async def test_reading_opens_nothing_and_starts_nothing(rest):
    await fill(rest, [stored(0)])

    await ids(rest)

    assert await rest.application.manager.get_agent_loop_info() == []
    assert (await rest.events.head("c1")).next_id == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("source=user", [1, 3]),
        ("include_kinds=run", [4]),
        ("include_kinds=run,message&source=agent", [0, 2, 4]),
        ("include_kinds=run&include_kinds=message&source=agent", [0, 2, 4]),
        ("exclude_kinds=message", [4]),
        ("exclude_hidden=true", [0, 1, 2, 4]),
        ("query=ROCKET", [2]),
        ("start_date=2026-03-02T09:00:03Z", [3, 4]),
        ("start_date=2026-03-02T11:00:03%2B02:00", [3, 4]),
        ("end_date=2026-03-02T09:00:01", [0, 1]),
        ("end_date=2026-03-02", []),
        ("source=&query=&include_kinds=", [0, 1, 2, 3, 4]),
    ],
)
async def test_filters_are_query_parameters(rest, query, expected):
    await fill(
        rest,
        [
            stored(0),
            stored(1),
            stored(2, "a rocket"),
            stored(3, args={"content": "", "hidden": True}),
            stored(4, action="run"),
        ],
    )

    assert await ids(rest, query) == (expected, False)


async def test_a_filter_that_passes_little_looks_through_the_whole_log(rest):
    await fill(rest, (stored(number, "rocket" * (number == 1050)) for number in range(1100)))

    assert await ids(rest, "query=rocket") == ([1050], False)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("start_id=-1", "start_id"),
        ("end_id=-1", "end_id"),
        ("reverse=perhaps", "reverse"),
        ("source=nobody", "source"),
        ("start_date=yesterday", "start_date"),
    ],
)
async def test_an_unfit_parameter_is_named(rest, query, parameter):
    await rest.keep("c1", None)

    answer = await rest.ask("GET", f"{EVENTS}?{query}")

    assert_refused(answer, 400, "bad_request", parameter)


async def test_an_answer_of_large_events_ends_early_and_says_so(rest):
    large = "x" * 3_000_000
    await fill(rest, (stored(number, large) for number in range(5)))

    first, more = await ids(rest)
    rest_of_it, end = await ids(rest, f"start_id={first[-1] + 1}&limit=1")

    assert (first, more) == ([0], True)
    assert (rest_of_it, end) == ([1], True)


async def test_an_event_is_durable_when_it_is_answered(rest):
    await rest.keep("c1", None)

    answer = await rest.ask("POST", EVENTS, json=message("hello"))

    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "id": 0, "duplicate": False},
    )
    (event,) = await rest.events.read("c1", 0, 1)
    payload = orjson.loads(event.body)
    assert (payload["source"], payload["args"]["content"]) == ("user", "hello")


def message(text, **more):
    return {"action": "message", "args": {"content": text}} | more


async def test_a_message_starts_the_loop_and_is_answered_by_the_agent(rest):
    await rest.keep("c1", None)

    answer = await rest.ask("POST", MESSAGE, json={"message": "hello"})

    assert answer.json() == {"success": True, "id": 0, "duplicate": False}
    await rest.wait_for(
        "c1", lambda event: event.get("source") == "agent" and event.get("action") == "message"
    )


@pytest.mark.parametrize(
    ("path", "body"), [(EVENTS, message("hello")), (MESSAGE, {"message": "hello"})]
)
async def test_the_idempotency_key_header_is_the_key_of_an_event(rest, path, body):
    await rest.keep("c1", None)
    keyed = {"idempotency-key": "a key"}

    first = (await rest.ask("POST", path, json=body, headers=keyed)).json()
    again = (await rest.ask("POST", path, json=body, headers=keyed)).json()

    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["id"] == again["id"]
    (event,) = await rest.events.read("c1", 0, 1)
    assert orjson.loads(event.body)["client_id"] == "a key"


async def test_the_body_s_key_comes_before_the_header_s(rest):
    await rest.keep("c1", None)
    keyed = {"idempotency-key": "header"}

    await rest.ask("POST", EVENTS, json=message("x", client_id="body"), headers=keyed)
    again = await rest.ask("POST", MESSAGE, json={"message": "x", "client_id": "body"})

    assert again.json() == {"success": True, "id": 0, "duplicate": True}


async def test_many_requests_at_once_with_one_key_append_once(rest):
    await rest.keep("c1", None)
    keyed = {"idempotency-key": "a key"}
    requests = [rest.ask("POST", EVENTS, json=message("x"), headers=keyed) for _ in range(10)]

    answers = [answer.json() for answer in await asyncio.gather(*requests)]

    assert {answer["id"] for answer in answers} == {0}
    assert sum(not answer["duplicate"] for answer in answers) == 1


async def test_a_message_that_finds_no_slot_is_kept_and_answered_as_queued():
    async with rest_server(max_concurrent_conversations=1) as rest:
        busy = await rest.create(initial_user_msg="/slow 2 60000")
        await rest.wait_for(busy, lambda event: event.get("action") == "recall")
        await rest.keep("c1", None)

        answer = await rest.ask("POST", MESSAGE, json={"message": "hello"})

        assert answer.json() == {"success": True, "id": 0, "duplicate": False, "queued": True}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ([], "not_an_object"),
        ({"args": {}}, "unknown_kind"),
        (message("x", id=5), "forbidden_field"),
        (message("x", colour="red"), "unknown_field"),
        ({"action": "run", "args": {"command": "ls"}}, "forbidden_kind"),
        ({"observation": "run", "content": ""}, "forbidden_kind"),
        ({"action": "message", "args": {}}, "missing_argument"),
        ({"action": "message", "args": {"content": 5}}, "bad_value"),
        ({"action": "change_agent_state", "args": {"agent_state": "error"}}, "bad_state"),
        (message("x", client_id=""), "bad_client_id"),
        (message("x", client_id=None), "bad_client_id"),
        (message("x", client_id="k" * 129), "bad_client_id"),
    ],
)
async def test_what_a_client_may_not_send_is_refused_and_not_stored(rest, event, code):
    await rest.keep("c1", None)

    answer = await rest.ask("POST", EVENTS, json=event, headers={"idempotency-key": "a key"})

    assert_refused(answer, 400, code)
    assert (await rest.events.head("c1")).next_id == 0


@pytest.mark.parametrize("body", [{"message": ""}, {"message": 5}, {}, {"message": "x", "y": 1}])
async def test_an_unfit_message_is_refused(rest, body):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("POST", MESSAGE, json=body), 422, "invalid_body")


async def test_what_is_not_json_is_refused(rest):
    await rest.keep("c1", None)
    headers = {"content-type": "application/json"}

    answer = await rest.ask("POST", EVENTS, content=b"{", headers=headers)

    assert_refused(answer, 400, "bad_request", "not JSON")


async def test_a_body_without_a_type_is_refused(rest):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("POST", EVENTS), 415, "unsupported_media_type")


async def test_an_unfit_idempotency_key_is_refused(rest):
    await rest.keep("c1", None)
    keyed = {"idempotency-key": "k" * 129}

    answer = await rest.ask("POST", EVENTS, json=message("x"), headers=keyed)

    assert_refused(answer, 400, "bad_request", "Idempotency-Key")
