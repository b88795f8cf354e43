"""/api/secrets and the tokens of git hosts: values come in and never go out."""

import asyncio

import pytest
from pydantic import SecretStr

from storage.conversations.metadata import ProviderType
from storage.users.secrets import CustomSecret, ProviderToken, Secrets
from tests.support.rest import assert_refused

SECRETS = "/api/secrets"
PROVIDERS = "/api/add-git-providers"
THEIRS = Secrets(
    custom_secrets={"THEIRS": CustomSecret(value=SecretStr("their value"))},
    provider_tokens={ProviderType.GITLAB: ProviderToken(token=SecretStr("their token"))},
)


async def add(rest, name, value="planted value", **fields):
    answer = await rest.ask("POST", SECRETS, json={"name": name, "value": value, **fields})
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"message": "Secret created successfully"}


async def names(rest):
    answer = await rest.ask("GET", SECRETS)
    assert answer.status_code == 200
    assert "planted" not in answer.text
    return {one["name"]: one["description"] for one in answer.json()["custom_secrets"]}


async def kept(rest, user_id=None):
    return await rest.secrets.for_user(user_id).load()


async def provide(rest, **tokens):
    answer = await rest.ask("POST", PROVIDERS, json={"provider_tokens": tokens})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"message": "Git providers stored"}


async def hosts(rest):
    return (await rest.ask("GET", "/api/settings")).json()["provider_tokens_set"]


async def test_at_first_there_are_none(rest):
    assert (await rest.ask("GET", SECRETS)).json() == {"custom_secrets": []}


async def test_a_secret_is_listed_by_name_and_description_and_never_by_value(rest):
    await add(rest, "TOKEN", description="for the tests")
    await add(rest, "OTHER")

    assert await names(rest) == {"TOKEN": "for the tests", "OTHER": ""}
    assert (await kept(rest)).environment() == {"TOKEN": "planted value", "OTHER": "planted value"}


async def test_a_name_that_is_taken_is_refused_and_the_value_stays(rest):
    await add(rest, "TOKEN")

    answer = await rest.ask("POST", SECRETS, json={"name": "TOKEN", "value": "another"})

    assert_refused(answer, 400, "secret_exists", "Secret TOKEN already exists")
    assert (await kept(rest)).environment() == {"TOKEN": "planted value"}


async def test_of_many_with_one_name_at_a_time_one_is_kept(rest):
    bodies = [{"name": "TOKEN", "value": f"value {number}"} for number in range(8)]

    answers = await asyncio.gather(*(rest.ask("POST", SECRETS, json=body) for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 7


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "TOKEN"}, "value"),
        ({"value": "planted"}, "name"),
        ({"name": "", "value": "planted"}, "name"),
        ({"name": "two words", "value": "planted"}, "name"),
        ({"name": "a/b", "value": "planted"}, "name"),
        ({"name": "N" * 129, "value": "planted"}, "name"),
        ({"name": "TOKEN", "value": ""}, "value"),
        ({"name": "TOKEN", "value": "planted" * 10_000}, "value"),
        ({"name": "TOKEN", "value": ["planted"]}, "value"),
        ({"name": "TOKEN", "value": "v", "description": "planted" * 200}, "description"),
    ],
)
async def test_what_does_not_fit_is_named_and_not_quoted(rest, body, field):
    answer = await rest.ask("POST", SECRETS, json=body)

    assert_refused(answer, 422, "invalid_body", field)
    assert "planted" not in answer.text
    assert await names(rest) == {}


async def test_a_user_has_a_limit_of_secrets(rest):
    many = {f"N{number}": CustomSecret(value=SecretStr("value")) for number in range(200)}
    await rest.secrets.for_user(None).store(Secrets(custom_secrets=many))

    answer = await rest.ask("POST", SECRETS, json={"name": "MORE", "value": "value"})

    assert_refused(answer, 400, "bad_value", "200")


async def test_a_secret_is_renamed_and_described_and_keeps_its_value(rest):
    await add(rest, "TOKEN", description="old")

    renamed = await rest.ask("PUT", f"{SECRETS}/TOKEN", json={"name": "KEY"})
    described = await rest.ask(
        "PUT", f"{SECRETS}/KEY", json={"name": "KEY", "description": "new", "value": "ignored"}
    )

    assert renamed.json() == {"message": "Secret updated successfully"}
    assert (renamed.status_code, described.status_code) == (200, 200)
    assert await names(rest) == {"KEY": "new"}
    assert (await kept(rest)).environment() == {"KEY": "planted value"}


