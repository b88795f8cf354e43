"""The frame of runs that cut servers short: figures that name the seed, and a server without limits."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import postgres_settings
from tests.support.servers import ServerProcess, environment_of, server_process


@dataclass(slots=True)
class CrashFigures(ABC):
    """Figures of a run, which `summary` tells; the seed makes it again."""

    seed: int
    storage: str

    def __str__(self) -> str:
        return f"{self.storage}, seed {self.seed}: {self.summary()}"

    @abstractmethod
    def summary(self) -> str:
        """Return the figures as text."""


@asynccontextmanager
async def unlimited_server(
    data_dir: Path, storage: str, variables: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[ServerProcess]:
    """A server process that lets every conversation of a run have a loop, for as long as it takes.

    Its environment has these variables besides the settings.
    """
    async with AsyncExitStack() as stack:
        if storage == "postgres":
            settings |= await stack.enter_async_context(postgres_settings(data_dir))
        environment = environment_of(
            storage=storage,
            max_concurrent_conversations=1_000,
            max_iterations=1_000_000,
            **settings,
        )
        environment |= variables or {}
        yield await stack.enter_async_context(server_process(data_dir, environment=environment))
