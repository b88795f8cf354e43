"""Users' settings and secrets in classes of one's own."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from server.config.settings import ServerConfig
from server.custom_stores import CustomSecretsStores, CustomSettingsStores
from storage.conformance import SecretsStoreSuite, SettingsStoreSuite
from storage.errors import OutcomeUnknown, Unavailable
from storage.users.secrets import CustomSecret, Secrets
from storage.users.settings import Settings
from tests.support.own_user_stores import (
    BookOfSecrets,
    BookOfSettings,
    CountedSettings,
    SilentSecrets,
    SilentSettings,
)
from tests.support.rest import EVERY, rest_server

HERE = "tests.support.own_user_stores"
SECRET = Secrets(custom_secrets={"TOKEN": CustomSecret(value=SecretStr("planted value"))})
MEMORY = ServerConfig(storage_kind="memory")


@pytest.fixture(autouse=True)
def empty_books():
    BookOfSettings.kept.clear()
    CountedSettings.opened.clear()
    BookOfSecrets.kept.clear()


class TestOwnSettings(SettingsStoreSuite):
    @asynccontextmanager
    async def open(self, folder):
        yield CustomSettingsStores(BookOfSettings, MEMORY, seconds=5)


class TestOwnSecrets(SecretsStoreSuite):
    @asynccontextmanager
    async def open(self, folder):
        yield CustomSecretsStores(BookOfSecrets, MEMORY, seconds=5)


@pytest.mark.parametrize(
    ("stores", "new"),
    [
        (CustomSettingsStores(SilentSettings, MEMORY, seconds=0.01), Settings()),
        (CustomSecretsStores(SilentSecrets, MEMORY, seconds=0.01), Secrets()),
    ],
    ids=["settings", "secrets"],
)
async def test_a_class_that_does_not_answer_is_not_waited_for(stores, new):
    store = stores.for_user("ann")

    with pytest.raises(Unavailable, match="did not answer"):
        await store.load()
    with pytest.raises(OutcomeUnknown, match="did not answer"):
        await store.update(lambda _: new)


async def test_an_owners_store_is_opened_once_however_many_ask_at_the_same_time():
    stores = CustomSettingsStores(CountedSettings, MEMORY, seconds=5)
    owners = ["ann", "bob"] * 5

    await asyncio.gather(*(stores.for_user(owner).load() for owner in owners))

    assert Counter(CountedSettings.opened) == {"ann": 1, "bob": 1}


async def test_settings_are_kept_by_the_class_that_the_setting_names():
    async with rest_server(settings_store_class=f"{HERE}:BookOfSettings") as rest:
        await rest.ask("POST", "/api/settings", json={"language": "de"})

        assert (await rest.ask("GET", "/api/settings")).json()["language"] == "de"

    assert BookOfSettings.kept == {None: Settings(language="de")}
    assert await rest.settings.for_user(None).load() is None


async def test_secrets_are_kept_by_the_class_that_the_setting_names_and_are_masked():
    BookOfSecrets.kept[None] = SECRET
    async with rest_server(secrets_store_class=f"{HERE}:BookOfSecrets") as rest:
        conversation_id = await rest.create(initial_user_msg="it is planted value")
        await rest.wait_until_idle(conversation_id)
        stored = await rest.events.read(conversation_id, 0, 100)

    assert stored
    assert b"planted value" not in b"".join(event.body for event in stored)
    assert await rest.secrets.for_user(None).load() == Secrets()


@pytest.mark.parametrize(
    ("chosen", "path", "body"),
    [
        (
            {"secrets_store_class": f"{HERE}:LosingSecrets"},
            "/api/secrets",
            {"name": "TOKEN", "value": "planted value"},
        ),
        (
            {"settings_store_class": f"{HERE}:LosingSettings"},
            "/api/settings",
            {"llm_api_key": "planted value"},
        ),
    ],
    ids=["secrets", "settings"],
)
async def test_a_value_that_was_stored_before_its_store_failed_is_masked(chosen, path, body):
    async with rest_server(**chosen) as rest:
        conversation_id = await rest.create()
        await rest.wait_until_idle(conversation_id)
        async with rest.application.manager.attach(conversation_id, None):
            assert (await rest.ask("POST", path, json=body)).status_code == 500
            said = {"message": "it is planted value"}
            await rest.ask("POST", f"{EVERY}/{conversation_id}/message", json=said)
            stored = await rest.events.read(conversation_id, 0, 100)

    assert b"it is " in b"".join(event.body for event in stored)
    assert b"planted value" not in b"".join(event.body for event in stored)
