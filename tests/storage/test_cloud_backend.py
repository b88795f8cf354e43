"""The storage in a bucket as a whole: what it refuses to start on, and what a check of it finds."""

import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from events.conformance.records import append, records
from events.stores.opening import open_event_store, storage_problems
from storage.backends import backend_of
from storage.config import CloudStorage
from storage.conversations.metadata import ConversationMetadata
from storage.errors import (
    BucketInUse,
    NotPermitted,
    OutcomeUnknown,
    StorageError,
    UnfitMedium,
    WrongKey,
)
from storage.files.cloud import MARK
from storage.files.objects import Objects, check_conditions, open_bucket
from storage.opening import open_storage
from storage.users.settings import Settings
from tests.support.s3 import (
    OPEN_BUCKET,
    SEALING_KEY,
    SECRET_KEY,
    objects_of,
    options_of,
    s3_server,
    storage_of,
)
from tests.support.s3_proxy import Fault, s3_proxy

ROOT = Path(__file__).parents[2]


async def fill(config):
    """Keep a conversation with two events and a user's settings."""
    async with open_storage(config) as storage, AsyncExitStack() as stack:
        events = await open_event_store(storage, stack)
        record = ConversationMetadata(conversation_id="c")
        await storage.conversations.for_user(None).save_metadata(record)
        await append(events, "c", records(0, 2))
        await storage.settings.for_user(None).store(Settings(email="one@example.org"))


async def test_what_was_stored_is_there_after_a_restart_and_found_without_a_problem(tmp_path):
    config = storage_of(tmp_path)
    assert backend_of(config).describe().startswith("no data in s3://")

    await fill(config)

    async with open_storage(config) as storage, AsyncExitStack() as stack:
        events = await open_event_store(storage, stack)
        assert len(await events.read("c", 0, 10)) == 2
        assert await storage.settings.for_user(None).load() == Settings(email="one@example.org")
    assert storage_problems(config) == []
    assert backend_of(config).describe().startswith("ok, 1 records of conversations in s3://")


@pytest.mark.parametrize("key", ["records/c", "logs/c/tail/0000000000"])
async def test_a_check_names_what_is_damaged(key, tmp_path):
    config = storage_of(tmp_path)
    await fill(config)
    objects = objects_of(tmp_path)
    found = await objects.get(key + MARK)
    flipped = bytes([*found.body[:-40], found.body[-40] ^ 1, *found.body[-39:]])

    await objects.put(key + MARK, flipped, found.e_tag)

    problems = storage_problems(config)
    assert len(problems) == 1
    assert "c" in problems[0]


async def test_a_bucket_in_use_is_refused_to_another_opening(tmp_path):
    config = storage_of(tmp_path, lease_seconds=6.0)
    async with open_storage(config), AsyncExitStack() as stack:
        with pytest.raises(BucketInUse):
            await backend_of(config).open(stack)


async def test_another_key_is_refused_in_words(tmp_path):
    await fill(storage_of(tmp_path))
    other = storage_of(tmp_path).model_copy(update={"secret_key": SecretStr("another key of them")})

    with pytest.raises(WrongKey, match=r"PARLEY_SECRET_KEY must be as it was$"):
        async with open_storage(other):
            pass


async def test_a_service_that_ignores_conditions_is_refused_and_nothing_is_left(tmp_path):
    async with s3_proxy(s3_server().port) as proxy:
        options: dict[str, str | bool] = {"skip_signature": True}
        options["endpoint"] = f"http://127.0.0.1:{proxy.port}"
        url = f"s3://{OPEN_BUCKET}/{tmp_path.name}"
        config = storage_of(tmp_path).model_copy(
            update={"url": url, "options": SecretStr(json.dumps(options))}
        )

        for stripped, told in ((b"if-none-match:", "creates"), (b"if-match:", "stale tag")):
            proxy.stripped = stripped
            async with AsyncExitStack() as stack:
                # A service under load may answer 500 to the probe, which is tried again then.
                with pytest.raises(UnfitMedium, match=f"ignores conditions: it .*{told}"):
                    await backend_of(config).open(stack)
        assert await Objects(open_bucket(url, options, "lease")).keys("") == []


@pytest.mark.parametrize("fault", [Fault.FAILURE, Fault.BUSY, Fault.LOST, Fault.UNANSWERED])
async def test_a_start_asks_a_service_again_that_fails_at_first(fault, tmp_path):
    async with s3_proxy(s3_server().port) as proxy:
        proxy.script(fault, fault)

        async with open_storage(storage_of(tmp_path, proxy.port)):
            assert [met for _, met in proxy.seen].count(fault) == 2


async def test_a_service_that_answers_500_only_is_told_with_its_url(tmp_path):
    async with s3_proxy(s3_server().port) as proxy:
        proxy.choose = lambda _: Fault.FAILURE
        config = storage_of(tmp_path, proxy.port)

        with pytest.raises(
            StorageError, match=f"cannot use {config.url}: the object store answered 500"
        ):
            async with open_storage(config):
                pass


async def test_a_probe_whose_first_write_is_not_answered_leaves_nothing(tmp_path):
    async with s3_proxy(s3_server().port) as proxy:
        objects = objects_of(tmp_path, port=proxy.port, attempt_seconds=1_000)
        proxy.script(Fault.UNANSWERED)

        with pytest.raises(OutcomeUnknown):
            await check_conditions(objects)

        assert await objects.keys("") == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"endpoint": "http://127.0.0.1:9"}, "did not answer"),
        ({"access_key_id": "another"}, "refuses these credentials"),
    ],
)
async def test_a_service_that_cannot_be_used_is_told_with_its_url(changed, told, tmp_path):
    options = SecretStr(json.dumps(options_of(s3_server()) | changed))
    config = storage_of(tmp_path).model_copy(update={"options": options})

    with pytest.raises(StorageError, match=f"cannot use {config.url}: the object store {told}"):
        async with open_storage(config):
            pass
    assert told in storage_problems(config)[0]


def test_credentials_stand_in_no_text_of_a_configuration(tmp_path):
    config = storage_of(tmp_path)

    shown = f"{config} {config!r} {backend_of(config).identity!r}"
    assert SECRET_KEY not in shown
    assert SEALING_KEY not in shown


def test_options_that_are_no_object_are_refused_without_being_quoted(tmp_path):
    config = CloudStorage(
        url="s3://bucket", options=SecretStr("a-secret"), secret_key=SecretStr(SEALING_KEY)
    )

    with pytest.raises(NotPermitted, match="no JSON object") as refused:
        backend_of(config).check()
    assert "a-secret" not in str(refused.value)


def run(script: str, **variables: str) -> str:
    """Run a script with the project's modules; what it printed."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_without_the_extra_the_way_to_it_is_told():
    output = run("""
import sys
sys.modules["obstore"] = None
from pydantic import SecretStr
from events.stores.opening import storage_problems
from storage.config import CloudStorage
print(storage_problems(CloudStorage(url="s3://bucket", secret_key=SecretStr("x" * 20))))
""")

    assert "needs the extra `cloud`: run scripts/setup-venv cloud" in output


@pytest.mark.parametrize("kind", ["sqlite", "local", "memory"])
def test_a_server_on_another_storage_loads_nothing_of_object_stores(kind, tmp_path):
    output = run(f"""
import asyncio, sys
from server.app import create_app
from server.config.settings import ServerConfig

async def main():
    async with create_app(ServerConfig(storage_kind="{kind}", data_dir="{tmp_path}")):
        print([name for name in sys.modules if "obstore" in name or name == "storage.files.cloud"])

asyncio.run(main())
""")

    assert output == "[]\n"
