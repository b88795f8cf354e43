"""The key of a storage: made at first need, kept for its owner only, never replaced."""

import asyncio
import stat

import pytest
from pydantic import SecretStr

from storage.errors import Damaged, Unavailable, WrongKey
from storage.sealing.key import KEY_NAME
from storage.users.secrets import CustomSecret, Secrets
from storage.users.settings import Settings
from tests.support.user_backends import DURABLE_USER_STORES, open_user_stores

VALUE = "a planted secret value"
SECRETS = Secrets(custom_secrets={"TOKEN": CustomSecret(value=SecretStr(VALUE))})
SETTINGS = Settings(language="de", llm_api_key=SecretStr(VALUE))
GIVEN = "a long text that somebody chose"

pytestmark = pytest.mark.parametrize("kind", DURABLE_USER_STORES)


async def fill(kind, folder, given=None):
    async with open_user_stores(kind, folder, given) as opened:
        await opened.secrets.for_user("ann").store(SECRETS)
        await opened.settings.for_user("ann").store(SETTINGS)


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


async def assert_refused(opened):
    for store, new in (
        (opened.secrets.for_user("ann"), Secrets()),
        (opened.settings.for_user("ann"), Settings()),
        (opened.secrets.for_user("new"), SECRETS),
    ):
        with pytest.raises(WrongKey, match="PARLEY_SECRET_KEY"):
            await store.store(new)
        with pytest.raises(WrongKey, match="PARLEY_SECRET_KEY"):
            await store.update(lambda _, one=new: one)
    with pytest.raises(WrongKey):
        await opened.secrets.for_user("ann").load()
    with pytest.raises(WrongKey):
        await opened.settings.for_user("ann").load()


async def test_reading_makes_no_key(kind, tmp_path):
    async with open_user_stores(kind, tmp_path) as opened:
        assert await opened.secrets.for_user("ann").load() == Secrets()
        assert await opened.settings.for_user("ann").load() is None

    assert not (tmp_path / KEY_NAME).exists()


async def test_the_first_write_makes_a_key_that_only_its_owner_can_read(kind, tmp_path):
    await fill(kind, tmp_path)

    path = tmp_path / KEY_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert list(tmp_path.glob(".secret*")) == []


async def test_first_writes_at_the_same_time_make_one_key(kind, tmp_path):
    async with open_user_stores(kind, tmp_path) as opened:
        users = [f"u{number}" for number in range(20)]
        await asyncio.gather(*(opened.secrets.for_user(user).store(SECRETS) for user in users))

    async with open_user_stores(kind, tmp_path) as opened:
        for user in users:
            assert await opened.secrets.for_user(user).load() == SECRETS


async def test_a_given_key_is_used_and_written_nowhere(kind, tmp_path):
    await fill(kind, tmp_path, GIVEN)

    assert not (tmp_path / KEY_NAME).exists()
    async with open_user_stores(kind, tmp_path, GIVEN) as opened:
        assert await opened.secrets.for_user("ann").load() == SECRETS
    assert not any(GIVEN.encode() in content for content in contents(tmp_path).values())


async def test_another_given_key_is_refused_and_nothing_is_overwritten(kind, tmp_path):
    await fill(kind, tmp_path, GIVEN)
    before = contents(tmp_path)

    async with open_user_stores(kind, tmp_path, "another long text") as opened:
        await assert_refused(opened)

    assert contents(tmp_path) == before


async def test_a_lost_key_file_is_not_made_anew_over_what_it_sealed(kind, tmp_path):
    await fill(kind, tmp_path)
    (tmp_path / KEY_NAME).unlink()

    async with open_user_stores(kind, tmp_path) as opened:
        await assert_refused(opened)

    assert not (tmp_path / KEY_NAME).exists()


@pytest.mark.parametrize("content", ["", "00" * 32, "not hex", "00" * 31])
async def test_another_key_file_is_refused(kind, tmp_path, content):
    await fill(kind, tmp_path)
    (tmp_path / KEY_NAME).write_text(content)

    async with open_user_stores(kind, tmp_path) as opened:
        with pytest.raises(WrongKey):
            await opened.secrets.for_user("ann").store(SECRETS)


async def test_a_key_file_that_was_made_before_a_crash_is_used(kind, tmp_path):
    (tmp_path / KEY_NAME).write_text("ab" * 32 + "\n")

    await fill(kind, tmp_path)

    assert (tmp_path / KEY_NAME).read_text() == "ab" * 32 + "\n"


async def test_a_folder_that_takes_no_key_file_is_unavailable(kind, tmp_path):
    async with open_user_stores(kind, tmp_path) as opened:
        (tmp_path / KEY_NAME).mkdir()
        with pytest.raises(Unavailable, match=KEY_NAME):
            await opened.secrets.for_user("ann").store(SECRETS)


async def test_what_was_sealed_for_one_user_cannot_be_given_to_another(kind, tmp_path):
    async with open_user_stores(kind, tmp_path) as opened:
        ann, bob = opened.secrets.for_user("ann"), opened.secrets.for_user("bob")
        await ann.store(SECRETS)
        await bob.store(SECRETS)
        # As one who can write to the medium could.
        record = await opened.records.read("ann", "secrets")
        assert record is not None
        await opened.records.write("bob", "secrets", record)

        with pytest.raises(Damaged, match="altered or moved"):
            await bob.load()


async def test_nothing_stored_shows_a_value_in_any_spelling(kind, tmp_path):
    await fill(kind, tmp_path)

    for content in contents(tmp_path).values():
        assert VALUE.encode() not in content
        assert VALUE.encode().hex() not in content.decode("latin-1").lower()
