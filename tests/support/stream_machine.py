"""The frame of the state machines over streams: an event loop, a store that can fail, figures."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from tests.support.backends import SHARED_LOGS, open_event_store
from tests.support.faulty_store import FaultyEventStore
from tests.support.quick_loop import LOOPS

BOUND_SECONDS = 3_000.0
"""Seconds on the machine's clock that one step may take."""


class StreamMachine(RuleBasedStateMachine):
    """A state machine whose steps run in an event loop of its own, over a store of that kind."""

    kind: ClassVar[str]
    figures: ClassVar[Counter[str]]
    store: FaultyEventStore

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=LOOPS[self.kind])
        self.folder = TemporaryDirectory()
        self.stack = AsyncExitStack()

    async def open_store(self) -> None:
        """Open the store, or open it again once the stack was closed."""
        opening = open_event_store(self.kind, Path(self.folder.name))
        self.store = FaultyEventStore(await self.stack.enter_async_context(opening))

    async def open_other_store(self) -> FaultyEventStore:
        """Another process's store of the same logs, which fails as the first; itself if not shared."""
        if self.kind not in SHARED_LOGS:
            return self.store
        opening = open_event_store(self.kind, Path(self.folder.name))
        other = FaultyEventStore(await self.stack.enter_async_context(opening))
        other.script = self.store.script
        return other

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end."""

        async def bounded() -> Any:
            async with asyncio.timeout(BOUND_SECONDS):
                return await work

        return self.runner.run(bounded())

    def teardown(self) -> None:
        """Close the store."""
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()
