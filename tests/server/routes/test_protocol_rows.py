"""Each address of the REST surface: its success and its refusals, row by row."""

import pytest
from starlette.routing import Route

from tests.support.protocol_rows import ROWS
from tests.support.rest import EVERY, assert_refused, rest_server

REPOSITORY = "git init && git add . && git commit -m x && echo new > a.txt"
OTHERS = (
    "/api/admin",
    "/admin",
    "/docs",
    "/api/settings",
    "/api/reset-settings",
    "/api/secrets",
    "/api/add-git",
    "/api/unset",
)
"""Beginnings of the addresses of administration, documents, settings and secrets, tested by themselves."""
REFUSALS = [(row, refusal) for row in ROWS for refusal in row.refusals]


@pytest.fixture
async def running(rest):
    """A server with one conversation, whose workspace has a repository with a change."""
    await rest.keep("c1", None, title="One")
    await rest.ask("POST", f"{EVERY}/c1/start", json={})
    await rest.wait_until_idle("c1")
    async with rest.application.manager.attach("c1", None) as conversation:
        await conversation.loop.runtime.write_file("a.txt", b"old\n")
        await conversation.loop.runtime.write_file("picture", b"\xff")
    await rest.ask("POST", f"{EVERY}/c1/message", json={"message": f"/run {REPOSITORY}"})
    await rest.wait_for("c1", lambda event: event.get("observation") == "run")
    return rest


def filled(path, conversation_id="c1"):
    return (
        path.replace("{conversation_id}", conversation_id)
        .replace("{path:path}", "settings")
        .replace("{name:path}", "acme/rocket")
        .replace("{approval}", "0")
        .replace("{kind}", "run")
    )


def names(one):
    return one.address if hasattr(one, "address") else f"{one.status} {one.code}"


@pytest.mark.parametrize("row", ROWS, ids=names)
async def test_a_good_request_is_answered_as_the_row_says(running, row):
    answer = await running.ask(row.method, filled(row.path) + row.query, **row.request)

    assert answer.status_code == row.status, answer.text
    match row.shape:
        case set() as keys:
            assert set(answer.json()) == keys
        case type() as kind:
            assert isinstance(answer.content if kind is bytes else answer.json(), kind)
        case str() as code if row.status >= 400:
            assert_refused(answer, row.status, code)
        case value:
            assert answer.json() == value


@pytest.mark.parametrize(("row", "refusal"), REFUSALS, ids=names)
async def test_a_bad_request_is_refused_as_the_row_says(running, row, refusal):
    query = row.query if refusal.path is None else refusal.path
    request = row.request if refusal.request is None else refusal.request

    answer = await running.ask(row.method, filled(row.path) + query, **request)

    assert_refused(answer, refusal.status, refusal.code)


@pytest.mark.parametrize("row", [row for row in ROWS if row.unknown], ids=names)
async def test_an_unknown_conversation_is_answered_as_the_row_says(rest, row):
    path = filled(row.path, "unknown") + row.query
    answer = await rest.ask(row.method, path, **row.request)

    status, code = row.unknown
    if status == 200:
        assert (answer.status_code, answer.text) == (200, code)
    else:
        assert_refused(answer, status, code)
        assert answer.json()["msg_id"] == "CONVERSATION$NOT_FOUND"


async def test_every_address_under_api_asks_for_the_key_and_so_do_the_metrics_alone():
    async with rest_server(session_api_key="sesame") as rest:
        for row in ROWS:
            answer = await rest.ask(row.method, filled(row.path) + row.query, **row.request)
            if row.path.startswith(("/api", "/metrics")):
                assert_refused(answer, 401, "unauthorized")
            else:
                assert answer.status_code == 200


async def test_every_address_that_is_served_has_a_row(rest):
    served = {
        f"{method} {route.path}"
        for route in rest.application.asgi.routes
        if isinstance(route, Route) and not route.path.startswith(("/{path", *OTHERS))
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert served == {row.address for row in ROWS}