async def test_changing_has_its_refusals(rest):
    await add(rest, "ONE")
    await add(rest, "TWO")

    missing = await rest.ask("PUT", f"{SECRETS}/NONE", json={"name": "ONE"})
    taken = await rest.ask("PUT", f"{SECRETS}/ONE", json={"name": "TWO"})
    unfit = await rest.ask("PUT", f"{SECRETS}/ONE", json={"name": "two words"})

    assert_refused(missing, 404, "secret_not_found", "Secret with ID NONE not found")
    assert_refused(taken, 400, "secret_exists", "Secret TWO already exists")
    assert_refused(unfit, 422, "invalid_body", "name")
    assert await names(rest) == {"ONE": "", "TWO": ""}


@pytest.mark.parametrize("name", [".", ".."])
async def test_a_name_that_no_browser_can_ask_for_is_refused(rest, name):
    await add(rest, "TOKEN")

    created = await rest.ask("POST", "/api/secrets", json={"name": name, "value": "value"})
    renamed = await rest.ask("PUT", "/api/secrets/TOKEN", json={"name": name})

    assert_refused(created, 422, "invalid_body", "name")
    assert_refused(renamed, 422, "invalid_body", "name")
    assert await names(rest) == {"TOKEN": ""}
    await add(rest, "...")
    assert "..." in await names(rest)


def test_a_secret_that_an_older_version_stored_under_such_a_name_stays_readable():
    stored = Secrets.model_validate({"custom_secrets": {"..": {"value": "v"}}})

    assert list(stored.removed("..").custom_secrets) == []


async def test_a_secret_is_deleted_once(rest):
    await add(rest, "TOKEN")

    first = await rest.ask("DELETE", f"{SECRETS}/TOKEN")
    second = await rest.ask("DELETE", f"{SECRETS}/TOKEN")

    assert (first.status_code, first.json()) == (200, {"message": "Secret deleted successfully"})
    assert_refused(second, 404, "secret_not_found", "Secret with ID TOKEN not found")
    assert await names(rest) == {}


async def test_one_user_s_secrets_are_not_another_s(rest):
    await rest.secrets.for_user("ann").store(THEIRS)

    deleted = await rest.ask("DELETE", f"{SECRETS}/THEIRS")
    changed = await rest.ask("PUT", f"{SECRETS}/THEIRS", json={"name": "MINE"})
    await add(rest, "THEIRS", "my value")
    unset = await rest.ask("POST", "/api/unset-provider-tokens")

    assert_refused(deleted, 404, "secret_not_found")
    assert_refused(changed, 404, "secret_not_found")
    assert unset.status_code == 200
    assert await names(rest) == {"THEIRS": ""}
    assert await hosts(rest) == {}
    assert await kept(rest, "ann") == THEIRS


async def test_tokens_of_git_hosts_are_told_by_host_only(rest):
    await provide(rest, github={"token": " planted "}, gitlab={"token": "t", "host": "g.example"})

    assert await hosts(rest) == {"github": None, "gitlab": "g.example"}
    assert "planted" not in (await rest.ask("GET", "/api/settings")).text
    assert (await kept(rest)).environment() == {"GITHUB_TOKEN": "planted", "GITLAB_TOKEN": "t"}


async def test_an_empty_token_keeps_the_one_that_is_stored(rest):
    await provide(rest, github={"token": "planted"})

    everything = {name.value: {"token": "", "host": None} for name in ProviderType}
    await provide(rest, **everything | {"github": {"token": "", "host": "git.example.org"}})

    assert await hosts(rest) == {"github": "git.example.org"}
    assert (await kept(rest)).environment() == {"GITHUB_TOKEN": "planted"}


@pytest.mark.parametrize("token", ["two words", "tab\there", "ünfit", "x" * 4097])
async def test_what_no_git_host_gives_out_is_no_token_and_nothing_is_stored(rest, token):
    body = {"provider_tokens": {"gitlab": {"token": "fine"}, "github": {"token": token}}}

    answer = await rest.ask("POST", PROVIDERS, json=body)

    text = "Invalid token. Please make sure it is a valid github token."
    assert_refused(answer, 401, "invalid_token", text)
    assert await kept(rest) == Secrets()


@pytest.mark.parametrize(
    "tokens",
    [
        {"sourceforge": {"token": "t"}},
        {"github": "planted"},
        {"github": {"token": "planted", "host": "two words"}},
        {"github": {"token": "planted", "host": "h" * 254}},
    ],
)
async def test_what_is_no_set_of_tokens_is_refused(rest, tokens):
    answer = await rest.ask("POST", PROVIDERS, json={"provider_tokens": tokens})

    assert_refused(answer, 422, "invalid_body", "provider_tokens")
    assert "planted" not in answer.text


async def test_tokens_are_unset_and_other_secrets_stay(rest):
    await add(rest, "TOKEN")
    await provide(rest, github={"token": "planted"})

    answer = await rest.ask("POST", "/api/unset-provider-tokens")

    assert (answer.status_code, answer.json()) == (200, {"message": "Unset Git provider tokens"})
    assert await hosts(rest) == {}
    assert await names(rest) == {"TOKEN": ""}
