"""The conformance suite of a SecretsStore, as tests of pytest and pytest-asyncio."""

import asyncio

import pytest
from pydantic import SecretStr

from storage.conformance.opened import OpenedSuite, StoresSuite
from storage.conversations.metadata import ProviderType
from storage.errors import BadValue, SecretExists, SecretNotFound
from storage.users.base import SecretsStores
from storage.users.secrets import MAX_SECRETS, CustomSecret, ProviderToken, Secrets


def secret(value: str, description: str = "") -> CustomSecret:
    return CustomSecret(value=SecretStr(value), description=description)


def token(value: str, host: str | None = None) -> ProviderToken:
    return ProviderToken(token=SecretStr(value), host=host)


FULL = Secrets(
    custom_secrets={
        "ONE": secret("first value", "for a\ntest"),
        "b-2.x": secret("ünïcode 🔑 \x00"),
    },
    provider_tokens={ProviderType.GITHUB: token("ghp_1", "git.example.org")},
)


class SecretsStoreSuite(StoresSuite[SecretsStores]):
    """The contract of a SecretsStore; a subclass says how a medium is opened."""

    async def test_a_user_without_secrets_has_none(self, store):
        assert await store.load() == Secrets()

    async def test_what_is_stored_is_what_is_loaded(self, store):
        await store.store(FULL)

        assert await store.load() == FULL

    async def test_storing_replaces_all(self, store):
        await store.store(FULL)
        await store.store(Secrets())

        assert await store.load() == Secrets()

    async def test_everybody_has_his_own_and_nobody_has_nobody_s(self, stores):
        owners = ("ann", "bob", "", "nobody", None)
        for owner in owners:
            await stores.for_user(owner).store(
                Secrets(custom_secrets={"WHO": secret(f"<{owner}>")})
            )

        for owner in owners:
            loaded = await stores.for_user(owner).load()
            assert loaded.environment() == {"WHO": f"<{owner}>"}
        assert await stores.for_user("cy").load() == Secrets()

    async def test_an_update_gives_what_it_made_and_keeps_it(self, store):
        await store.store(FULL)

        changed = await store.update(lambda secrets: secrets.added("TWO", secret("2222")))

        assert changed.custom_secrets["TWO"].value.get_secret_value() == "2222"
        assert await store.load() == changed
        assert changed.removed("TWO") == FULL

    async def test_updates_at_the_same_time_do_not_undo_each_other(self, stores):
        def adding(name):
            return lambda secrets: secrets.added(name, secret(name * 2))

        names = [f"NAME_{number}" for number in range(20)]
        await asyncio.gather(*(stores.for_user("ann").update(adding(name)) for name in names))

        assert sorted((await stores.for_user("ann").load()).custom_secrets) == sorted(names)

    async def test_what_a_change_raises_is_passed_on_and_nothing_is_written(self, store):
        await store.store(FULL)

        with pytest.raises(SecretExists, match="Secret ONE already exists"):
            await store.update(lambda secrets: secrets.added("ONE", secret("another")))
        with pytest.raises(SecretNotFound, match="Secret with ID NONE not found"):
            await store.update(lambda secrets: secrets.removed("NONE"))
        with pytest.raises(ZeroDivisionError):
            await store.update(lambda _: 1 / 0)

        assert await store.load() == FULL

    async def test_a_secret_gets_another_name_and_keeps_its_value(self, store):
        await store.store(FULL)

        await store.update(lambda secrets: secrets.renamed("ONE", "FIRST", None))
        await store.update(lambda secrets: secrets.renamed("FIRST", "FIRST", "described"))

        renamed = (await store.load()).custom_secrets
        assert list(renamed) == ["FIRST", "b-2.x"]
        assert renamed["FIRST"] == secret("first value", "described")

    async def test_a_user_may_have_so_many_secrets_and_no_more(self, store):
        most = {f"N{number}": secret("value") for number in range(MAX_SECRETS)}
        await store.store(Secrets(custom_secrets=most))

        with pytest.raises(BadValue, match=str(MAX_SECRETS)):
            await store.update(lambda secrets: secrets.added("MORE", secret("value")))

        assert len((await store.load()).custom_secrets) == MAX_SECRETS

    async def test_a_long_value_is_kept_whole(self, store):
        long = "x\n" * 32 * 1024
        await store.update(lambda secrets: secrets.added("LONG", secret(long)))

        assert (await store.load()).environment()["LONG"] == long

    async def test_no_repr_shows_a_value(self, store):
        await store.store(FULL)

        shown = repr(await store.load()) + repr(store)

        assert "first value" not in shown
        assert "ghp_1" not in shown


class SecretsStoreRestartSuite(OpenedSuite[SecretsStores]):
    """The contract of a SecretsStore whose secrets outlast the process."""

    async def test_secrets_outlast_the_process(self, tmp_path):
        async with self.open(tmp_path) as stores:
            await stores.for_user("ann").store(FULL)
            await stores.for_user(None).store(Secrets())

        async with self.open(tmp_path) as stores:
            assert await stores.for_user("ann").load() == FULL
            assert await stores.for_user(None).load() == Secrets()
