"""Our server as it is composed for use, with a producer inside and without agent loops."""

import argparse
import asyncio
import contextlib
import gc
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import psutil
import uvloop

import events.batch
import storage.database.sqlite
from benchmarks.control import StallWatch, serve_control
from benchmarks.payload import text
from benchmarks.writers import TOKENS, Writers
from events.actions import MessageAction
from events.event import EventSource
from events.stream import EventStream
from server.agent.states import LoopSettings
from server.app import Application, create_app
from server.config.settings import ServerConfig
from server.conversations.conversation import ServerConversation
from server.conversations.local import LocalConversations
from server.conversations.loop_scheduler import LoopScheduler
from server.conversations.manager import ManagerDependencies
from server.process.runner import GC_THRESHOLDS, Runner, listen, uvicorn_config
from storage.conversations.metadata import ConversationMetadata

AT_ONCE = 2_000
"""Appends that wait at one time while a log is filled."""


class NoLoops(LoopScheduler):
    """Starts no loop: agents would add events of their own to every message."""

    def ensure(
        self, conversation: ServerConversation, settings: LoopSettings | None, *, has_work: bool
    ) -> bool:
        """Start nothing; nobody waits for a slot."""
        return False


class ServerSubject:
    """Drives one composed server from inside its process."""

    def __init__(self, application: Application) -> None:
        manager: Any = application.manager
        # Private parts: nothing public takes the agents away.
        parts: ManagerDependencies = manager._parts  # noqa: SLF001
        local: LocalConversations = manager._local  # noqa: SLF001
        self._open = local.registry
        self._records = parts.conversation_stores
        local.loops = NoLoops(
            self._open,
            limit=parts.max_concurrent_conversations,
            close_delay_seconds=parts.close_delay_seconds,
            default_settings=parts.default_settings,
            refine=parts.users.loop_settings,
        )
        self._traffic = application.traffic
        self._held: dict[str, ServerConversation] = {}
        self._target: EventStream | None = None
        self._watch = StallWatch()
        self._writers = Writers()
        self._process = psutil.Process()

    def credit(self, count: int) -> None:
        """Append to the conversation that `produce` named."""
        if self._target is not None:
            for _ in range(count):
                _ = self._target.enqueue(MessageAction(content=text()), EventSource.AGENT)

    async def do_new(self, count: int = 1) -> list[str]:
        """Make and open conversations; their ids."""
        return list(await asyncio.gather(*(self._new() for _ in range(count))))

    async def do_store(self, count: int) -> list[str]:
        """Make conversations without opening them; their ids."""
        return list(await asyncio.gather(*(self._store() for _ in range(count))))

    async def do_hold(self, conversations: list[str]) -> None:
        """Open conversations that are stored, and keep nothing of them here."""
        await asyncio.gather(*(self._open.acquire(name, None) for name in conversations))

    async def do_open(self, conversation: str) -> int:
        """Open a conversation that is stored; the id its next event gets."""
        return (await self._hold(conversation)).stream.next_id

    async def do_produce(self, conversation: str) -> int:
        """Let credits go to this conversation; the id its next event gets."""
        self._target = self._held[conversation].stream
        return self._target.next_id

    async def do_fill(self, conversation: str, count: int) -> int:
        """Append events without a receiver in mind; the next id."""
        stream = self._held[conversation].stream
        while count > 0:
            now = min(count, AT_ONCE)
            appends = [
                stream.enqueue(MessageAction(content=text()), EventSource.AGENT) for _ in range(now)
            ]
            await asyncio.wait(appends)
            count -= now
        return stream.next_id

    async def do_next_ids(self, conversations: list[str]) -> list[int]:
        """The committed length of each log."""
        return [self._held[conversation].stream.next_id for conversation in conversations]

    async def do_figures(self) -> dict[str, int]:
        """Resident bytes, threads, tasks; how often writing was paused, connections aborted."""
        gc.collect()
        return {
            "rss": self._process.memory_info().rss,
            "threads": self._process.num_threads(),
            "tasks": len(asyncio.all_tasks()),
            "paused": self._traffic.paused,
            "aborted": self._traffic.aborted,
        }

    async def do_write(
        self,
        conversations: list[str],
        how: str,
        *,
        tokens: int = TOKENS,
        secrets: int = 0,
        each_token: bool = False,
    ) -> None:
        """Let an agent write into each of the conversations; see benchmarks.writers."""
        streams = [self._held[name].stream for name in conversations]
        self._writers.start(streams, how, tokens=tokens, secrets=secrets, each_token=each_token)

    async def do_hush(self) -> list[int]:
        """End the messages under way; the events that were appended to each conversation."""
        return await self._writers.stop()

    async def do_watch(self) -> None:
        """Begin to watch the loop for stalls."""
        self._watch.start()

    async def do_stall(self) -> dict[str, float]:
        """The longest stall since `watch`, in seconds."""
        return self._watch.stop()

    async def _new(self) -> str:
        conversation_id = await self._store()
        await self._hold(conversation_id)
        return conversation_id

    async def _store(self) -> str:
        conversation_id = uuid.uuid4().hex
        record = ConversationMetadata(conversation_id=conversation_id, title="A benchmark")
        await self._records.for_user(None).save_metadata(record)
        return conversation_id

    async def _hold(self, conversation_id: str) -> ServerConversation:
        # Without a context manager for each, whose memory would be counted as the conversation's.
        conversation: ServerConversation = await self._open.acquire(conversation_id, None)
        self._held[conversation_id] = conversation
        return conversation


def one_event_per_commit() -> None:
    """Take group commit away: the yardstick of what it gains."""
    for module, name in ((storage.database.sqlite, "GROUP_LIMIT"), (events.batch, "BATCH_EVENTS")):
        if not isinstance(getattr(module, name, None), int):
            raise TypeError(f"{module.__name__} has no {name} any more")
        setattr(module, name, 1)


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    config = ServerConfig(
        port=0,
        storage_kind=arguments.storage,
        data_dir=arguments.data_dir,
        log_level="error",
        full_text_search=not arguments.without_search,
    )
    listener = listen(config.host, 0)
    async with create_app(config) as application:
        uvicorn_settings = uvicorn_config(config, application)
        runner = Runner(uvicorn_settings)
        subject = ServerSubject(application)
        loop = asyncio.get_running_loop()
        serving = loop.create_task(runner.serve(sockets=[listener]))
        await runner.up.wait()
        control = await serve_control(subject)
        gc.set_threshold(*GC_THRESHOLDS)
        gc.collect()
        gc.freeze()
        print(listener.getsockname()[1], control, flush=True)
        _discard_output()
        ended = asyncio.Event()
        loop.add_reader(0, lambda: None if os.read(0, 1) else ended.set())
        await ended.wait()
        loop.remove_reader(0)
        application.stop_intake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await application.handlers.drop_all()
        runner.end()
        await serving


def _discard_output() -> None:
    # The access log: nobody reads the pipe any more, and a full one would stop the server.
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", default="memory", choices=("memory", "sqlite"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--one-event-per-commit", action="store_true")
    parser.add_argument("--without-search", action="store_true")
    arguments = parser.parse_args(sys.argv[1:])
    if arguments.one_event_per_commit:
        one_event_per_commit()
    uvloop.run(serve(arguments))


if __name__ == "__main__":
    main()
