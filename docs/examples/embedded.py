"""Conversations without a server: records, a manager and an agent inside one script.

Run it with the directory to keep them in: python embedded.py DIRECTORY
"""

import asyncio
import json
import sys

from server import ConversationManager, LoopSettings
from server.config.settings import ServerConfig
from storage import ConversationMetadata, ConversationStore, ProviderType


async def main(data_dir: str) -> None:
    config = ServerConfig(data_dir=data_dir)
    user_id = "user_456"

    store = await ConversationStore.get_instance(config, user_id)
    await store.save_metadata(
        ConversationMetadata(
            conversation_id="conv_123",
            user_id=user_id,
            title="Code Review Task",
            selected_repository="owner/repo",
            git_provider=ProviderType.GITHUB,
        )
    )
    metadata = await store.get_metadata("conv_123")
    ok = await store.validate_metadata("conv_123", user_id)
    results = await store.search(limit=10)
    print(f"{metadata.title}: valid {ok}, {len(results.results)} listed")

    manager = ConversationManager.get_instance(config)
    settings = LoopSettings(max_iterations=50)
    joined = await manager.join_conversation(
        sid="conv_123", connection_id="this script", settings=settings, user_id=user_id
    )
    await manager.maybe_start_agent_loop(
        sid="conv_123", settings=settings, user_id=user_id, initial_user_msg="Hello"
    )
    event_data = {"action": "message", "args": {"content": "/run echo done"}}
    accepted = await manager.send_event_to_conversation(sid="conv_123", data=event_data)

    # Every event of the log: those that are there, then those that come.
    async for stored in joined.info.event_store.follow(after=-1):
        event = json.loads(stored.body)
        print(f"{event['id']} {event['source']}: {event['message']}")
        if event.get("observation") == "run" and event["id"] > accepted.id:
            break


asyncio.run(main(sys.argv[1]))
