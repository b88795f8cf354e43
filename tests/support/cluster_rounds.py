"""Rounds of SIGKILL for one of several servers behind a balancer, under load."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support.checker import Counts, DeliveryChecker
from tests.support.clients import RecordingClient, joined
from tests.support.cluster import LEASE_SECONDS, TAKE_OVER_SECONDS, cluster
from tests.support.crash_run import CrashFigures
from tests.support.postgres_rounds import Load
from tests.support.remote import Remote, as_stored, remote
from tests.support.seeds import choices
from tests.support.servers import ServerProcess
from tests.support.waiting import until
from tests.support.writers import GONE

CONVERSATIONS = 2
END = "the end"
PRODUCERS = 2
MORE = 20
"""Acknowledgements between two kills, at least."""


class PatientLoad(Load):
    """A load whose requests may fail with the server they reached; see Load."""

    async def run(self) -> None:
        """See Load. So few that the servers have time for everything else."""
        async with asyncio.TaskGroup() as group:
            for number in range(PRODUCERS):
                for conversation_id in self.histories:
                    group.create_task(self._produce(conversation_id, number))

    async def end(self, api: Remote) -> None:
        """Send a last message to each conversation."""
        for conversation_id, history in self.histories.items():
            history.sent(END, f"message {END}")
            history.acknowledged(END, await self._insist(api, conversation_id, END))

    async def _insist(self, api: Remote, conversation_id: str, key: str) -> int:
        while True:
            try:
                answer = await api.say(conversation_id, f"message {key}", key)
            except GONE:
                self.refused += 1
                continue
            if answer.status_code == 200:
                return int(answer.json()["id"])
            assert answer.status_code in {502, 503}, answer.text
            self.refused += 1


@dataclass(slots=True)
class ClusterFigures(CrashFigures):
    """Figures of a run of rounds."""

    rounds: int = 0
    acknowledged: int = 0
    refused: int = 0
    longest_seconds: float = 0.0
    """Seconds from a kill until another server answered for the agent, at most."""
    counts: Counts | None = None

    def summary(self) -> str:
        """See CrashFigures."""
        return (
            f"kills {self.rounds}, acknowledged {self.acknowledged}, tried again {self.refused},"
            f" taken over after {self.longest_seconds:.1f} s at most (lease {LEASE_SECONDS:g} s),"
            f" {self.counts}, 0 lost, 0 twice"
        )


async def run_cluster_rounds(folder: Path, seed: int, rounds: int) -> ClusterFigures:
    """Kill one of three servers so often, and compare. Raises AssertionError."""
    random = choices(seed)
    figures = ClusterFigures(seed, "postgres", counts=Counts())
    async with (
        cluster(folder, redis=True) as running,
        remote(running.url) as api,
        AsyncExitStack() as stack,
    ):
        load = PatientLoad(running.url, await api.create_many(CONVERSATIONS))
        clients = {
            one: await stack.enter_async_context(joined(running.url, one, reconnection=True))
            for one in load.histories
        }
        sending = asyncio.create_task(load.run())
        for _ in range(rounds):
            await load.more(MORE)
            victim, witness = random.sample(running.nodes, 2)
            took = await _kill(victim, witness)
            figures.longest_seconds = max(figures.longest_seconds, took)
            await load.more(MORE)
            await victim.start()
            figures.rounds += 1
        load.ended = True
        await sending
        await load.end(api)
        figures.refused = load.refused
        for conversation_id, history in load.histories.items():
            await _compare(api, clients[conversation_id], conversation_id, figures)
            history.check(await api.log(conversation_id))
            figures.acknowledged += history.acknowledgements
    assert figures.longest_seconds <= TAKE_OVER_SECONDS
    return figures


async def _kill(victim: ServerProcess, witness: ServerProcess) -> float:
    """Kill the server that runs a loop; return the seconds until another one answers in its place."""
    async with remote(victim.url) as api:
        conversation_id = await api.create("before")
    async with joined(witness.url, conversation_id) as client:
        await client.event(lambda event: event.get("message") == "You said: before")
        await victim.kill()
        began = time.monotonic()
        await client.say("after")
        await client.event(lambda event: event.get("message") == "You said: after")
        return time.monotonic() - began


async def _compare(
    api: Remote, client: RecordingClient, conversation_id: str, figures: ClusterFigures
) -> None:
    """The client has seen the whole log, in order, each event once, through all reconnections."""
    await client.event(lambda event: event.get("message") == f"You said: message {END}")
    assert isinstance(figures.counts, Counts)

    async def is_level() -> bool:
        log = await api.log(conversation_id)
        return bool(client.cursor == log[-1]["id"])

    await until(is_level)
    log = await api.log(conversation_id)
    DeliveryChecker(as_stored(log), figures.counts).check(client.connections)
