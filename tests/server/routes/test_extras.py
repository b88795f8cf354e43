"""Feedback, what needs a model or a git host, and the list of microagent conversations."""

import asyncio
from typing import Any

import pytest

from events.redaction import MASK
from server.routes import GIT_HOST_LISTS, GIT_HOST_RECORDS
from storage.conversations.metadata import ConversationTrigger
from tests.support.rest import EVERY, assert_refused

ONE = f"{EVERY}/c1"
JUDGEMENT = {"email": "", "version": "1.0", "permissions": "private", "polarity": "positive"}


async def record(rest):
    return await rest.conversations.for_user(None).get_metadata("c1")


async def test_no_microagents_are_loaded(rest):
    assert_refused(await rest.ask("GET", f"{ONE}/microagents"), 404, "conversation_not_found")
    await rest.keep("c1", None)

    assert (await rest.ask("GET", f"{ONE}/microagents")).json() == {"microagents": []}


async def test_feedback_is_kept_in_the_record_and_the_log_is_not(rest):
    await rest.keep("c1", None, custom={"mine": 1})

    answer = await rest.ask(
        "POST", f"{ONE}/submit-feedback", json=JUDGEMENT | {"trajectory": [{"secret": 1}]}
    )

    kept = (await record(rest)).custom
    assert answer.json()["feedback_id"] == kept["feedback"][0]["id"]
    assert kept["mine"] == 1
    assert kept["feedback"][0]["polarity"] == "positive"
    assert "trajectory" not in kept["feedback"][0]


async def test_judgements_at_one_time_are_all_kept_and_very_many_are_not(rest):
    await rest.keep("c1", None)

    posts = [rest.ask("POST", f"{ONE}/submit-feedback", json=JUDGEMENT) for _ in range(105)]
    answers = await asyncio.gather(*posts)

    ids = [answer.json()["feedback_id"] for answer in answers]
    kept = [entry["id"] for entry in (await record(rest)).custom["feedback"]]
    assert len(kept) == 100
    assert set(kept) < set(ids)


@pytest.mark.parametrize(
    "body",
    [{}, {"polarity": "good"}, JUDGEMENT | {"permissions": "world"}, JUDGEMENT | {"email": 1}],
)
async def test_feedback_that_says_nothing_usable_is_refused(rest, body):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("POST", f"{ONE}/submit-feedback", json=body), 422, "invalid_body")


async def test_feedback_on_an_unknown_conversation_is_refused(rest):
    answer = await rest.ask("POST", f"{ONE}/submit-feedback", json=JUDGEMENT)

    assert_refused(answer, 404, "conversation_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/remember-prompt?event_id=0"),
        ("POST", "/exp-config"),
        ("GET", "/security/settings"),
        ("POST", "/security/a/b"),
    ],
)
async def test_what_needs_a_model_or_an_analyzer_is_refused_as_not_supported(rest, method, path):
    body: dict[str, Any] = {"json": {}} if method == "POST" else {}
    assert_refused(await rest.ask(method, ONE + path, **body), 404, "conversation_not_found")
    await rest.keep("c1", None)

    assert_refused(await rest.ask(method, ONE + path, **body), 501, "not_supported")


async def test_a_secret_in_feedback_is_masked(rest):
    await rest.keep("c1", None)
    await rest.ask("POST", "/api/secrets", json={"name": "TOKEN", "value": "planted value"})

    told = JUDGEMENT | {"feedback": "why planted value?", "email": "planted value"}
    await rest.ask("POST", f"{ONE}/submit-feedback", json=told)

    (kept,) = (await record(rest)).custom["feedback"]
    assert (kept["feedback"], kept["email"]) == (f"why {MASK}?", MASK)


@pytest.mark.parametrize("query", ["", "?event_id=-1", "?event_id=x"])
async def test_a_prompt_is_asked_for_by_an_event(rest, query):
    await rest.keep("c1", None)

    assert_refused(await rest.ask("GET", f"{ONE}/remember-prompt{query}"), 400, "bad_request")


@pytest.mark.parametrize("path", [*GIT_HOST_LISTS, *GIT_HOST_RECORDS, "repository/branches"])
async def test_without_a_token_no_git_host_is_asked(rest, path):
    answer = await rest.ask("GET", f"/api/user/{path.replace('{name:path}', 'acme/rocket')}")

    text = "Git provider token required. (such as GitHub)."
    assert_refused(answer, 401, "git_token_required", text)


async def test_the_two_lists_of_a_git_host_have_texts_of_their_own(rest):
    branches = await rest.ask("GET", "/api/user/search/branches?repository=a/b&query=x")
    tasks = await rest.ask("GET", "/api/user/suggested-tasks")

    assert branches.json()["error"] == "Git provider token required."
    assert tasks.json()["error"] == "No providers set."
    assert (branches.status_code, tasks.status_code) == (401, 401)


async def ask_with_a_token(rest, path):
    tokens = {"provider_tokens": {"github": {"token": "ghp_1"}}}
    await rest.ask("POST", "/api/add-git-providers", json=tokens)
    return await rest.ask("GET", f"/api/user/{path.replace('{name:path}', 'acme/rocket')}")


@pytest.mark.parametrize("path", GIT_HOST_RECORDS)
async def test_with_a_token_it_is_said_that_no_git_host_is_asked(rest, path):
    answer = await ask_with_a_token(rest, path)

    assert_refused(answer, 501, "not_supported", "is not connected to a git host")


@pytest.mark.parametrize("path", [*GIT_HOST_LISTS, "search/branches", "suggested-tasks"])
async def test_with_a_token_the_lists_of_a_git_host_are_empty(rest, path):
    answer = await ask_with_a_token(rest, path)

    assert (answer.status_code, answer.json()) == (200, [])


async def test_with_a_token_a_page_of_branches_is_empty_and_the_last(rest):
    answer = await ask_with_a_token(rest, "repository/branches?repository=a/b&page=2&per_page=5")

    assert (answer.status_code, answer.json()) == (
        200,
        {
            "branches": [],
            "has_next_page": False,
            "current_page": 2,
            "per_page": 5,
            "total_count": 0,
        },
    )
    refused = await ask_with_a_token(rest, f"repository/branches?page={2**70}")
    assert_refused(refused, 400, "bad_request", "page")


async def test_conversations_that_write_microagents_have_a_list_of_their_own(rest):
    microagent = ConversationTrigger.MICROAGENT_MANAGEMENT
    await rest.keep("a", None, trigger=microagent, selected_repository="acme/rocket")
    await rest.keep("b", None, trigger=microagent, selected_repository="acme/other")
    await rest.keep("c", None, selected_repository="acme/rocket")

    async def ids(query):
        answer = await rest.ask("GET", f"/api/microagent-management/conversations{query}")
        return answer.json()

    everything = await ids("?limit=1")
    assert [info["conversation_id"] for info in everything["results"]] == ["b"]
    assert everything["next_page_id"]
    chosen = await ids("?selected_repository=acme/rocket")
    assert [info["conversation_id"] for info in chosen["results"]] == ["a"]
    assert_refused(
        await rest.ask("GET", "/api/microagent-management/conversations?page_id=x"),
        400,
        "bad_value",
    )
