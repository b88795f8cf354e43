"""Moments in queries: every one that cannot be meant is refused, none breaks the answer."""

import pytest

from tests.support.rest import EVERY, assert_refused, rest_server

NO_MOMENTS = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "soon", "2026-13-01")


@pytest.fixture
async def rest():
    async with rest_server() as running:
        yield running


@pytest.mark.parametrize("moment", [*NO_MOMENTS, "0.5", "1700000000", "2026-03-02T09:15:07"])
async def test_a_list_refuses_what_is_no_moment_with_an_offset(rest, moment):
    answer = await rest.ask("GET", EVERY, params={"updated_since": moment})

    assert_refused(answer, 400, "bad_request", "updated_since")


@pytest.mark.parametrize("name", ["start_date", "end_date"])
@pytest.mark.parametrize("moment", NO_MOMENTS)
async def test_events_are_not_searched_by_what_is_no_moment(rest, name, moment):
    conversation_id = await rest.create()

    answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/events", params={name: moment})

    assert_refused(answer, 400, "bad_request", name)


async def test_the_last_moments_there_are_find_nothing_and_break_nothing(rest):
    conversation_id = await rest.create()
    path = f"{EVERY}/{conversation_id}/events"

    answer = await rest.ask("GET", path, params={"start_date": "9999-12-31T23:59:59Z"})

    assert answer.json() == {"events": [], "has_more": False}
