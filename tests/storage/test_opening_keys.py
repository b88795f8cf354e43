"""A storage opens with the key its secrets were sealed with, and with no other."""

import pytest
from pydantic import SecretStr

from storage.backends import backend_of
from storage.config import LocalStorage, SqliteStorage
from storage.errors import WrongKey
from storage.opening import open_storage
from storage.users.base import SecretsStore, SettingsStore
from storage.users.secrets import CustomSecret, Secrets
from storage.users.settings import Settings

SECRETS = Secrets(custom_secrets={"TOKEN": CustomSecret(value=SecretStr("value"))})
GIVEN = SecretStr("a long text that somebody chose")


pytestmark = pytest.mark.parametrize("kind", [SqliteStorage, LocalStorage])


@pytest.mark.parametrize("other", [None, SecretStr("another long text")], ids=["none", "another"])
async def test_a_storage_does_not_open_with_another_key(tmp_path, kind, other):
    storage = kind(data_dir=tmp_path, secret_key=GIVEN)
    async with open_storage(storage) as opened:
        await opened.secrets.for_user(None).store(SECRETS)

    with pytest.raises(WrongKey, match="PARLEY_SECRET_KEY"):
        async with open_storage(kind(data_dir=tmp_path, secret_key=other)):
            pass

    async with open_storage(storage) as opened:
        assert await opened.secrets.for_user(None).load() == SECRETS


async def test_a_check_names_another_key_and_changes_nothing(tmp_path, kind):
    storage = kind(data_dir=tmp_path)
    async with open_storage(storage) as opened:
        await opened.secrets.for_user(None).store(SECRETS)
    assert backend_of(storage).check() == []

    (problem,) = backend_of(kind(data_dir=tmp_path, secret_key=GIVEN)).check()

    assert "PARLEY_SECRET_KEY" in problem
    assert backend_of(storage).check() == []


async def test_a_storage_that_sealed_nothing_opens_with_any_key(tmp_path, kind):
    for key in (None, GIVEN, None):
        async with open_storage(kind(data_dir=tmp_path, secret_key=key)) as opened:
            assert await opened.secrets.for_user(None).load() == Secrets()


@pytest.mark.parametrize("other", [None, SecretStr("another long text")], ids=["none", "another"])
async def test_a_storage_that_is_open_is_refused_to_whoever_brings_another_key(
    tmp_path, kind, other
):
    async with open_storage(kind(data_dir=tmp_path, secret_key=GIVEN)) as opened:
        with pytest.raises(WrongKey, match="PARLEY_SECRET_KEY"):
            async with open_storage(kind(data_dir=tmp_path, secret_key=other)):
                raise AssertionError
        async with open_storage(kind(data_dir=tmp_path, secret_key=GIVEN)) as shared:
            assert shared is opened


async def test_settings_and_secrets_are_found_by_their_classes_as_well(tmp_path, kind):
    config = kind(data_dir=tmp_path)
    async with open_storage(config) as opened:
        await opened.secrets.for_user("ann").store(SECRETS)
        await opened.settings.for_user("ann").store(Settings(language="de"))

        secrets = await SecretsStore.get_instance(config, "ann")
        settings = await SettingsStore.get_instance(config, "ann")

        assert await secrets.load() == SECRETS
        assert await settings.load() == Settings(language="de")
