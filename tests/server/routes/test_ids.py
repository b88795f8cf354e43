"""Every door checks the id, and opens to the owner only."""

from typing import Any

import pytest

from tests.support.rest import EVERY, assert_refused

MESSAGE = {"action": "message", "args": {"content": "x"}}
FILES = [("files", ("a.txt", b"x"))]
DOORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "show": ("GET", "", {}),
    "rename": ("PATCH", "", {"json": {"title": "x"}}),
    "delete": ("DELETE", "", {}),
    "start": ("POST", "/start", {"json": {}}),
    "stop": ("POST", "/stop", {}),
    "read events": ("GET", "/events", {}),
    "append": ("POST", "/events", {"json": MESSAGE}),
    "say": ("POST", "/message", {"json": {"message": "x"}}),
    "trajectory": ("GET", "/trajectory", {}),
    "stream": ("GET", "/stream?end=now", {}),
    "config": ("GET", "/config", {}),
    "vscode-url": ("GET", "/vscode-url", {}),
    "web-hosts": ("GET", "/web-hosts", {}),
    "git changes": ("GET", "/git/changes", {}),
    "git diff": ("GET", "/git/diff?path=a", {}),
    "microagents": ("GET", "/microagents", {}),
    "list files": ("GET", "/list-files", {}),
    "read a file": ("GET", "/select-file?file=a", {}),
    "archive": ("GET", "/zip-directory", {}),
    "feedback": ("POST", "/submit-feedback", {"json": {"polarity": "positive"}}),
    "remember": ("GET", "/remember-prompt?event_id=0", {}),
    "experiment": ("POST", "/exp-config", {"json": {}}),
    "security": ("GET", "/security/settings", {}),
    "upload": ("POST", "/upload-files", {"files": FILES}),
}
UNKNOWN = {"show": 200, "delete": 200}
"""Statuses of an unknown conversation, 404 but where `null` and `false` say so."""
UNFIT = {
    "a..b": "invalid path characters",
    "..%5cevil": "invalid path characters",
    "%2e%2e": "invalid path characters",
    "a%00b": "invalid characters",
    "a%0ab": "control characters",
    "a%1b": "control characters",
    "a%7f": "control characters",
    "a%20b": "whitespace",
    "task-1": "task-",
    ".hidden": "dot",
    "~": "invalid characters",
    "%C3%A9": "invalid characters",
    "x" * 101: "too long",
}
SPLITTING = ["..%2f..%2fevil", "%2fetc%2fpasswd", "a%2f..%2fb%2f", "%2e%2e%2f"]


async def knock(rest, door, conversation_id):
    method, path, arguments = DOORS[door]
    request = rest.client.build_request(method, "/", **arguments)
    request.url = request.url.copy_with(raw_path=f"{EVERY}/{conversation_id}{path}".encode())
    return await rest.client.send(request, follow_redirects=True)


@pytest.mark.parametrize("door", DOORS)
async def test_an_unfit_id_is_refused_and_writes_nothing(rest, door):
    for conversation_id, reason in UNFIT.items():
        assert_refused(await knock(rest, door, conversation_id), 400, "bad_value", reason)
    assert (await rest.ask("GET", EVERY)).json()["results"] == []


@pytest.mark.parametrize("door", DOORS)
async def test_an_id_that_is_several_parts_of_a_path_leads_nowhere(rest, door):
    for conversation_id in SPLITTING:
        answer = await knock(rest, door, conversation_id)

        assert answer.status_code in (404, 405, 415)
        assert answer.json()["error"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_foreign_conversation_looks_exactly_like_an_unknown_one(rest, door):
    await rest.keep("theirs", "somebody", title="Secret")

    foreign = await knock(rest, door, "theirs")
    unknown = await knock(rest, door, "unknown")

    assert foreign.content == unknown.content
    assert (foreign.status_code, unknown.status_code) == (UNKNOWN.get(door, 404),) * 2
    assert "Secret" not in foreign.text


async def test_nothing_is_done_to_a_foreign_conversation(rest):
    await rest.keep("theirs", "somebody", title="Secret")
    for door in DOORS:
        await knock(rest, door, "theirs")

    record = await rest.conversations.for_user("somebody").get_metadata("theirs")

    assert record.title == "Secret"
    assert (await rest.events.head("theirs")).next_id == 0
    assert await rest.application.manager.get_agent_loop_info("somebody") == []


async def test_a_list_shows_only_what_belongs_to_whoever_asks(rest):
    await rest.keep("theirs", "somebody")
    await rest.keep("nobodys", None)

    results = (await rest.ask("GET", EVERY)).json()["results"]

    assert [info["conversation_id"] for info in results] == ["nobodys"]
