"""The conformance suite of a SettingsStore, as tests of pytest and pytest-asyncio."""

import asyncio

import pytest
from pydantic import SecretStr

from storage.conformance.opened import OpenedSuite, StoresSuite
from storage.users.base import SettingsStores
from storage.users.mcp import McpConfig
from storage.users.settings import Settings

TOOLS = {
    "sse_servers": [{"url": "https://tools.example.org/sse", "api_key": "sse key"}],
    "stdio_servers": [{"name": "t", "command": "run", "args": ["-v"], "env": {"KEY": "env value"}}],
    "shttp_servers": [{"url": "https://tools.example.org", "api_key": "http key", "timeout": 5}],
}
FULL = Settings(
    language="de",
    max_iterations=7,
    max_budget_per_task=1.5,
    turn_seconds=90.5,
    confirmation_mode=False,
    llm_model="acme/large",
    llm_api_key=SecretStr("llm key"),
    search_api_key=SecretStr("search key"),
    sandbox_api_key=SecretStr("sandbox key"),
    mcp_config=McpConfig.model_validate(TOOLS),
    git_user_name="Ünï",
    v1_enabled=True,
)


class SettingsStoreSuite(StoresSuite[SettingsStores]):
    """The contract of a SettingsStore; a subclass says how a medium is opened."""

    async def test_a_user_who_has_stored_nothing_has_no_settings(self, store):
        assert await store.load() is None

    @pytest.mark.parametrize("settings", [Settings(), FULL], ids=["empty", "full"])
    async def test_what_is_stored_is_what_is_loaded(self, store, settings):
        await store.store(settings)

        assert await store.load() == settings

    async def test_storing_replaces_all(self, store):
        await store.store(FULL)
        await store.store(Settings(language="en"))

        assert await store.load() == Settings(language="en")

    async def test_everybody_has_his_own_and_nobody_has_nobody_s(self, stores):
        owners = ("ann", "bob", "", "nobody", None)
        for owner in owners:
            await stores.for_user(owner).store(Settings(email=f"<{owner}>"))

        for owner in owners:
            assert await stores.for_user(owner).load() == Settings(email=f"<{owner}>")
        assert await stores.for_user("cy").load() is None

    async def test_an_update_is_given_none_when_nothing_is_stored(self, store):
        seen = []

        def change(settings):
            seen.append(settings)
            return Settings(language="en")

        assert await store.update(change) == Settings(language="en")
        assert seen == [None]
        assert await store.load() == Settings(language="en")

    async def test_updates_at_the_same_time_do_not_undo_each_other(self, stores):
        changes = [Settings(language="de"), Settings(email="a@b"), Settings(max_iterations=3)]
        updates = (
            stores.for_user("ann").update(lambda old, new=one: (old or Settings()).merged(new))
            for one in changes
        )
        await asyncio.gather(*updates)

        assert await stores.for_user("ann").load() == Settings(
            language="de", email="a@b", max_iterations=3
        )

    async def test_what_a_change_raises_is_passed_on_and_nothing_is_written(self, store):
        await store.store(FULL)

        with pytest.raises(ZeroDivisionError):
            await store.update(lambda _: 1 / 0)

        assert await store.load() == FULL

    async def test_no_repr_shows_a_key(self, store):
        await store.store(FULL)

        shown = repr(await store.load())

        assert " key'" not in shown
        assert "env value" not in shown


class SettingsStoreRestartSuite(OpenedSuite[SettingsStores]):
    """The contract of a SettingsStore whose settings outlast the process."""

    async def test_settings_outlast_the_process(self, tmp_path):
        async with self.open(tmp_path) as stores:
            await stores.for_user("ann").store(FULL)

        async with self.open(tmp_path) as stores:
            assert await stores.for_user("ann").load() == FULL
