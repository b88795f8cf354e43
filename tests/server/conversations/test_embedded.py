"""A program that uses the conversations without a server ends by itself and loses nothing."""

import asyncio
import json
import subprocess
import sys
import textwrap

import pytest

import server
from events.batch import Appended
from server import ConversationManager, LoopSettings, ServerConfig
from server.app import create_app
from storage.conversations.base import ConversationStore
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ConversationNotFound
from storage.opening import open_storage
from storage.promise import Promise
from tests.support.waiting import WAIT_SECONDS

SETTINGS = LoopSettings()
PREAMBLE = """
import asyncio, sys
from server import ConversationManager, LoopSettings, ServerConfig
from storage import ConversationMetadata, ConversationStore

CONFIG = ServerConfig(data_dir=sys.argv[1], storage_kind=sys.argv[2])

async def begin():
    store = await ConversationStore.get_instance(CONFIG, "ann")
    await store.save_metadata(ConversationMetadata(conversation_id="c"))
    manager = ConversationManager.get_instance(CONFIG)
    await manager.join_conversation("c", "script", LoopSettings(), "ann")
    for number in range(20):
        data = {"action": "message", "args": {"content": f"/quiet {number}"}}
        accepted = await manager.send_event_to_conversation("c", data)
        print(accepted.id, flush=True)
"""
ENDINGS = {
    "returns": "asyncio.run(begin())",
    "raises": """
        async def main():
            await begin()
            raise RuntimeError("planned")
        asyncio.run(main())
        """,
    "exits": """
        async def main():
            await begin()
            sys.exit(3)
        asyncio.run(main())
        """,
    "leaves tasks": """
        async def main():
            tasks.append(asyncio.create_task(asyncio.Event().wait()))
            await begin()
        tasks = []
        asyncio.run(main())
        """,
    "leaves the loop open": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        """,
    "runs twice": """
        asyncio.run(begin())
        async def again():
            manager = ConversationManager.get_instance(CONFIG)
            await manager.join_conversation("c", "script", LoopSettings(), "ann")
        asyncio.run(again())
        """,
}
CODES = {"raises": 1, "exits": 3}


def config_of(folder, storage_kind="sqlite"):
    return ServerConfig(data_dir=folder / "data", storage_kind=storage_kind)


async def log_of(config, conversation_id="c"):
    """Every event in the log, read after the program has ended."""
    async with (
        create_app(config) as application,
        application.manager.attach(conversation_id, "ann") as conversation,
    ):
        stored = conversation.stream.search_events()
        return [json.loads(event.body) async for event in stored]


@pytest.mark.parametrize("storage_kind", ["sqlite", "local"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_script_ends_by_itself_and_what_was_acknowledged_is_there(
    ending, storage_kind, tmp_path
):
    script = tmp_path / "script.py"
    script.write_text(PREAMBLE + textwrap.dedent(ENDINGS[ending]))
    config = config_of(tmp_path, storage_kind)

    outcome = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(script), str(config.data_dir), storage_kind],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )

    assert outcome.returncode == CODES.get(ending, 0), outcome.stderr
    acknowledged = [int(line) for line in outcome.stdout.split()]
    assert len(acknowledged) == 20
    log = await log_of(config)
    assert [event["id"] for event in log] == list(range(len(log)))
    said = [event["id"] for event in log if event.get("action") == "message"]
    assert set(acknowledged) <= set(said)
    if ending != "leaves the loop open":
        assert log[-1]["extras"]["agent_state"] == "stopped"


async def test_one_data_directory_has_one_manager_and_one_storage(tmp_path):
    config = config_of(tmp_path)
    stores = await asyncio.gather(
        *(ConversationStore.get_instance(config, "ann") for _ in range(5))
    )
    await stores[0].save_metadata(ConversationMetadata(conversation_id="c"))
    first = ConversationManager.get_instance(config)
    second = ConversationManager.get_instance(ServerConfig(data_dir=config.data_dir, port=1))

    assert first is second
    joined = await asyncio.gather(
        *(first.join_conversation("c", f"n{n}", SETTINGS, "ann") for n in range(5))
    )
    assert len({id(one.info.event_store) for one in joined}) == 1
    assert set(await first.get_connections("ann")) == {f"n{n}" for n in range(5)}
    await first.shutdown()


async def test_a_manager_answers_before_it_has_begun_and_begins_again_after_it_ended(tmp_path):
    config = config_of(tmp_path)
    manager = ConversationManager.get_instance(config)
    assert not await manager.is_agent_loop_running("c")
    assert await manager.get_running_agent_loops("ann") == set()
    assert await manager.get_connections("ann") == {}
    assert await manager.get_agent_loop_info("ann") == []
    assert not await manager.close_session("c")
    await manager.disconnect_from_session("nobody")
    await manager.shutdown()

    store = await ConversationStore.get_instance(config, "ann")
    await store.save_metadata(ConversationMetadata(conversation_id="c"))
    for _ in range(2):
        async with manager:
            info = await manager.maybe_start_agent_loop("c", SETTINGS, "ann", "hello")
            assert info.conversation_id == "c"
            assert await manager.close_session("c")
        assert await manager.get_agent_loop_info("ann") == []
    async with manager:
        assert not await manager.delete_conversation("nobody", "ann")
        assert await manager.delete_conversation("c", "ann")
        with pytest.raises(ConversationNotFound):
            await manager.send_event_to_conversation("c", {})
        with pytest.raises(ConversationNotFound):
            await manager.send_to_event_stream("nobody", {})


async def test_what_a_deleted_conversation_has_used_stays_counted(tmp_path):
    config = config_of(tmp_path)
    store = await ConversationStore.get_instance(config, "ann")
    await store.save_metadata(ConversationMetadata(conversation_id="c"))
    async with ConversationManager.get_instance(config) as manager:
        async with manager.attach("c", "ann") as conversation:
            await conversation.say("hello", None, None)
        assert await manager.delete_conversation("c", "ann")

    async with open_storage(config.storage) as storage:
        usage = await storage.usage.load("c")
    assert usage is not None
    assert usage.user_id == "ann"
    assert sum(line.events for line in usage.lines) >= 1


async def test_every_call_reaches_the_manager(tmp_path):
    config = config_of(tmp_path)
    store = await ConversationStore.get_instance(config, "ann")
    await store.save_metadata(ConversationMetadata(conversation_id="c"))

    async with ConversationManager.get_instance(config) as manager:
        joined = await manager.join_conversation("c", "one", SETTINGS, "ann")
        message = {"action": "message", "args": {"content": "x"}}
        accepted = await manager.send_to_event_stream("one", message)
        async with manager.attach("c", "ann") as conversation:
            appended: Promise[Appended] = Promise()
            waits: list[bool] = []
            manager.take(conversation, message, appended.settle, lambda: waits.append(True))
            assert (await appended).id > accepted.id
            assert not waits
            assert joined.conversation is conversation
        assert await manager.is_agent_loop_running("c")
        assert await manager.get_running_agent_loops("ann") == {"c"}
        assert [info.conversation_id for info in await manager.get_agent_loop_info("ann")] == ["c"]
        await manager.disconnect_from_session("one")
        assert await manager.get_connections("ann") == {}


def test_the_package_names_what_it_offers():
    with pytest.raises(AttributeError, match="no attribute"):
        _ = server.nothing
    assert all(getattr(server, name) for name in server.__all__)
